#include "coordinator/grammar_subset.h"

#include <stdlib.h>
#include <string.h>

/* What is known of states, backwards from their rule's end: whether a way leads there, and whether
 * one does without a symbol. Facts spread from state to state until nothing new is learned. */
struct trim {
    struct grammar_nfa *nfa;
    uint32_t *first_into, *next_into; /* edges by the state that they lead to */
    uint32_t *first_call, *next_call; /* edges by the rule that they call */
    uint32_t *from;                   /* [n_edges] */
    uint32_t *rule_of_start;          /* [n_states], or GRAMMAR_NONE */
    bool *is_productive, *is_empty;   /* [n_states] */
    uint32_t *queue;                  /* of states */
    uint32_t n_queue;
};

static bool trim_claim(struct trim *t)
{
    const struct grammar_nfa *n = t->nfa;
    t->first_into = malloc((n->n_states + 1) * sizeof(uint32_t));
    t->next_into = malloc((n->n_edges + 1) * sizeof(uint32_t));
    t->first_call = malloc((n->n_rules + 1) * sizeof(uint32_t));
    t->next_call = malloc((n->n_edges + 1) * sizeof(uint32_t));
    t->from = malloc((n->n_edges + 1) * sizeof(uint32_t));
    t->rule_of_start = malloc((n->n_states + 1) * sizeof(uint32_t));
    t->is_productive = calloc(n->n_states + 1, 1);
    t->is_empty = calloc(n->n_states + 1, 1);
    t->queue = malloc((2 * (size_t)n->n_states + 1) * sizeof(uint32_t));
    return t->first_into && t->next_into && t->first_call && t->next_call && t->from &&
           t->rule_of_start && t->is_productive && t->is_empty && t->queue;
}

static void trim_clear(struct trim *t)
{
    free(t->first_into);
    free(t->next_into);
    free(t->first_call);
    free(t->next_call);
    free(t->from);
    free(t->rule_of_start);
    free(t->is_productive);
    free(t->is_empty);
    free(t->queue);
}

static void trim_index(struct trim *t)
{
    const struct grammar_nfa *n = t->nfa;
    memset(t->first_into, 0xFF, (n->n_states + 1) * sizeof(uint32_t));
    memset(t->first_call, 0xFF, (n->n_rules + 1) * sizeof(uint32_t));
    memset(t->rule_of_start, 0xFF, (n->n_states + 1) * sizeof(uint32_t));
    for (uint32_t r = 0; r < n->n_rules; r++)
        t->rule_of_start[n->rules[r].start] = r;
    for (uint32_t s = 0; s < n->n_states; s++) {
        for (uint32_t i = n->first_edge[s]; i != GRAMMAR_NONE; i = n->edges[i].next) {
            const struct grammar_nfa_edge *e = &n->edges[i];
            t->from[i] = s;
            t->next_into[i] = t->first_into[e->to];
            t->first_into[e->to] = i;
            if (e->kind == GRAMMAR_EDGE_CALL) {
                t->next_call[i] = t->first_call[e->low];
                t->first_call[e->low] = i;
            }
        }
    }
}

static bool rule_is_nullable(const struct trim *t, uint32_t rule)
{
    const struct grammar_nfa_rule *r = &t->nfa->rules[rule];
    return t->is_empty[r->start] || (r->is_counted && r->min == 0);
}

static bool rule_is_productive(const struct trim *t, uint32_t rule)
{
    const struct grammar_nfa_rule *r = &t->nfa->rules[rule];
    return t->is_productive[r->start] || (r->is_counted && r->min == 0);
}

/* Whether the edge is a way on, and one without a symbol. */
static void trim_judge(const struct trim *t, const struct grammar_nfa_edge *e, bool *ret_way,
                       bool *ret_empty)
{
    *ret_way = e->kind != GRAMMAR_EDGE_CALL || rule_is_productive(t, e->low);
    *ret_empty = e->kind == GRAMMAR_EDGE_FREE ||
                 (e->kind == GRAMMAR_EDGE_CALL && rule_is_nullable(t, e->low));
}

/* The edge's target is known: so may be where it comes from. */
static void trim_learn(struct trim *t, uint32_t edge)
{
    const struct grammar_nfa_edge *e = &t->nfa->edges[edge];
    uint32_t from = t->from[edge];
    bool is_way, is_empty;
    trim_judge(t, e, &is_way, &is_empty);
    bool productive = is_way && t->is_productive[e->to];
    bool empty = is_empty && t->is_empty[e->to];
    if ((!productive || t->is_productive[from]) && (!empty || t->is_empty[from]))
        return;
    t->is_productive[from] |= productive;
    t->is_empty[from] |= empty;
    t->queue[t->n_queue++] = from;
}

static void trim_learn_calls(struct trim *t, uint32_t rule)
{
    for (uint32_t i = t->first_call[rule]; i != GRAMMAR_NONE; i = t->next_call[i])
        trim_learn(t, i);
}

/* A state is learned of twice at most, so the queue never holds more. */
static void trim_spread(struct trim *t)
{
    const struct grammar_nfa *n = t->nfa;
    for (uint32_t r = 0; r < n->n_rules; r++) {
        t->is_productive[n->rules[r].end] = t->is_empty[n->rules[r].end] = true;
        t->queue[t->n_queue++] = n->rules[r].end;
    }
    for (uint32_t r = 0; r < n->n_rules; r++)
        if (n->rules[r].is_counted && n->rules[r].min == 0)
            trim_learn_calls(t, r);
    while (t->n_queue) {
        uint32_t state = t->queue[--t->n_queue];
        for (uint32_t i = t->first_into[state]; i != GRAMMAR_NONE; i = t->next_into[i])
            trim_learn(t, i);
        if (t->rule_of_start[state] != GRAMMAR_NONE)
            trim_learn_calls(t, t->rule_of_start[state]);
    }
}

/* Edges that lead nowhere go; a call of a rule that can be empty may be passed by. What can be
 * repeated without a text need not be repeated at all. */
static void trim_apply(struct trim *t)
{
    struct grammar_nfa *n = t->nfa;
    for (uint32_t r = 0; r < n->n_rules; r++)
        if (n->rules[r].is_counted && t->is_empty[n->rules[r].start])
            n->rules[r].min = 0;
    for (uint32_t s = 0; s < n->n_states; s++) {
        uint32_t first = n->first_edge[s];
        n->first_edge[s] = GRAMMAR_NONE;
        for (uint32_t i = first, next; i != GRAMMAR_NONE; i = next) {
            struct grammar_nfa_edge *e = &n->edges[i];
            const struct grammar_nfa_edge was = *e;
            bool is_way, is_empty;
            next = was.next;
            trim_judge(t, &was, &is_way, &is_empty);
            if (!is_way || !t->is_productive[was.to])
                continue;
            e->next = n->first_edge[s];
            n->first_edge[s] = i;
            if (is_empty && was.kind == GRAMMAR_EDGE_CALL) /* may move the edges */
                grammar_nfa_edge(n, GRAMMAR_EDGE_FREE, s, 0, 0, was.to);
        }
    }
}

int grammar_trim(struct grammar_nfa *n, struct err *err)
{
    struct trim t = {.nfa = n};
    int rc = 0;
    if (!trim_claim(&t)) {
        rc = err_set(err, ERR_MEMORY, "there is no memory for it");
    } else {
        trim_index(&t);
        trim_spread(&t);
        if (!t.is_productive[n->rules[n->builder->start].start])
            rc = err_set(err, ERR_INPUT, "no text at all can match it");
        else
            trim_apply(&t);
    }
    trim_clear(&t);
    if (rc == 0 && n->has_no_memory)
        rc = err_set(err, ERR_MEMORY, "there is no memory for it");
    return rc;
}
