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

#endif
