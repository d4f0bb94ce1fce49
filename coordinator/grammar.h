/* grammar.h - a compiled grammar: for each rule a deterministic automaton over bytes whose states
 * may also call rules. Immutable. What it matches is valid UTF-8, if the grammar's own texts are.
 *
 * Sources: grammar_regex.h, grammar_ebnf.h, schema.h; who walks through it: grammar_matcher.h. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_H
#define PACELINE_COORDINATOR_GRAMMAR_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

#include <stdbool.h>
#include <stdint.h>

/* Which bytes */
struct grammar_bytes {
    uint64_t bits[4];
};

struct grammar_state {
    uint32_t rule;
    uint32_t first_call;
    uint32_t n_calls;
    bool accepts;      /* the rule may end; where it is counted: if it has been repeated enough */
    bool is_head;      /* of a counted rule: who comes here has repeated once more */
    bool is_counted;   /* it belongs to a counted rule */
    bool is_plain;     /* none of these, and no calls */
    bool has_bytes;    /* some byte leads on */
    bool loops;        /* after any of grammar_is_loop_byte() it is here again */
    uint32_t min, max; /* repetitions of the counted rule */
};

struct grammar_calls {
    uint32_t rule;
    uint32_t start; /* the rule's first state */
    uint32_t to;    /* where it goes on after it */
    bool is_last;   /* there the caller ends, and nothing else: who called it need not come back */
};

struct grammar {
    uint8_t class_of[256];
    uint32_t n_classes, n_states, start, n_rules;
    uint16_t *next; /* [n_states × n_classes]: the state after a byte of the class, 0: none */
    struct grammar_state *states; /* [n_states]; 0 is no state */
    struct grammar_calls *calls;
    struct grammar_bytes
        *follow; /* [n_rules]: bytes that may come after the rule, whoever called */
};

/* What the inside of a JSON string, or any free text, goes on with most of the time. */
static inline bool grammar_is_loop_byte(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
}

/* From the builder's rules. ERR_INPUT: the sentence goes on from
 * the name of the source: "is too large …". */
int grammar_compile(struct grammar **ret_grammar, const struct grammar_builder *b, struct err *err);
void grammar_free(struct grammar *g); /* NULL is fine */
size_t grammar_bytes(const struct grammar *g);

static inline bool grammar_bytes_have(const struct grammar_bytes *set, unsigned char byte)
{
    return set->bits[byte / 64] >> byte % 64 & 1;
}

static inline uint32_t grammar_next(const struct grammar *g, uint32_t state, unsigned char byte)
{
    return g->next[(size_t)state * g->n_classes + g->class_of[byte]];
}

#endif
