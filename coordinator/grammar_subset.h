/* grammar_subset.h - the subset construction: nondeterministic automata become deterministic ones.
 * Calls are deterministic, too: a state has at most one call of a rule. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_SUBSET_H
#define PACELINE_COORDINATOR_GRAMMAR_SUBSET_H

#include "base/err.h"
#include "coordinator/grammar_nfa.h"

struct grammar_dfa_call {
    uint32_t rule, to;
};

struct grammar_dfa_state {
    uint32_t rule; /* whose */
    bool accepts;
    uint32_t first_call, n_calls;
};

struct grammar_dfa {
    /* Symbols that no edge tells apart are one class: class i is first_symbol[i] … the next - 1. */
    uint32_t *first_symbol; /* [n_classes + 1] */
    uint32_t n_classes;
    struct grammar_dfa_state *states; /* [n_states] */
    uint32_t *next;                   /* [n_states × n_classes], or GRAMMAR_NONE */
    uint32_t n_states, states_capacity;
    struct grammar_dfa_call *calls;
    uint32_t n_calls, calls_capacity;
    uint32_t *starts; /* [rules] */
};

/* Of a trimmed automaton, so that from every state there is a way to its rule's end. *work grows.
 * ERR_INPUT: too large, or too much work. Clear it in any case. */
int grammar_dfa_make(struct grammar_dfa *d, const struct grammar_nfa *n, uint64_t *work,
                     struct err *err);
void grammar_dfa_clear(struct grammar_dfa *d);
/* A state without edges; GRAMMAR_NONE: too many, or no memory. */
uint32_t grammar_dfa_state(struct grammar_dfa *d, uint32_t rule);
bool grammar_dfa_call(struct grammar_dfa *d, uint32_t from, uint32_t rule, uint32_t to);

/* grammar_trim.c: removes edges that lead nowhere, and makes a free way past each call of a rule
 * that can be empty. ERR_INPUT when no text matches the first one. */
int grammar_trim(struct grammar_nfa *n, struct err *err);

#endif
