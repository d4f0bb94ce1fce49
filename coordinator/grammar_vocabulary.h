/* grammar_vocabulary.h - the tokens of a vocabulary as a tree of their bytes. Immutable once made.
 */
#ifndef PACELINE_COORDINATOR_GRAMMAR_VOCABULARY_H
#define PACELINE_COORDINATOR_GRAMMAR_VOCABULARY_H

#include "base/err.h"
#include "coordinator/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longer tokens are not in the tree: they are never allowed. */
enum { GRAMMAR_TOKEN_BYTES = 255 };

struct grammar_vocabulary {
    const struct tokenizer *tokenizer; /* borrowed */
    uint32_t n_ids;                    /* of the model, at least the tokenizer's */
    /* Nodes in the order of a walk, parents first: those below node i are i + 1 … past[i] - 1. The
     * root is no node. */
    uint32_t n_nodes;
    uint8_t *bytes;        /* [n_nodes] */
    uint8_t *depths;       /* [n_nodes], from 1 */
    uint8_t *heights;      /* [n_nodes]: bytes of the longest token below, counted from the node; 0
                              when some byte below is not grammar_is_loop_byte() */
    uint32_t *past;        /* [n_nodes] */
    uint32_t *first_token; /* [n_nodes + 1]: tokens that end at node i, or below it, are
                              tokens[first_token[i]] … tokens[first_token[past[i]] - 1] */
    uint32_t *tokens;      /* [n_tokens], by their bytes */
    uint32_t n_tokens;
    uint32_t ends[8]; /* tokens that end a text, ascending */
    size_t n_ends;
};

/* Control tokens, unused ones and those that end a text have no bytes, and are not in the tree.
 * n_ids: the model's. */
int grammar_vocabulary_new(struct grammar_vocabulary **ret_vocabulary, const struct tokenizer *t,
                           uint32_t n_ids, struct err *err);
bool grammar_vocabulary_ends(const struct grammar_vocabulary *v, uint32_t token);
void grammar_vocabulary_free(struct grammar_vocabulary *v);

#endif
