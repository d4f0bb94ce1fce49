/* Lines of the log, as people and as machines read them. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static const struct log_field fields[] = {
    {"request_id", "a\"b\\c", 0}, {"trace_id", "", 0}, {"epoch", NULL, -7}};

/* What is written to standard error meanwhile. */
static void logged(bool json, enum log_level level, const char *sentence, char *to, size_t size)
{
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_non_null(file);
    dup2(fileno(file), STDERR_FILENO);
    log_setup("test", LOG_LEVEL_INFO, json);
    log_event(level, fields, 3, "%s", sentence);
    log_setup("test", LOG_LEVEL_INFO, false);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    to[fread(to, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_text(void **state)
{
    char line[4096];
    logged(false, LOG_LEVEL_INFO, "it is done", line, sizeof line);
    assert_string_equal(strstr(line, "Z ") + 2,
                        "info    test: it is done request_id=a\"b\\c epoch=-7\n");
    logged(false, LOG_LEVEL_DEBUG, "nobody wants to know", line, sizeof line);
    assert_string_equal(line, "");
}

static void test_json(void **state)
{
    static const struct {
        const char *said, *read;
    } cases[] = {{"it is done", "it is done"},
                 {"quotes \" \\ and \x01\n", "quotes \" \\ and \x01\n"},
                 {"caf\xc3\xa9 \xf0\x9f\x9a\xb2", "caf\xc3\xa9 \xf0\x9f\x9a\xb2"},
                 {"\xff \xc3", "\xef\xbf\xbd \xef\xbf\xbd"},
                 {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}};
    char line[4096];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        logged(true, LOG_LEVEL_WARNING, cases[i].said, line, sizeof line);
        assert_int_equal(line[strlen(line) - 1], '\n');
        json_t *value = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(value);
        assert_string_equal(json_string_value(json_object_get(value, "message")), cases[i].read);
        assert_string_equal(json_string_value(json_object_get(value, "level")), "warning");
        assert_string_equal(json_string_value(json_object_get(value, "request_id")), "a\"b\\c");
        assert_int_equal(json_integer_value(json_object_get(value, "epoch")), -7);
        assert_null(json_object_get(value, "trace_id"));
        json_decref(value);
    }
}

/* A sentence that is too long is cut, not the line. */
static void test_cut(void **state)
{
    char sentence[3000], line[8192];
    memset(sentence, 'x', sizeof sentence);
    memcpy(sentence + 1021, "\xe2\x82\xac", 3); /* a character across the end */
    sentence[sizeof sentence - 1] = '\0';
    logged(true, LOG_LEVEL_ERROR, sentence, line, sizeof line);
    json_t *value = json_loads(line, 0, NULL);
    assert_non_null(value);
    assert_int_equal(json_integer_value(json_object_get(value, "epoch")), -7);
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
