#include "coordinator/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int read_text(struct access_keys *keys, const char *text, mode_t mode, struct err *err)
{
    char path[] = "access_keys_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    int rc = access_read(keys, path, err);
    unlink(path);
    return rc;
}

static void test_file(void **state)
{
    struct access_keys keys = {0};
    struct err err = {0};
    assert_int_equal(read_text(&keys, "# ours\n\n  alpha \r\nbeta", 0600, &err), 0);
    assert_int_equal(keys.n, 2);
    assert_string_equal(keys.keys[0], "alpha");
    assert_string_equal(keys.keys[1], "beta");
    assert_false(keys.is_exposed);
    access_clear(&keys);
    assert_int_equal(read_text(&keys, "alpha\n", 0644, &err), 0);
    assert_true(keys.is_exposed);
    access_clear(&keys);
}

static void test_tenants(void **state)
{
    struct access_keys keys = {0};
    struct err err = {0};
    assert_int_equal(read_text(&keys, "a team\nb\n c\tteam  2.5 \nd other 1e2\ne", 0600, &err), 0);
    const int tenants[] = {0, 1, 0, 2, 3};
    const char *const names[] = {"team", "key-2", "other", "key-5"};
    const double weights[] = {2.5, 1, 100, 1};
    assert_int_equal(keys.n, 5);
    assert_int_equal(keys.n_tenants, 4);
    assert_memory_equal(keys.tenants, tenants, sizeof tenants);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(keys.names[i], names[i]);
        assert_true(keys.weights[i] == weights[i]);
    }
    access_clear(&keys);
}

static void test_bad_files(void **state)
{
    struct access_keys keys = {0};
    struct err err = {0};
    char line[700];
    assert_int_equal(read_text(&keys, "# nothing\n", 0600, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "no key"));
    static const char *const bad[] = {"a\nb\x01\n",   "a\nb c 0\n",  "a\nb c -1\n",
                                      "a\nb c nan\n", "a\nb c 1x\n", "a\nb c 2000\n",
                                      "a\nb c 1 d\n", "a\na\n",      "a x 1\nb x 2\n",
                                      "a\nb key-1\n", "a\nb c\xc3\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_text(&keys, bad[i], 0600, &err), ERR_CONFIG);
        assert_non_null(strstr(err.text, ":2:"));
    }
    memset(line, 'k', sizeof line);
    line[sizeof line - 1] = '\0';
    assert_int_equal(read_text(&keys, line, 0600, &err), ERR_CONFIG);
    assert_int_equal(access_read(&keys, "no/such/file", &err), ERR_IO);
    assert_int_equal(keys.n, 0);
}

static void test_keys(void **state)
{
    static const char *const keys[] = {"alpha", "beta"};
    assert_int_equal(access_find(keys, 2, "alpha"), 0);
    assert_int_equal(access_find(keys, 2, "beta"), 1);
    assert_int_equal(access_find(keys, 2, "alph"), 2);
    assert_int_equal(access_find(keys, 2, "alphaa"), 2);
    assert_int_equal(access_find(keys, 2, "alphaalpha"), 2);
    assert_int_equal(access_find(keys, 2, ""), 2);
    assert_int_equal(access_find(keys, 2, NULL), 2);
    assert_int_equal(access_find(keys, 0, "alpha"), 0);
    assert_string_equal(access_bearer("Bearer  x y"), "x y");
    assert_null(access_bearer("Basic x"));
    assert_null(access_bearer(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
