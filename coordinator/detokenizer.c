#include "coordinator/detokenizer.h"

#include "coordinator/bpe_utf8.h"

#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_control)
{
    *d = (struct detokenizer){.tokenizer = t, .skip_control = skip_control};
}

/* The first two bytes of an encoded surrogate, never part of valid text, wait for the third like
 * those of a character: the streaming decoders that clients know (Python's) cut text that way. */
static bool detokenizer_holds_surrogate(const struct detokenizer *d)
{
    return d->n_held == 2 && d->held[0] == 0xED && d->held[1] >= 0xA0 && d->held[1] <= 0xBF;
}

/* Shows what is certain among the held bytes. Before the last of them came they were at most the
 * beginning of a character; now they are a whole one, still a beginning, or invalid: then the part
 * before the new byte is, and that begins anew. */
static void detokenizer_show(struct detokenizer *d, struct buf *out)
{
    while (d->n_held && !detokenizer_holds_surrogate(d)) {
        size_t length;
        enum bpe_utf8 found = bpe_utf8_next(d->held, (size_t)d->n_held, &length);
        if (found == BPE_UTF8_CUT)
            return;
        if (found == BPE_UTF8_WHOLE)
            buf_append(out, d->held, length);
        else
            buf_puts(out, replacement);
        d->n_held -= (int)length;
        memmove(d->held, d->held + length, (size_t)d->n_held);
    }
}

void detokenizer_push(struct detokenizer *d, uint32_t id, struct buf *out)
{
    if (d->skip_control && tokenizer_is_control(d->tokenizer, id))
        return;
    size_t length;
    const char *piece = tokenizer_piece(d->tokenizer, id, &length);
    for (size_t i = 0; i < length; i++) {
        d->held[d->n_held++] = (unsigned char)piece[i];
        detokenizer_show(d, out);
    }
}

void detokenizer_finish(struct detokenizer *d, struct buf *out)
{
    if (detokenizer_holds_surrogate(d))
        buf_puts(out, replacement); /* two invalid bytes */
    if (d->n_held)
        buf_puts(out, replacement);
    d->n_held = 0;
}
