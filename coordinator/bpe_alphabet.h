/* bpe_alphabet.h - how a vocabulary writes bytes: GPT-2's alphabet of 256 printable characters. */
#ifndef PACELINE_COORDINATOR_BPE_ALPHABET_H
#define PACELINE_COORDINATOR_BPE_ALPHABET_H

#include <stddef.h>

/* The bytes of a normal token, at most `length` of them; returns their number. token: valid UTF-8.
 * One with a character outside the alphabet is taken as it is written, as the model's own
 * tokenizer does. */
size_t bpe_alphabet_decode(const char *token, size_t length, char *out);
/* "<0x0A>" to 10; -1: not of this form. */
int bpe_alphabet_hex_byte(const char *token, size_t length);

#endif
