#include "coordinator/grammar.h"

#include "coordinator/grammar_subset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- counted rules ---- */

static bool dfa_has_bytes(const struct grammar_dfa *d, uint32_t state)
{
    for (uint32_t c = 0; c < d->n_classes; c++)
        if (d->next[(size_t)state * d->n_classes + c] != GRAMMAR_NONE)
            return true;
    return false;
}

/* Whether what is repeated always ends where it can end, and never passes its beginning again: then
 * its end and its beginning can be one state, the head. */
static bool counted_is_simple(const struct grammar_dfa *d, uint32_t first, uint32_t past)
{
    for (uint32_t s = first; s < past; s++) {
        const struct grammar_dfa_state *state = &d->states[s];
        if (state->accepts && (state->n_calls || dfa_has_bytes(d, s)))
            return false;
        for (uint32_t c = 0; c < d->n_classes; c++)
            if (d->next[(size_t)s * d->n_classes + c] == first)
                return false;
        for (uint32_t i = 0; i < state->n_calls; i++)
            if (d->calls[state->first_call + i].to == first)
                return false;
    }
    return true;
}

static void counted_close(struct grammar_dfa *d, uint32_t first, uint32_t past)
{
    for (uint32_t s = first; s < past; s++) {
        for (uint32_t c = 0; c < d->n_classes; c++) {
            uint32_t *to = &d->next[(size_t)s * d->n_classes + c];
            if (*to != GRAMMAR_NONE && d->states[*to].accepts)
                *to = first;
        }
        for (uint32_t i = 0; i < d->states[s].n_calls; i++) {
            uint32_t *to = &d->calls[d->states[s].first_call + i].to;
            if (d->states[*to].accepts)
                *to = first;
        }
    }
}

/* The head of each counted rule, in `heads`: its first state, or a new one that calls what is
 * repeated, which then is a rule of its own. */
static int counted_finish(struct grammar_dfa *d, const struct grammar_nfa *n, uint32_t *heads,
                          struct err *err)
{
    const uint32_t n_states = d->n_states;
    uint32_t n_rules = n->n_rules;
    for (uint32_t r = 0; r < n->n_rules; r++) {
        uint32_t first = d->starts[r], past = r + 1 < n->n_rules ? d->starts[r + 1] : n_states;
        heads[r] = GRAMMAR_NONE;
        if (!n->rules[r].is_counted)
            continue;
        if (counted_is_simple(d, first, past)) {
            counted_close(d, first, past);
            heads[r] = first;
            continue;
        }
        uint32_t head = grammar_dfa_state(d, r);
        if (head == GRAMMAR_NONE || !grammar_dfa_call(d, head, n_rules, head))
            return err_set(err, ERR_INPUT, "it is too large");
        heads[r] = head;
        heads[n_rules++] = first; /* the number that stands for what is repeated */
    }
    return 0;
}

/* ---- the form that is walked through ---- */

static void grammar_fill_state(struct grammar *g, const struct grammar_dfa *d, uint32_t from)
{
    struct grammar_state *s = &g->states[from + 1];
    const struct grammar_dfa_state *was = &d->states[from];
    s->rule = was->rule;
    s->first_call = was->first_call;
    s->n_calls = was->n_calls;
    s->accepts = was->accepts;
    for (uint32_t c = 0; c < d->n_classes; c++) {
        uint32_t to = d->next[(size_t)from * d->n_classes + c];
        g->next[(size_t)(from + 1) * d->n_classes + c] =
            to == GRAMMAR_NONE ? 0 : (uint16_t)(to + 1);
        s->has_bytes = s->has_bytes || to != GRAMMAR_NONE;
    }
}

static void grammar_count(struct grammar_state *s, const struct grammar_nfa_rule *r)
{
    s->is_counted = true;
    s->min = r->min;
    s->max = r->max;
}

/* heads: of counted rules, then what some of them repeat. */
static void grammar_fill_calls(struct grammar *g, const struct grammar_dfa *d,
                               const struct grammar_nfa *n, const uint32_t *heads)
{
    for (uint32_t i = 0; i < d->n_calls; i++) {
        uint32_t rule = d->calls[i].rule, to = d->calls[i].to + 1;
        uint32_t start =
            rule < n->n_rules && heads[rule] == GRAMMAR_NONE ? d->starts[rule] : heads[rule];
        const struct grammar_state *s = &g->states[to];
        g->calls[i] = (struct grammar_calls){
            .rule = rule,
            .start = start + 1,
            .to = to,
            .is_last = s->accepts && !s->has_bytes && !s->n_calls && !s->is_head,
        };
    }
}

/* ---- what may follow a rule ---- */

static bool bytes_add(struct grammar_bytes *to, const struct grammar_bytes *from)
{
    bool changed = false;
    for (size_t i = 0; i < 4; i++) {
        changed = changed || (from->bits[i] & ~to->bits[i]);
        to->bits[i] |= from->bits[i];
    }
    return changed;
}

/* With what a text goes on at a state; a call that may be empty has a way past it. */
static void first_bytes(const struct grammar *g, struct grammar_bytes *first)
{
    for (uint32_t i = 1; i < g->n_states; i++)
        for (unsigned byte = 0; byte < 256; byte++)
            if (grammar_next(g, i, (unsigned char)byte))
                first[i].bits[byte / 64] |= (uint64_t)1 << byte % 64;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 1; i < g->n_states; i++)
            for (uint32_t k = 0; k < g->states[i].n_calls; k++)
                changed |=
                    bytes_add(&first[i], &first[g->calls[g->states[i].first_call + k].start]);
    }
}

static bool grammar_follow(struct grammar *g)
{
    struct grammar_bytes *first = calloc(g->n_states, sizeof *first);
    if (!first)
        return false;
    first_bytes(g, first);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 1; i < g->n_states; i++) {
            for (uint32_t k = 0; k < g->states[i].n_calls; k++) {
                const struct grammar_calls *c = &g->calls[g->states[i].first_call + k];
                struct grammar_bytes *to = &g->follow[g->states[c->start].rule];
                changed |= bytes_add(to, &first[c->to]);
                if (g->states[c->to].accepts)
                    changed |= bytes_add(to, &g->follow[g->states[c->to].rule]);
            }
        }
    }
    free(first);
    return true;
}

/* n_rule_states: without the heads that were added. */
static void grammar_fill(struct grammar *g, const struct grammar_dfa *d,
                         const struct grammar_nfa *n, const uint32_t *heads, uint32_t n_rule_states)
{
    for (uint32_t c = 0; c < d->n_classes; c++)
        for (uint32_t byte = d->first_symbol[c]; byte < d->first_symbol[c + 1]; byte++)
            g->class_of[byte] = (uint8_t)c;
    for (uint32_t i = 0; i < d->n_states; i++)
        grammar_fill_state(g, d, i);
    for (uint32_t r = 0; r < n->n_rules; r++) {
        if (!n->rules[r].is_counted)
            continue;
        uint32_t past = r + 1 < n->n_rules ? d->starts[r + 1] : n_rule_states;
        for (uint32_t i = d->starts[r]; i < past && heads[r] == d->starts[r]; i++)
            grammar_count(&g->states[i + 1], &n->rules[r]);
        struct grammar_state *head = &g->states[heads[r] + 1];
        grammar_count(head, &n->rules[r]);
        head->is_head = head->accepts = true;
    }
    for (uint32_t i = 1; i < g->n_states; i++) {
        struct grammar_state *s = &g->states[i];
        s->is_plain = !s->n_calls && !s->accepts && !s->is_head;
        s->loops = true;
        for (unsigned byte = 0; byte < 256; byte++)
            if (grammar_is_loop_byte((unsigned char)byte))
                s->loops = s->loops && grammar_next(g, i, (unsigned char)byte) == i;
    }
    grammar_fill_calls(g, d, n, heads);
    g->start = d->starts[n->builder->start] + 1;
}

static int grammar_from_dfa(struct grammar **ret_grammar, const struct grammar_dfa *d,
                            const struct grammar_nfa *n, const uint32_t *heads,
                            uint32_t n_rule_states, struct err *err)
{
    struct grammar *g = calloc(1, sizeof *g);
    assert(d->n_classes <= 256 && d->n_states < UINT16_MAX);
    if (g) {
        g->n_classes = d->n_classes;
        g->n_states = d->n_states + 1;
        g->n_rules = 2 * n->n_rules;
        g->next = calloc((size_t)g->n_states * g->n_classes, sizeof *g->next);
        g->states = calloc(g->n_states, sizeof *g->states);
        g->calls = calloc((size_t)d->n_calls + 1, sizeof *g->calls);
        g->follow = calloc(g->n_rules, sizeof *g->follow);
    }
    if (!g || !g->next || !g->states || !g->calls || !g->follow) {
        grammar_free(g);
        return err_set(err, ERR_MEMORY, "there is no memory for it");
    }
    grammar_fill(g, d, n, heads, n_rule_states);
    if (!grammar_follow(g)) {
        grammar_free(g);
        return err_set(err, ERR_MEMORY, "there is no memory for it");
    }
    *ret_grammar = g;
    return 0;
}

int grammar_compile(struct grammar **ret_grammar, const struct grammar_builder *b, struct err *err)
{
    struct grammar_nfa n = {0};
    struct grammar_dfa d = {0};
    uint32_t *heads = NULL, n_rule_states = 0;
    uint64_t work = 0;
    if (b->failed)
        return err_set(err, ERR_INPUT, "it is too large: there is no memory for it");
    int rc = grammar_nfa_make(&n, b, NULL, err);
    if (rc == 0)
        rc = grammar_trim(&n, err);
    if (rc == 0)
        rc = grammar_dfa_make(&d, &n, &work, err);
    if (rc == 0) {
        n_rule_states = d.n_states;
        heads = calloc(2 * (size_t)n.n_rules, sizeof *heads);
        rc = heads ? counted_finish(&d, &n, heads, err)
                   : err_set(err, ERR_MEMORY, "there is no memory for it");
    }
    if (rc == 0)
        rc = grammar_from_dfa(ret_grammar, &d, &n, heads, n_rule_states, err);
    free(heads);
    grammar_dfa_clear(&d);
    grammar_nfa_clear(&n);
    return rc;
}

void grammar_free(struct grammar *g)
{
    if (!g)
        return;
    free(g->next);
    free(g->states);
    free(g->calls);
    free(g->follow);
    free(g);
}

size_t grammar_bytes(const struct grammar *g)
{
    return sizeof *g + (size_t)g->n_states * (g->n_classes * sizeof *g->next + sizeof *g->states);
}
