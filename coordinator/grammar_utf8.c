#include "coordinator/grammar_utf8.h"

#include "coordinator/bpe_utf8.h"

#include <assert.h>

size_t grammar_utf8_decode(const unsigned char *text, size_t n, uint32_t *ret_character)
{
    size_t length;
    *ret_character = text[0];
    if (text[0] < 0x80 || bpe_utf8_next(text, n, &length) != BPE_UTF8_WHOLE)
        return 1;
    uint32_t c = text[0] & (0xFFU >> (length + 1));
    for (size_t i = 1; i < length; i++)
        c = c << 6 | (text[i] & 0x3F);
    *ret_character = c;
    return length;
}

size_t grammar_utf8_encode(uint32_t c, unsigned char out[4])
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; c >>= 6)
        out[i] = (unsigned char)(0x80 | (c & 0x3F));
    out[0] = (unsigned char)(0xF00 >> length | c);
    return length;
}

struct split {
    struct grammar_utf8_bytes *out;
    size_t n;
};

/* low and high have as many bytes. Where their first `rest` sixes of bits are not 0…0 to 1…1, the
 * range is cut so that its parts are: then the bytes are independent of each other. */
static void split_range(struct split *s, uint32_t low, uint32_t high)
{
    unsigned char first[4], last[4];
    size_t length = grammar_utf8_encode(low, first);
    for (size_t rest = 1; rest < length; rest++) {
        uint32_t mask = (1U << (6 * rest)) - 1;
        if ((low & ~mask) == (high & ~mask))
            continue;
        if (low & mask) {
            split_range(s, low, low | mask);
            split_range(s, (low | mask) + 1, high);
            return;
        }
        if ((high & mask) != mask) {
            split_range(s, low, (high & ~mask) - 1);
            split_range(s, high & ~mask, high);
            return;
        }
    }
    grammar_utf8_encode(high, last);
    assert(s->n < GRAMMAR_UTF8_SPLITS);
    struct grammar_utf8_bytes *b = &s->out[s->n++];
    b->length = length;
    for (size_t i = 0; i < length; i++) {
        b->low[i] = first[i];
        b->high[i] = last[i];
    }
}

size_t grammar_utf8_split(uint32_t low, uint32_t high,
                          struct grammar_utf8_bytes out[GRAMMAR_UTF8_SPLITS])
{
    static const struct {
        uint32_t first, last;
    } whole[] = {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
    struct split s = {.out = out};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        uint32_t first = low > whole[i].first ? low : whole[i].first;
        uint32_t last = high < whole[i].last ? high : whole[i].last;
        if (first <= last)
            split_range(&s, first, last);
    }
    return s.n;
}
