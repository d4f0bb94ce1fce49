/* grammar_automaton.h - deterministic automata over characters, for what expressions cannot say:
 * both of two patterns, a pattern and a length, any name but these. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_AUTOMATON_H
#define PACELINE_COORDINATOR_GRAMMAR_AUTOMATON_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

struct grammar_arrow {
    uint32_t low, high; /* characters */
    uint32_t to;
};

struct grammar_automaton_state {
    struct grammar_arrow *arrows; /* [n_arrows], ascending and apart; others lead nowhere */
    uint32_t n_arrows;
    bool accepts;
};

struct grammar_automaton {
    struct grammar_automaton_state *states; /* [n_states], it begins in the first; at least 1 */
    uint32_t n_states;
};

/* All of them live in the builder's arena. ERR_INPUT: too large. e has no calls and no graphs. */
int grammar_automaton_from(const struct grammar_automaton **ret_automaton,
                           struct grammar_builder *b, const struct grammar_expr *e,
                           struct err *err);
int grammar_automaton_both(const struct grammar_automaton **ret_automaton,
                           struct grammar_builder *b, const struct grammar_automaton *x,
                           const struct grammar_automaton *y, struct err *err);
/* What x does not match. */
int grammar_automaton_other(const struct grammar_automaton **ret_automaton,
                            struct grammar_builder *b, const struct grammar_automaton *x,
                            struct err *err);
bool grammar_automaton_is_empty(const struct grammar_automaton *a); /* matches nothing */
/* text: valid UTF-8 */
bool grammar_automaton_matches(const struct grammar_automaton *a, const char *text, size_t length);
/* About how many states it takes as a part of an expression. */
uint32_t grammar_automaton_size(const struct grammar_automaton *a);

#endif
