#include "coordinator/bpe_alphabet.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

/* GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are U+0100
 * onwards, in order: 00..20, 7F..A0, AD. -1: not a letter of it. */
static int bpe_alphabet_byte(int32_t point)
{
    if ((point >= 0x21 && point <= 0x7E) || (point >= 0xA1 && point <= 0xFF && point != 0xAD))
        return point;
    if (point >= 0x100 && point <= 0x120)
        return point - 0x100;
    if (point >= 0x121 && point <= 0x142)
        return point - 0x121 + 0x7F;
    return point == 0x143 ? 0xAD : -1;
}

size_t bpe_alphabet_decode(const char *token, size_t length, char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t point;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)token + at,
                                       (utf8proc_ssize_t)(length - at), &point);
        int byte = bpe_alphabet_byte(point);
        if (byte < 0) {
            memcpy(out, token, length);
            return length;
        }
        out[n++] = (char)byte;
    }
    return n;
}

int bpe_alphabet_hex_byte(const char *token, size_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    if (length != 6 || memcmp(token, "<0x", 3) || token[5] != '>')
        return -1;
    const char *high = memchr(digits, token[3], 16), *low = memchr(digits, token[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}
