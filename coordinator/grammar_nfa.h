/* grammar_nfa.h - expressions as nondeterministic automata: states, and edges that are free, take a
 * symbol of a range, or call a rule. Symbols are bytes (characters spelled in UTF-8) or characters.
 * grammar_subset.c makes it deterministic. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_NFA_H
#define PACELINE_COORDINATOR_GRAMMAR_NFA_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

#include <stdbool.h>
#include <stdint.h>

#define GRAMMAR_NONE UINT32_MAX

enum grammar_edge_kind { GRAMMAR_EDGE_FREE, GRAMMAR_EDGE_SYMBOL, GRAMMAR_EDGE_CALL };

struct grammar_nfa_edge {
    enum grammar_edge_kind kind;
    uint32_t low, high; /* symbols; CALL: low is the rule */
    uint32_t to;
    uint32_t next; /* of the same state, or GRAMMAR_NONE */
};

struct grammar_nfa_rule {
    const struct grammar_expr *expr;
    uint32_t start, end;
    /* A repetition that is counted instead of written out: `expr`, min to max times. */
    bool is_counted;
    uint32_t min, max;
};

struct grammar_shared;

struct grammar_nfa {
    const struct grammar_builder *builder;
    bool in_characters;   /* symbols */
    bool *is_inlined;     /* [builder->n_rules], or NULL: none is */
    uint32_t *first_edge; /* [n_states] */
    uint32_t n_states, states_capacity;
    struct grammar_nfa_edge *edges;
    uint32_t n_edges, edges_capacity;
    /* The builder's that were asked for, then counted ones. */
    struct grammar_nfa_rule *rules;
    uint32_t n_rules, rules_capacity;
    struct grammar_shared *shared; /* grammar_spell.c's */
    uint32_t n_shared, shared_capacity;
    uint32_t most_states; /* more, and it is too large */
    bool is_too_large, has_no_memory;
};

/* All rules of the builder, over bytes; or with `expr` that alone, as rule 0, over characters.
 * Clear it in any case. ERR_INPUT: too large. */
int grammar_nfa_make(struct grammar_nfa *n, const struct grammar_builder *b,
                     const struct grammar_expr *expr, struct err *err);
void grammar_nfa_clear(struct grammar_nfa *n);
uint32_t grammar_nfa_state(struct grammar_nfa *n);
void grammar_nfa_edge(struct grammar_nfa *n, enum grammar_edge_kind kind, uint32_t from,
                      uint32_t low, uint32_t high, uint32_t to);
/* grammar_spell.c: one character of the set leads from one state to another, in the symbols of the
 * automaton. */
void grammar_nfa_spell(struct grammar_nfa *n, const struct grammar_charset *set,
                       enum grammar_spelling spelling, uint32_t from, uint32_t to);
/* grammar_inline.c: marks rules that are small, not shared and not recursive. */
bool *grammar_inline_find(const struct grammar_builder *b);

#endif
