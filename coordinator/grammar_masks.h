/* grammar_masks.h - which tokens of a vocabulary a grammar allows at a position.
 *
 * Most tokens can be judged by the items of a position alone, whoever called their rules: only a
 * token that goes on after the end of such a rule depends on the callers. So for each set of items
 * that is met, the tokens are sorted once into allowed, forbidden and unsure (the idea of
 * XGrammar's context-independent tokens, arXiv:2411.15100), and this is kept; each position tries
 * the few unsure ones. A counted rule's items are the same as long as no token reaches its bounds.
 */
#ifndef PACELINE_COORDINATOR_GRAMMAR_MASKS_H
#define PACELINE_COORDINATOR_GRAMMAR_MASKS_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/grammar_matcher.h"
#include "coordinator/grammar_vocabulary.h"

struct grammar_masks;

/* grammar and vocabulary are borrowed. */
int grammar_masks_new(struct grammar_masks **ret_masks, const struct grammar *g,
                      const struct grammar_vocabulary *v, struct err *err);
void grammar_masks_free(struct grammar_masks *k);
/* Appends the mask (proto/token_mask.h) of m's position to out; tokens that end the text are
 * allowed where it may end. m comes back as it was. ERR_INPUT: the grammar is too ambiguous. */
int grammar_masks_write(struct grammar_masks *k, struct grammar_matcher *m, struct buf *out,
                        struct err *err);
size_t grammar_masks_bytes(const struct grammar_masks *k);
uint64_t grammar_masks_work(const struct grammar_masks *k); /* in sorting, as m->work counts it */
/* Masks made, and found again. */
void grammar_masks_counts(const struct grammar_masks *k, uint64_t *ret_made, uint64_t *ret_found);

#endif
