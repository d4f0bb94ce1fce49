#include "coordinator/json_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void check(const char *bytes, size_t length, const char *wanted)
{
    struct buf out;
    buf_init(&out);
    json_text_quote(&out, bytes, length);
    assert_string_equal(buf_text(&out), wanted);
    /* The literal and the value are the same text. */
    json_t *parsed = json_loadb(out.data, out.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_t *value = json_text_string(bytes, length);
    assert_non_null(parsed);
    assert_true(json_equal(parsed, value));
    json_decref(parsed);
    json_decref(value);
    buf_clear(&out);
}

static void test_text(void **state)
{
#define R "\xef\xbf\xbd"
    check("", 0, "\"\"");
    check("a\"b\\c\nd\x01\x7f", 9, "\"a\\\"b\\\\c\\nd\\u0001\\u007f\"");
    check("a\0b", 3, "\"a\\u0000b\"");
    check("h\xc3\xa9\xe4\xb8\x96\xf0\x9f\x98\x80", 10, "\"h\xc3\xa9\xe4\xb8\x96\xf0\x9f\x98\x80\"");
    check("\xff"
          "a",
          2, "\"" R "a\"");
    check("\xc0\x80", 2, "\"" R R "\"");             /* overlong */
    check("\xed\xa0\x80", 3, "\"" R R R "\"");       /* a surrogate */
    check("\xf4\x90\x80\x80", 4, "\"" R R R R "\""); /* above U+10FFFF */
    check("\xe4\xb8", 2, "\"" R R "\"");             /* cut off */
}

static void test_numbers(void **state)
{
    struct buf out;
    buf_init(&out);
    json_t *list = json_pack("[o, o, o, o]", json_text_real(NAN), json_text_real(-INFINITY),
                             json_text_real((double)-0.1f), json_text_real(2));
    json_text_write(&out, list);
    assert_string_equal(buf_text(&out), "[null,null,-0.100000001,2.0]");
    json_decref(list);
    assert_false(buf_failed(&out));
    json_text_write(&out, NULL);
    assert_true(buf_failed(&out));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
