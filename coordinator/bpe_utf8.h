/* bpe_utf8.h - the shape of UTF-8, byte by byte: what the tokenizer accepts and what the
 * detokenizer may show (Unicode 15.0, table 3-7). */
#ifndef PACELINE_COORDINATOR_BPE_UTF8_H
#define PACELINE_COORDINATOR_BPE_UTF8_H

#include <stddef.h>

enum bpe_utf8 {
    BPE_UTF8_WHOLE,  /* a character of *ret_length bytes */
    BPE_UTF8_CUT,    /* the beginning of one: more bytes may complete it */
    BPE_UTF8_INVALID /* *ret_length: the maximal part that stands for one U+FFFD */
};
/* n > 0 bytes at p; looks at four of them at most. */
enum bpe_utf8 bpe_utf8_next(const unsigned char *p, size_t n, size_t *ret_length);
/* Bytes before the first that is not valid; n when all is well. */
size_t bpe_utf8_valid_length(const char *text, size_t n);

#define BPE_UTF8_SHOWN 64
/* The beginning of valid text for an error sentence: whole characters, no control characters. */
const char *bpe_utf8_show(const char *text, size_t n, char out[BPE_UTF8_SHOWN]);

#endif
