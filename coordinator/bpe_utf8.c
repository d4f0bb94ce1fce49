#include "coordinator/bpe_utf8.h"

#include <string.h>

/* Bytes of a character that begins with `lead` (0: none does), and the range of the second one,
 * which excludes overlong forms, surrogates and what lies beyond U+10FFFF. */
static int bpe_utf8_lead(unsigned char lead, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *ret_high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

enum bpe_utf8 bpe_utf8_next(const unsigned char *p, size_t n, size_t *ret_length)
{
    unsigned char low, high;
    int wanted = bpe_utf8_lead(p[0], &low, &high);
    *ret_length = 1;
    if (!wanted)
        return BPE_UTF8_INVALID;
    for (int i = 1; i < wanted; i++) {
        if ((size_t)i >= n)
            return BPE_UTF8_CUT;
        if (p[i] < low || p[i] > high)
            return BPE_UTF8_INVALID;
        low = 0x80;
        high = 0xBF;
        *ret_length = (size_t)i + 1;
    }
    return BPE_UTF8_WHOLE;
}

size_t bpe_utf8_valid_length(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0, length;
    while (at < n) {
        if (p[at] < 0x80) {
            at++;
            continue;
        }
        if (bpe_utf8_next(p + at, n - at, &length) != BPE_UTF8_WHOLE)
            return at;
        at += length;
    }
    return n;
}

const char *bpe_utf8_show(const char *text, size_t n, char out[BPE_UTF8_SHOWN])
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0, length;
    while (at < n && bpe_utf8_next(p + at, n - at, &length) == BPE_UTF8_WHOLE &&
           at + length < BPE_UTF8_SHOWN - 4) {
        memcpy(out + at, text + at, length);
        /* C0 and C1 controls could play with somebody's terminal. */
        if (p[at] < 0x20 || p[at] == 0x7F)
            out[at] = '?';
        else if (p[at] == 0xC2 && p[at + 1] < 0xA0)
            memcpy(out + at, "??", 2);
        at += length;
    }
    strcpy(out + at, at < n ? "..." : "");
    return out;
}
