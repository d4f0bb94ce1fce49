/* grammar_utf8.h - characters and their bytes. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_UTF8_H
#define PACELINE_COORDINATOR_GRAMMAR_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The character at the beginning of valid text; returns its bytes. Of text that is not valid, its
 * first byte. n > 0. */
size_t grammar_utf8_decode(const unsigned char *text, size_t n, uint32_t *ret_character);
/* Returns how many of out are used. */
size_t grammar_utf8_encode(uint32_t character, unsigned char out[4]);

/* Characters low … high as sequences of ranges of bytes, at most GRAMMAR_UTF8_SPLITS of them.
 * Surrogates are no characters. */
enum { GRAMMAR_UTF8_SPLITS = 24 };
struct grammar_utf8_bytes {
    unsigned char low[4], high[4];
    size_t length;
};
size_t grammar_utf8_split(uint32_t low, uint32_t high,
                          struct grammar_utf8_bytes out[GRAMMAR_UTF8_SPLITS]);

#endif
