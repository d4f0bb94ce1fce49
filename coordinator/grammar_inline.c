#include "coordinator/grammar_nfa.h"

#include <stdlib.h>

/* Larger rules are called instead of written out where they are used. */
#define MOST_INLINE_STATES 200

struct rule_call {
    uint32_t caller, callee;
};

struct inlining {
    const struct grammar_builder *builder;
    struct rule_call *calls; /* [n_calls], in the order of callees once all are there */
    size_t n_calls, capacity;
    uint32_t *size;   /* [n_rules], with what is written out inside */
    uint32_t *n_open; /* [n_rules]: calls to rules that are not judged yet */
    uint32_t *queue;  /* [n_rules] */
    bool *is_inlined;
    uint32_t now; /* caller, while its calls are collected */
    bool failed;
};

static void inline_add_call(struct inlining *f, uint32_t callee)
{
    if (f->n_calls == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 64;
        struct rule_call *grown = realloc(f->calls, capacity * sizeof *grown);
        if (!grown) {
            f->failed = true;
            return;
        }
        f->calls = grown;
        f->capacity = capacity;
    }
    f->calls[f->n_calls++] = (struct rule_call){f->now, callee};
}

static void inline_collect(struct inlining *f, const struct grammar_expr *e)
{
    if (!e || f->failed)
        return;
    switch (e->kind) {
    case GRAMMAR_SEQUENCE:
    case GRAMMAR_CHOICE:
        for (size_t i = 0; i < e->list.n; i++)
            inline_collect(f, e->list.items[i]);
        break;
    case GRAMMAR_REPEAT:
        inline_collect(f, e->repeat.item);
        break;
    case GRAMMAR_GRAPH:
        for (size_t i = 0; i < e->graph.n_edges; i++)
            inline_collect(f, e->graph.edges[i].expr);
        break;
    case GRAMMAR_CALL:
        inline_add_call(f, e->rule);
        break;
    default:
        break;
    }
}

static int inline_compare(const void *a, const void *b)
{
    const struct rule_call *x = a, *y = b;
    return (x->callee > y->callee) - (x->callee < y->callee);
}

/* calls by callee: the first of that one, or n_calls. */
static size_t inline_first_caller(const struct inlining *f, uint32_t callee)
{
    size_t low = 0, high = f->n_calls;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (f->calls[middle].callee < callee)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Judges rules whose callees are all judged, beginning with the queue's. Those that call each other
 * in a circle, and those that call them, are never reached: they are not written out. */
static void inline_judge(struct inlining *f, size_t n_queue)
{
    while (n_queue) {
        uint32_t rule = f->queue[--n_queue];
        const struct grammar_rule *r = &f->builder->rules[rule];
        if (r->is_shared) /* which its callers know */
            continue;
        f->is_inlined[rule] =
            f->size[rule] <= MOST_INLINE_STATES && rule != f->builder->start && r->expr;
        for (size_t i = inline_first_caller(f, rule); i < f->n_calls && f->calls[i].callee == rule;
             i++) {
            uint32_t caller = f->calls[i].caller;
            if (f->is_inlined[rule] && f->size[caller] <= MOST_INLINE_STATES)
                f->size[caller] += f->size[rule];
            if (--f->n_open[caller] == 0)
                f->queue[n_queue++] = caller;
        }
    }
}

static bool inline_run(struct inlining *f)
{
    const size_t n_rules = f->builder->n_rules;
    size_t n_queue = 0;
    f->size = calloc(n_rules, sizeof *f->size);
    f->n_open = calloc(n_rules, sizeof *f->n_open);
    f->queue = calloc(n_rules, sizeof *f->queue);
    f->is_inlined = calloc(n_rules, sizeof *f->is_inlined);
    if (!f->size || !f->n_open || !f->queue || !f->is_inlined)
        return false;
    for (f->now = 0; f->now < n_rules; f->now++) {
        const struct grammar_expr *e = f->builder->rules[f->now].expr;
        f->size[f->now] = e ? e->size : 0;
        inline_collect(f, e);
    }
    if (f->failed)
        return false;
    for (size_t i = 0; i < f->n_calls; i++)
        f->n_open[f->calls[i].caller] += !f->builder->rules[f->calls[i].callee].is_shared;
    if (f->n_calls)
        qsort(f->calls, f->n_calls, sizeof *f->calls, inline_compare);
    for (uint32_t i = 0; i < n_rules; i++)
        if (f->n_open[i] == 0)
            f->queue[n_queue++] = i;
    inline_judge(f, n_queue);
    return true;
}

bool *grammar_inline_find(const struct grammar_builder *b)
{
    struct inlining f = {.builder = b};
    bool *found = NULL;
    if (inline_run(&f)) {
        found = f.is_inlined;
        f.is_inlined = NULL;
    }
    free(f.calls);
    free(f.size);
    free(f.n_open);
    free(f.queue);
    free(f.is_inlined);
    return found;
}
