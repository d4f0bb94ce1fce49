#include "coordinator/json_text.h"

#include <math.h>
#include <string.h>

static bool json_text_follows(const unsigned char *p, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        if ((p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

size_t json_text_character(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    /* The ranges of the second byte keep out overlong forms, surrogates and what is above
     * U+10FFFF (RFC 3629, section 4). */
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        return n >= 2 && json_text_follows(p, 1, 2) ? 2 : 0;
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        if (n < 3 || !json_text_follows(p, 1, 3))
            return 0;
        bool overlong = p[0] == 0xe0 && p[1] < 0xa0, surrogate = p[0] == 0xed && p[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if (n < 4 || !json_text_follows(p, 1, 4))
            return 0;
        bool overlong = p[0] == 0xf0 && p[1] < 0x90, beyond = p[0] == 0xf4 && p[1] > 0x8f;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

bool json_text_is_utf8(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t step = json_text_character(text + i, length - i);
        if (!step)
            return false;
        i += step;
    }
    return true;
}

json_t *json_text_string(const char *text, size_t length)
{
    if (json_text_is_utf8(text, length))
        return json_stringn_nocheck(text, length);
    struct buf repaired;
    buf_init(&repaired);
    for (size_t i = 0; i < length;) {
        size_t step = json_text_character(text + i, length - i);
        if (step)
            buf_append(&repaired, text + i, step);
        else
            buf_puts(&repaired, "\xef\xbf\xbd");
        i += step ? step : 1;
    }
    json_t *value = NULL;
    if (!buf_failed(&repaired))
        value = json_stringn_nocheck(buf_text(&repaired), repaired.length);
    buf_clear(&repaired);
    return value;
}

void json_text_quote(struct buf *out, const char *text, size_t length)
{
    size_t plain = 0; /* text[plain, i) needs no change and is not written yet */
    buf_putc(out, '"');
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t step = json_text_character(text + i, length - i);
        if (step && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += step;
            continue;
        }
        buf_append(out, text + plain, i - plain);
        if (!step)
            buf_puts(out, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c == '\n')
            buf_puts(out, "\\n");
        else
            buf_printf(out, "\\u%04x", c);
        plain = ++i;
    }
    buf_append(out, text + plain, length - plain);
    buf_putc(out, '"');
}

json_t *json_text_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static int json_text_append(const char *bytes, size_t size, void *to)
{
    struct buf *out = to;
    buf_append(out, bytes, size);
    return buf_failed(out) ? -1 : 0;
}

void json_text_write(struct buf *out, const json_t *value)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
    /* NULL: some allocation on the way to this value failed. */
    if (!value || json_dump_callback(value, json_text_append, out, flags) != 0)
        out->failed = true;
}

const char *json_text_type(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}
