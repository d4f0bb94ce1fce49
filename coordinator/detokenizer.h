/* detokenizer.h - ids to text as they come, never half a UTF-8 character: an incomplete sequence
 * is held back, an invalid one becomes U+FFFD, one for each maximal invalid part (WHATWG). */
#ifndef PACELINE_COORDINATOR_DETOKENIZER_H
#define PACELINE_COORDINATOR_DETOKENIZER_H

#include "base/buf.h"
#include "coordinator/tokenizer.h"

struct detokenizer {
    const struct tokenizer *tokenizer; /* borrowed */
    bool skip_control;                 /* control tokens have no text */
    unsigned char held[4];
    int n_held;
};

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_control);
/* Appends the text that became certain. */
void detokenizer_push(struct detokenizer *d, uint32_t id, struct buf *out);
void detokenizer_finish(struct detokenizer *d, struct buf *out);

#endif
