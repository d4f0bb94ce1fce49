/* token_mask.h - the tokens that may be chosen, in few bytes: the first one tells the form, then
 * come the ids that are allowed, or those that are forbidden, each as its distance from the one
 * before, in seven bits a byte; or one bit for each token of the vocabulary. */
#ifndef PACELINE_PROTO_TOKEN_MASK_H
#define PACELINE_PROTO_TOKEN_MASK_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum token_mask_form { TOKEN_MASK_ALLOWED = 1, TOKEN_MASK_FORBIDDEN = 2, TOKEN_MASK_BITS = 3 };

/* Appends one. ids: ascending, below the vocabulary; where their list would be longer than bits,
 * it becomes bits. */
void token_mask_write_ids(struct buf *out, enum token_mask_form form, const uint32_t *ids, size_t n,
                          uint32_t vocabulary);
/* Bit i % 64 of words[i / 64]: token i is allowed. */
void token_mask_write_bits(struct buf *out, const uint64_t *words, uint32_t vocabulary);
/* No mask of that vocabulary is longer. */
size_t token_mask_most_bytes(uint32_t vocabulary);
/* ERR_INPUT for what was not written by the functions above for that vocabulary. */
int token_mask_check(const unsigned char *mask, size_t length, uint32_t vocabulary,
                     struct err *err);
/* to: [vocabulary], the logits, -inf where the token is not allowed. The mask was checked. */
void token_mask_apply(const unsigned char *mask, size_t length, const float *logits, float *to,
                      uint32_t vocabulary);

#endif
