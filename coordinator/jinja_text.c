#include "coordinator/jinja_text.h"

#include <string.h>
#include <utf8proc.h>

uint32_t jinja_text_decode(const char *s, size_t length, size_t *ret_size)
{
    utf8proc_int32_t code;
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)length, &code);
    if (size < 1) {
        *ret_size = 1;
        return 0xfffd;
    }
    *ret_size = (size_t)size;
    return (uint32_t)code;
}

void jinja_text_encode(struct buf *b, uint32_t code)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t size = utf8proc_encode_char((utf8proc_int32_t)code, bytes);
    buf_append(b, bytes, (size_t)size);
}

bool jinja_text_is_valid(struct jinja_string s)
{
    for (size_t at = 0; at < s.length;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)s.bytes + at,
                                                 (utf8proc_ssize_t)(s.length - at), &code);
        if (size < 1)
            return false;
        at += (size_t)size;
    }
    return true;
}

bool jinja_text_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t jinja_text_count(struct jinja_string s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.length; i++)
        count += !is_continuation(s.bytes[i]);
    return count;
}

size_t jinja_text_offset(struct jinja_string s, size_t index)
{
    for (size_t i = 0; i < s.length; i++)
        if (!is_continuation(s.bytes[i]) && index-- == 0)
            return i;
    return s.length;
}

static bool strips(uint32_t code, const struct jinja_string *chars)
{
    if (!chars)
        return jinja_text_is_space(code);
    for (size_t at = 0, size; at < chars->length; at += size)
        if (jinja_text_decode(chars->bytes + at, chars->length - at, &size) == code)
            return true;
    return false;
}

struct jinja_string jinja_text_strip(struct jinja_string s, const struct jinja_string *chars,
                                     bool left, bool right)
{
    size_t size;
    while (left && s.length && strips(jinja_text_decode(s.bytes, s.length, &size), chars)) {
        s.bytes += size;
        s.length -= size;
    }
    while (right && s.length) {
        size_t start = s.length - 1;
        while (start && is_continuation(s.bytes[start]))
            start--;
        if (!strips(jinja_text_decode(s.bytes + start, s.length - start, &size), chars))
            break;
        s.length = start;
    }
    return s;
}

size_t jinja_text_find(struct jinja_string s, struct jinja_string needle, size_t from)
{
    if (from > s.length || needle.length > s.length - from)
        return SIZE_MAX;
    if (!needle.length)
        return from;
    const char *hit = memmem(s.bytes + from, s.length - from, needle.bytes, needle.length);
    return hit ? (size_t)(hit - s.bytes) : SIZE_MAX;
}

size_t jinja_text_find_last(struct jinja_string s, struct jinja_string needle, size_t from)
{
    if (needle.length > from)
        return SIZE_MAX;
    for (size_t at = from - needle.length + 1; at-- > 0;)
        if (!needle.length || memcmp(s.bytes + at, needle.bytes, needle.length) == 0)
            return at;
    return SIZE_MAX;
}

bool jinja_text_starts(struct jinja_string s, struct jinja_string prefix)
{
    return s.length >= prefix.length &&
           (!prefix.length || memcmp(s.bytes, prefix.bytes, prefix.length) == 0);
}

bool jinja_text_ends(struct jinja_string s, struct jinja_string suffix)
{
    return s.length >= suffix.length &&
           (!suffix.length ||
            memcmp(s.bytes + s.length - suffix.length, suffix.bytes, suffix.length) == 0);
}

void jinja_text_upper(struct buf *b, struct jinja_string s)
{
    for (size_t at = 0, size; at < s.length; at += size) {
        uint32_t code = jinja_text_decode(s.bytes + at, s.length - at, &size);
        if (code == 0xdf)
            buf_puts(b, "SS");
        else
            jinja_text_encode(b, (uint32_t)utf8proc_toupper((utf8proc_int32_t)code));
    }
}

void jinja_text_lower(struct buf *b, struct jinja_string s)
{
    for (size_t at = 0, size; at < s.length; at += size) {
        uint32_t code = jinja_text_decode(s.bytes + at, s.length - at, &size);
        jinja_text_encode(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
    }
}
