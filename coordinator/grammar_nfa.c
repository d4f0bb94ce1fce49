#include "coordinator/grammar_nfa.h"

#include "coordinator/grammar_automaton.h"
#include "coordinator/grammar_utf8.h"

#include <stdlib.h>
#include <string.h>

#define MOST_STATES 200000
/* A repetition is counted when written out it would be longer, and take more states. */
#define COUNT_ABOVE_COPIES 7
#define COUNT_ABOVE_STATES 128
/* The same for repetitions of a call, and for any that are shorter. */
#define COUNT_ABOVE_ALWAYS 1024

static void *nfa_grow(struct grammar_nfa *n, void *array, uint32_t *capacity, size_t size)
{
    uint32_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(array, wanted * size);
    if (!grown) {
        n->has_no_memory = true;
        return array;
    }
    *capacity = wanted;
    return grown;
}

uint32_t grammar_nfa_state(struct grammar_nfa *n)
{
    if (n->n_states >= n->most_states)
        n->is_too_large = true;
    if (n->is_too_large || n->has_no_memory)
        return 0;
    if (n->n_states == n->states_capacity)
        n->first_edge = nfa_grow(n, n->first_edge, &n->states_capacity, sizeof *n->first_edge);
    if (n->has_no_memory)
        return 0;
    n->first_edge[n->n_states] = GRAMMAR_NONE;
    return n->n_states++;
}

void grammar_nfa_edge(struct grammar_nfa *n, enum grammar_edge_kind kind, uint32_t from,
                      uint32_t low, uint32_t high, uint32_t to)
{
    if (n->n_edges >= 8 * n->most_states)
        n->is_too_large = true;
    if (n->is_too_large || n->has_no_memory)
        return;
    if (n->n_edges == n->edges_capacity)
        n->edges = nfa_grow(n, n->edges, &n->edges_capacity, sizeof *n->edges);
    if (n->has_no_memory)
        return;
    n->edges[n->n_edges] = (struct grammar_nfa_edge){kind, low, high, to, n->first_edge[from]};
    n->first_edge[from] = n->n_edges++;
}

static void nfa_free(struct grammar_nfa *n, uint32_t from, uint32_t to)
{
    grammar_nfa_edge(n, GRAMMAR_EDGE_FREE, from, 0, 0, to);
}

static void nfa_emit(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                     uint32_t to);

static void nfa_emit_text(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                          uint32_t to)
{
    const unsigned char *at = e->text.bytes, *end = at + e->text.length;
    if (at == end)
        nfa_free(n, from, to);
    while (at < end) {
        uint32_t symbol = *at;
        size_t length = 1;
        if (n->in_characters && symbol >= 0x80) /* what automata are made of is valid UTF-8 */
            length = grammar_utf8_decode(at, (size_t)(end - at), &symbol);
        at += length;
        uint32_t next = at < end ? grammar_nfa_state(n) : to;
        grammar_nfa_edge(n, GRAMMAR_EDGE_SYMBOL, from, symbol, symbol, next);
        from = next;
    }
}

static void nfa_emit_sequence(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                              uint32_t to)
{
    for (size_t i = 0; i < e->list.n; i++) {
        uint32_t next = i + 1 < e->list.n ? grammar_nfa_state(n) : to;
        nfa_emit(n, e->list.items[i], from, next);
        from = next;
    }
}

/* A rule that counts; the same repetition again is the same rule. */
static uint32_t nfa_counted_rule(struct grammar_nfa *n, const struct grammar_expr *e)
{
    for (uint32_t i = (uint32_t)n->builder->n_rules; i < n->n_rules; i++) {
        const struct grammar_nfa_rule *r = &n->rules[i];
        if (r->is_counted && r->expr == e->repeat.item && r->min == e->repeat.min &&
            r->max == e->repeat.max)
            return i;
    }
    if (n->n_rules == n->rules_capacity)
        n->rules = nfa_grow(n, n->rules, &n->rules_capacity, sizeof *n->rules);
    if (n->has_no_memory)
        return 0;
    n->rules[n->n_rules] = (struct grammar_nfa_rule){
        .expr = e->repeat.item, .is_counted = true, .min = e->repeat.min, .max = e->repeat.max};
    return n->n_rules++;
}

static bool nfa_is_counted(const struct grammar_nfa *n, const struct grammar_expr *e)
{
    const bool is_open = e->repeat.max == GRAMMAR_UNBOUNDED;
    const uint32_t copies = is_open ? e->repeat.min : e->repeat.max;
    const bool is_long = copies > COUNT_ABOVE_COPIES && e->repeat.item->kind != GRAMMAR_CALL;
    if (n->in_characters || copies <= 1)
        return false;
    return e->size > (is_long ? COUNT_ABOVE_STATES : COUNT_ABOVE_ALWAYS);
}

static void nfa_emit_repeat(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                            uint32_t to)
{
    if (nfa_is_counted(n, e)) {
        grammar_nfa_edge(n, GRAMMAR_EDGE_CALL, from, nfa_counted_rule(n, e), 0, to);
        return;
    }
    uint32_t at = grammar_nfa_state(n);
    nfa_free(n, from, at);
    for (uint32_t i = 0; i < e->repeat.min && !n->is_too_large && !n->has_no_memory; i++) {
        uint32_t next = grammar_nfa_state(n);
        nfa_emit(n, e->repeat.item, at, next);
        at = next;
    }
    if (e->repeat.max == GRAMMAR_UNBOUNDED) {
        uint32_t loop = grammar_nfa_state(n), end = grammar_nfa_state(n);
        nfa_free(n, at, loop);
        nfa_emit(n, e->repeat.item, loop, end);
        nfa_free(n, end, loop);
        at = loop;
    } else {
        for (uint32_t i = e->repeat.min; i < e->repeat.max && !n->is_too_large; i++) {
            uint32_t next = grammar_nfa_state(n);
            nfa_free(n, at, to);
            nfa_emit(n, e->repeat.item, at, next);
            at = next;
            if (n->has_no_memory)
                return;
        }
    }
    nfa_free(n, at, to);
}

static void nfa_emit_graph(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                           uint32_t to)
{
    uint32_t first = n->n_states;
    for (uint32_t i = 0; i < e->graph.n_nodes; i++)
        grammar_nfa_state(n);
    if (n->is_too_large || n->has_no_memory)
        return;
    nfa_free(n, from, first);
    nfa_free(n, first + e->graph.end, to);
    for (size_t i = 0; i < e->graph.n_edges; i++) {
        const struct grammar_graph_edge *g = &e->graph.edges[i];
        nfa_emit(n, g->expr, first + g->from, first + g->to);
    }
}

/* All arrows to where arrow k leads, if it is the first of them. Those that a deterministic
 * automaton has to one state are few. */
static void nfa_emit_arrows(struct grammar_nfa *n, const struct grammar_automaton_state *s,
                            uint32_t k, enum grammar_spelling spelling, uint32_t from,
                            uint32_t first)
{
    struct grammar_range ranges[64];
    struct grammar_charset set = {.ranges = ranges};
    const uint32_t to = s->arrows[k].to;
    for (uint32_t i = 0; i < k; i++)
        if (s->arrows[i].to == to)
            return;
    for (uint32_t i = k; i < s->n_arrows; i++) {
        if (s->arrows[i].to != to)
            continue;
        ranges[set.n++] = (struct grammar_range){s->arrows[i].low, s->arrows[i].high};
        if (set.n == sizeof ranges / sizeof ranges[0]) {
            grammar_nfa_spell(n, &set, spelling, from, first + to);
            set.n = 0;
        }
    }
    grammar_nfa_spell(n, &set, spelling, from, first + to);
}

static void nfa_emit_automaton(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                               uint32_t to)
{
    const struct grammar_automaton *a = e->automaton;
    uint32_t first = n->n_states;
    for (uint32_t i = 0; i < a->n_states; i++)
        grammar_nfa_state(n);
    if (n->is_too_large || n->has_no_memory)
        return;
    nfa_free(n, from, first);
    for (uint32_t i = 0; i < a->n_states; i++) {
        const struct grammar_automaton_state *s = &a->states[i];
        if (s->accepts)
            nfa_free(n, first + i, to);
        for (uint32_t k = 0; k < s->n_arrows; k++)
            nfa_emit_arrows(n, s, k, e->spelling, first + i, first);
    }
}

/* Depth: a tree's own is bounded by who built it, and an inlined rule is larger than those that it
 * calls, up to a limit. */
static void nfa_emit(struct grammar_nfa *n, const struct grammar_expr *e, uint32_t from,
                     uint32_t to)
{
    if (n->is_too_large || n->has_no_memory)
        return;
    switch (e->kind) {
    case GRAMMAR_NEVER:
        break;
    case GRAMMAR_TEXT:
        nfa_emit_text(n, e, from, to);
        break;
    case GRAMMAR_CLASS:
        grammar_nfa_spell(n, &e->set, e->spelling, from, to);
        break;
    case GRAMMAR_SEQUENCE:
        nfa_emit_sequence(n, e, from, to);
        break;
    case GRAMMAR_CHOICE:
        for (size_t i = 0; i < e->list.n; i++)
            nfa_emit(n, e->list.items[i], from, to);
        break;
    case GRAMMAR_REPEAT:
        nfa_emit_repeat(n, e, from, to);
        break;
    case GRAMMAR_CALL:
        if (n->is_inlined && n->is_inlined[e->rule])
            nfa_emit(n, n->builder->rules[e->rule].expr, from, to);
        else
            grammar_nfa_edge(n, GRAMMAR_EDGE_CALL, from, e->rule, 0, to);
        break;
    case GRAMMAR_GRAPH:
        nfa_emit_graph(n, e, from, to);
        break;
    case GRAMMAR_AUTOMATON:
        nfa_emit_automaton(n, e, from, to);
        break;
    }
}

static bool nfa_add_rules(struct grammar_nfa *n, const struct grammar_builder *b,
                          const struct grammar_expr *expr)
{
    uint32_t count = expr ? 1 : (uint32_t)b->n_rules;
    n->rules = calloc(count + 1, sizeof *n->rules);
    if (!n->rules)
        return false;
    n->n_rules = count;
    n->rules_capacity = count + 1;
    for (uint32_t i = 0; i < count; i++)
        n->rules[i].expr = expr ? expr : b->rules[i].expr ? b->rules[i].expr : grammar_never();
    if (!expr)
        n->is_inlined = grammar_inline_find(b);
    return expr || n->is_inlined;
}

int grammar_nfa_make(struct grammar_nfa *n, const struct grammar_builder *b,
                     const struct grammar_expr *expr, struct err *err)
{
    *n = (struct grammar_nfa){
        .builder = b, .in_characters = expr != NULL, .most_states = MOST_STATES};
    if (!nfa_add_rules(n, b, expr))
        n->has_no_memory = true;
    /* Counted rules are added while others are written out. */
    for (uint32_t i = 0; i < n->n_rules && !n->has_no_memory && !n->is_too_large; i++) {
        const struct grammar_expr *e = n->rules[i].expr;
        uint32_t start = grammar_nfa_state(n), end = grammar_nfa_state(n);
        n->rules[i].start = start;
        n->rules[i].end = end;
        if (i == b->start || i >= b->n_rules || !n->is_inlined || !n->is_inlined[i])
            nfa_emit(n, e, start, end);
    }
    if (n->has_no_memory)
        return err_set(err, ERR_MEMORY, "there is no memory for it");
    if (n->is_too_large)
        return err_set(err, ERR_INPUT, "it is too large: written out it has more than %u states",
                       n->most_states);
    return 0;
}

void grammar_nfa_clear(struct grammar_nfa *n)
{
    free(n->is_inlined);
    free(n->first_edge);
    free(n->edges);
    free(n->shared);
    free(n->rules);
    *n = (struct grammar_nfa){0};
}
