/* grammar_matcher.h - where a text stands in a grammar, byte by byte.
 *
 * A position is a set of items: a state, and the call that it belongs to. A call is a node, shared
 * by all who call the same rule at the same place; it links to where they go on when the rule ends.
 * So a grammar may be ambiguous and recursive on any side, and the set stays small (a graph-
 * structured stack, as in Tomita's and Earley's parsers). A call that is its caller's last act goes
 * back to the caller's caller, so that lists that call themselves do not pile up calls.
 *
 * Positions are a stack: a byte pushes the next one, a pop goes back. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_MATCHER_H
#define PACELINE_COORDINATOR_GRAMMAR_MATCHER_H

#include "coordinator/grammar.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What to say when there is too much work. */
#define GRAMMAR_AMBIGUOUS "its grammar is too ambiguous: there are too many ways to read a text"

struct matcher_item {
    uint32_t state;
    uint32_t call;   /* node */
    int32_t count;   /* of a counted rule: how often it has been repeated, */
    bool is_endless; /* and that there is no upper bound to it here */
};

struct matcher_link {
    struct matcher_item back; /* where a caller goes on */
    uint32_t next;            /* link, or GRAMMAR_NONE */
};

struct matcher_call {
    uint32_t rule;
    uint32_t first; /* link, or GRAMMAR_NONE */
};

struct matcher_position {
    uint32_t first_item, n_items;
    uint32_t n_calls, n_links;   /* that were there before it */
    uint32_t n_active;           /* items that some byte leads on */
    bool is_end;                 /* the text may end here */
    struct grammar_bytes follow; /* then: what callers may go on with, if there are any */
};

struct grammar_matcher {
    const struct grammar *grammar; /* borrowed */
    struct matcher_item *items;    /* of all positions */
    struct matcher_call *calls;    /* 0 is whoever asked: its end is the text's */
    struct matcher_link *links;
    struct matcher_position *positions; /* [depth + 1] */
    uint32_t n_items, n_calls, n_links, depth;
    uint32_t items_capacity, calls_capacity, links_capacity, positions_capacity;
    uint32_t kept;            /* calls and links that were there when they were last cleared out */
    uint64_t work, most_work; /* items and links that were looked at, and how many may be */
    bool failed;              /* memory, or too much work: nothing is possible any more */
};

/* At the beginning of a text. */
bool grammar_matcher_init(struct grammar_matcher *m, const struct grammar *g);
/* At a position that is given as items, whose calls are all unknown: where the rule of one of them
 * ends, the position is an end. */
bool grammar_matcher_init_at(struct grammar_matcher *m, const struct grammar *g,
                             const struct matcher_item *items, uint32_t n);
void grammar_matcher_clear(struct grammar_matcher *m);
/* false: no text goes on like this; the position is there all the same, until it is popped. */
bool grammar_matcher_push(struct grammar_matcher *m, unsigned char byte);
void grammar_matcher_pop(struct grammar_matcher *m, uint32_t depth); /* back to depth */
/* The newest position becomes the only one. */
void grammar_matcher_commit(struct grammar_matcher *m);

/* So much work may be done from now on; at first, there is no limit. */
static inline void grammar_matcher_allow(struct grammar_matcher *m, uint64_t work)
{
    m->most_work = m->work + work;
}

/* Whether the item's rule may be repeated once more, if it counts; s: its state. */
static inline bool grammar_matcher_may_repeat(const struct grammar_state *s,
                                              const struct matcher_item *item)
{
    return !s->is_head || item->is_endless || (int64_t)item->count < (int64_t)s->max;
}

static inline const struct matcher_position *grammar_matcher_now(const struct grammar_matcher *m)
{
    return &m->positions[m->depth];
}

#endif
