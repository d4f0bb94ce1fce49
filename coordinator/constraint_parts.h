/* constraint_parts.h - what constraint.c and constraint_store.c share. */
#ifndef PACELINE_COORDINATOR_CONSTRAINT_PARTS_H
#define PACELINE_COORDINATOR_CONSTRAINT_PARTS_H

#include "coordinator/constraint.h"
#include "coordinator/grammar_masks.h"

/* The vocabulary outlives the store as long as a constraint is held. */
struct constraint_vocabulary {
    struct grammar_vocabulary *tree;
    int n_holders;
};

struct constraint {
    struct constraint_vocabulary *vocabulary;
    struct grammar *grammar;
    struct grammar_masks *masks;
    int n_holders; /* the store is one, as long as it keeps it */
    /* the store's */
    char *key;
    struct constraint *next; /* used before this one */
};

int constraint_compile(struct grammar **ret_grammar, const struct constraint_source *source,
                       struct err *err);
/* Any text in which the mark does not stand. */
int constraint_text_without(struct grammar_builder *b, const char *mark,
                            const struct grammar_expr **ret_expr, struct err *err);

/* ---- constraint_calls.c ---- */
/* *ret_first: a call, but for what has begun; *ret_call: a whole one. */
int constraint_calls_read(struct grammar_builder *b, const struct constraint_calls *calls,
                          const struct grammar_expr **ret_first,
                          const struct grammar_expr **ret_call, struct err *err);
/* The builder's first rule. */
int constraint_calls_alone(struct grammar_builder *b, const struct constraint_calls *calls,
                           struct err *err);
int constraint_calls_in_talk(struct grammar_builder *b, const struct constraint_calls *calls,
                             struct err *err);

#endif
