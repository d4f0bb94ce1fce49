/* Files out of a wheel: whole ones, and every way to damage one. The archive was made by Python's
 * zipfile: p/__init__.py, p/data/part01.bin (30 times "0123456789", deflated),
 * p/data/stored.bin (bytes 0 to 99, stored). */
#include "cli/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned char archive[2048];
static size_t archive_bytes;

static int setup(void **state)
{
    FILE *in = fopen(TEST_DATA "/wheel/small.whl", "rb");
    assert_non_null(in);
    archive_bytes = fread(archive, 1, sizeof archive, in);
    fclose(in);
    assert_true(archive_bytes > 400 && archive_bytes < sizeof archive);
    return 0;
}

/* Writes bytes as a file and extracts a member of it; the output's length, or the error code. */
static int extract(const unsigned char *bytes, size_t length, const char *member, int64_t limit,
                   unsigned char *ret_data, size_t size, struct err *err)
{
    char path[] = P_tmpdir "/test_wheel.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
    FILE *out = tmpfile();
    assert_non_null(out);
    int64_t total = 7;
    int rc = wheel_extract(path, member, fileno(out), limit, &total, err);
    if (rc == 0) {
        rewind(out);
        rc = (int)fread(ret_data, 1, size, out);
        assert_int_equal(total, 7 + rc);
    } else {
        assert_int_equal(total, 7);
    }
    fclose(out);
    unlink(path);
    return rc;
}

static void test_members(void **state)
{
    unsigned char data[512];
    struct err err;
    assert_int_equal(extract(archive, archive_bytes, "data/part01.bin", 300, data, 512, &err), 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(data[i], '0' + i % 10);
    assert_int_equal(extract(archive, archive_bytes, "stored.bin", 300, data, 512, &err), 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(data[i], i);
    /* the largest */
    assert_int_equal(extract(archive, archive_bytes, NULL, 300, data, 512, &err), 300);
}

static void test_refused(void **state)
{
    unsigned char data[512];
    struct err err;
    assert_true(extract(archive, archive_bytes, "art01.bin", 300, data, 512, &err) < 0);
    assert_non_null(strstr(err.text, "there is no file art01.bin"));
    assert_true(extract(archive, archive_bytes, "part01.bin", 299, data, 512, &err) < 0);
    assert_non_null(strstr(err.text, "longer"));
    assert_true(extract(archive, 0, NULL, 300, data, 512, &err) < 0);
    int64_t total = 0;
    assert_int_equal(wheel_extract("/nonexistent.whl", NULL, 1, 300, &total, &err), ERR_IO);
}

static void test_truncated(void **state)
{
    unsigned char data[512];
    struct err err;
    for (size_t n = 0; n < archive_bytes; n++)
        assert_true(extract(archive, n, "part01.bin", 300, data, 512, &err) < 0);
}

/* Any one byte changed: an error, or the right content (the byte did not matter). */
static void test_damaged(void **state)
{
    unsigned char copy[sizeof archive], data[512];
    struct err err;
    for (size_t i = 0; i < archive_bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, archive, archive_bytes);
            copy[i] ^= (unsigned char)(1 << bit);
            int n = extract(copy, archive_bytes, "part01.bin", 300, data, 512, &err);
            assert_true(n < 0 || n == 300);
            for (int k = 0; k < n; k++)
                assert_int_equal(data[k], '0' + k % 10);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
