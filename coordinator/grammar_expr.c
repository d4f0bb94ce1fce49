#include "coordinator/grammar_expr.h"

#include "coordinator/grammar_automaton.h"

#include <string.h>

/* Trees and automata of one grammar, while it is compiled. */
#define BUILDER_BYTES ((size_t)64 << 20)
#define MOST_RULES    20000

static const struct grammar_expr never = {.kind = GRAMMAR_NEVER};
static const struct grammar_expr empty = {.kind = GRAMMAR_TEXT};

void grammar_builder_init(struct grammar_builder *b)
{
    *b = (struct grammar_builder){0};
    arena_init(&b->arena, BUILDER_BYTES);
}

void grammar_builder_clear(struct grammar_builder *b)
{
    arena_clear(&b->arena);
    *b = (struct grammar_builder){0};
}

uint32_t grammar_builder_rule(struct grammar_builder *b)
{
    if (b->n_rules == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 16;
        struct grammar_rule *grown =
            capacity > MOST_RULES ? NULL : arena_array(&b->arena, capacity, sizeof *grown);
        if (!grown) {
            b->failed = true;
            return 0;
        }
        if (b->n_rules)
            memcpy(grown, b->rules, b->n_rules * sizeof *grown);
        b->rules = grown;
        b->capacity = capacity;
    }
    return (uint32_t)b->n_rules++;
}

void grammar_list_add(struct grammar_builder *b, struct grammar_list *l,
                      const struct grammar_expr *e)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 8;
        const struct grammar_expr **grown = arena_array(&b->arena, capacity, sizeof(void *));
        if (!grown) {
            b->failed = true;
            return;
        }
        if (l->n)
            memcpy(grown, l->items, l->n * sizeof(void *));
        l->items = grown;
        l->capacity = capacity;
    }
    l->items[l->n++] = e;
}

static struct grammar_expr *expr_new(struct grammar_builder *b, enum grammar_kind kind,
                                     uint32_t size)
{
    struct grammar_expr *e = arena_alloc(&b->arena, sizeof *e);
    if (!e) {
        b->failed = true;
        return NULL;
    }
    e->kind = kind;
    e->size = size;
    return e;
}

static uint32_t size_sum(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

const struct grammar_expr *grammar_never(void)
{
    return &never;
}

const struct grammar_expr *grammar_empty(void)
{
    return &empty;
}

const struct grammar_expr *grammar_text(struct grammar_builder *b, const char *bytes, size_t length)
{
    if (length == 0)
        return &empty;
    struct grammar_expr *e = expr_new(b, GRAMMAR_TEXT, (uint32_t)length);
    unsigned char *copy = e ? arena_alloc(&b->arena, length) : NULL;
    if (!copy) {
        b->failed = true;
        return &never;
    }
    memcpy(copy, bytes, length);
    e->text.bytes = copy;
    e->text.length = length;
    return e;
}

const struct grammar_expr *grammar_class(struct grammar_builder *b,
                                         const struct grammar_charset *set,
                                         enum grammar_spelling spelling)
{
    if (set->n == 0)
        return &never;
    bool is_ascii = set->ranges[set->n - 1].high < 0x80;
    struct grammar_expr *e =
        expr_new(b, GRAMMAR_CLASS, (is_ascii ? 1U : 8U) + (spelling == GRAMMAR_JSON ? 5U : 0U));
    if (!e)
        return &never;
    e->spelling = spelling;
    e->set = *set;
    return e;
}

const struct grammar_expr *grammar_range(struct grammar_builder *b, uint32_t low, uint32_t high,
                                         enum grammar_spelling spelling)
{
    struct grammar_charset set = {0};
    if (!grammar_charset_add(&set, &b->arena, low, high) ||
        !grammar_charset_sort(&set, &b->arena)) {
        b->failed = true;
        return &never;
    }
    return grammar_class(b, &set, spelling);
}

static const struct grammar_expr *expr_list(struct grammar_builder *b, enum grammar_kind kind,
                                            const struct grammar_expr *const *items, size_t n)
{
    struct grammar_expr *e = expr_new(b, kind, 1);
    const struct grammar_expr **copy = e ? arena_array(&b->arena, n, sizeof(void *)) : NULL;
    if (!copy) {
        b->failed = true;
        return &never;
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = items[i];
        e->size = size_sum(e->size, items[i]->size);
    }
    e->list.items = copy;
    e->list.n = n;
    return e;
}

const struct grammar_expr *grammar_sequence(struct grammar_builder *b,
                                            const struct grammar_expr *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (items[i]->kind == GRAMMAR_NEVER)
            return &never;
    return n == 0 ? &empty : n == 1 ? items[0] : expr_list(b, GRAMMAR_SEQUENCE, items, n);
}

const struct grammar_expr *grammar_choice(struct grammar_builder *b,
                                          const struct grammar_expr *const *items, size_t n)
{
    size_t possible = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i]->kind != GRAMMAR_NEVER) {
            possible++;
            last = i;
        }
    }
    return possible == 0   ? &never
           : possible == 1 ? items[last]
                           : expr_list(b, GRAMMAR_CHOICE, items, n);
}

const struct grammar_expr *grammar_repeat(struct grammar_builder *b,
                                          const struct grammar_expr *item, uint32_t min,
                                          uint32_t max)
{
    if (min > max)
        return &never;
    if (max == 0 || (item->kind == GRAMMAR_TEXT && item->text.length == 0))
        return &empty;
    if (item->kind == GRAMMAR_NEVER)
        return min == 0 ? &empty : &never;
    if (min == 1 && max == 1)
        return item;
    struct grammar_expr *e = expr_new(b, GRAMMAR_REPEAT, size_sum(item->size, 2));
    if (!e)
        return &never;
    uint64_t copies = max == GRAMMAR_UNBOUNDED ? (uint64_t)min + 1 : max;
    e->size =
        copies * (item->size + 1) > UINT32_MAX ? UINT32_MAX : (uint32_t)(copies * (item->size + 1));
    e->repeat.item = item;
    e->repeat.min = min;
    e->repeat.max = max;
    return e;
}

const struct grammar_expr *grammar_optional(struct grammar_builder *b,
                                            const struct grammar_expr *item)
{
    return grammar_repeat(b, item, 0, 1);
}

const struct grammar_expr *grammar_call(struct grammar_builder *b, uint32_t rule)
{
    struct grammar_expr *e = expr_new(b, GRAMMAR_CALL, 1);
    if (!e)
        return &never;
    e->rule = rule;
    return e;
}

const struct grammar_expr *grammar_from_automaton(struct grammar_builder *b,
                                                  const struct grammar_automaton *automaton,
                                                  enum grammar_spelling spelling)
{
    struct grammar_expr *e = expr_new(b, GRAMMAR_AUTOMATON, grammar_automaton_size(automaton));
    if (!e)
        return &never;
    e->spelling = spelling;
    e->automaton = automaton;
    return e;
}

struct grammar_expr *grammar_graph(struct grammar_builder *b, uint32_t n_nodes, uint32_t end)
{
    struct grammar_expr *e = expr_new(b, GRAMMAR_GRAPH, n_nodes);
    if (!e)
        return &b->nothing;
    e->graph.n_nodes = n_nodes;
    e->graph.end = end;
    return e;
}

void grammar_graph_add(struct grammar_builder *b, struct grammar_expr *graph, uint32_t from,
                       const struct grammar_expr *expr, uint32_t to)
{
    if (b->failed || expr->kind == GRAMMAR_NEVER)
        return;
    if (graph->graph.n_edges == graph->graph.capacity) {
        size_t capacity = graph->graph.capacity ? 2 * graph->graph.capacity : 8;
        struct grammar_graph_edge *grown = arena_array(&b->arena, capacity, sizeof *grown);
        if (!grown) {
            b->failed = true;
            return;
        }
        if (graph->graph.n_edges)
            memcpy(grown, graph->graph.edges, graph->graph.n_edges * sizeof *grown);
        graph->graph.edges = grown;
        graph->graph.capacity = capacity;
    }
    graph->graph.edges[graph->graph.n_edges++] = (struct grammar_graph_edge){from, to, expr};
    graph->size = size_sum(graph->size, expr->size);
}
