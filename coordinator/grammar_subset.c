#include "coordinator/grammar_subset.h"

#include <stdlib.h>
#include <string.h>

/* What a client's grammar may cost. */
#define MOST_STATES  60000
#define MOST_CELLS   ((size_t)6 << 20) /* states × classes */
#define MOST_CLASSES 4096

struct list {
    uint32_t *at;
    size_t n, capacity;
};

/* Sets of states of one rule's automaton become states of d. A set holds those that have an edge
 * with a symbol or a call, or are the rule's end, in ascending order. */
struct subset {
    struct grammar_dfa *d;
    const struct grammar_nfa *nfa;
    uint32_t rule, base;       /* the rule's states begin there */
    struct list sets, offsets; /* all of them in a row; where each begins, and the last ends */
    struct list slots;         /* open addressing: 1 + number of a set, or 0 */
    struct list edges, marks;  /* of one set: symbol edges, and where their classes begin or end */
    struct list active;        /* of these, those that take a class */
    uint32_t *first_from;      /* [n_classes]: the first of those that begin there, GRAMMAR_NONE */
    uint32_t *next_from;       /* [edges.n]: the next that begins there */
    size_t from_capacity;
    struct list calls;         /* of one set: call edges, by rule */
    struct list stack, found;  /* of one closure */
    uint32_t *stamps, stamp;   /* [nfa->n_states] */
    uint32_t *class_of_symbol; /* of symbols below 256 */
    uint64_t work;
    bool is_too_large, has_no_memory;
};

static bool subset_failed(const struct subset *s)
{
    return s->is_too_large || s->has_no_memory;
}

static void list_add(struct subset *s, struct list *l, uint32_t value)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 256;
        uint32_t *grown = realloc(l->at, capacity * sizeof *grown);
        if (!grown) {
            s->has_no_memory = true;
            return;
        }
        l->at = grown;
        l->capacity = capacity;
    }
    l->at[l->n++] = value;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void list_sort_unique(struct list *l)
{
    size_t n = 0;
    if (l->n)
        qsort(l->at, l->n, sizeof *l->at, compare_numbers);
    for (size_t i = 0; i < l->n; i++)
        if (n == 0 || l->at[n - 1] != l->at[i])
            l->at[n++] = l->at[i];
    l->n = n;
}

/* ---- states ---- */

uint32_t grammar_dfa_state(struct grammar_dfa *d, uint32_t rule)
{
    if (d->n_states >= MOST_STATES || (size_t)d->n_states * d->n_classes > MOST_CELLS)
        return GRAMMAR_NONE;
    if (d->n_states == d->states_capacity) {
        uint32_t capacity = d->states_capacity ? 2 * d->states_capacity : 64;
        struct grammar_dfa_state *states = realloc(d->states, capacity * sizeof *states);
        d->states = states ? states : d->states;
        uint32_t *next = realloc(d->next, (size_t)capacity * (d->n_classes + 1) * sizeof *next);
        d->next = next ? next : d->next;
        if (!states || !next)
            return GRAMMAR_NONE;
        d->states_capacity = capacity;
    }
    d->states[d->n_states] = (struct grammar_dfa_state){.rule = rule, .first_call = d->n_calls};
    memset(d->next + (size_t)d->n_states * d->n_classes, 0xFF,
           d->n_classes * sizeof *d->next); /* GRAMMAR_NONE */
    return d->n_states++;
}

bool grammar_dfa_call(struct grammar_dfa *d, uint32_t from, uint32_t rule, uint32_t to)
{
    if (d->n_calls == d->calls_capacity) {
        uint32_t capacity = d->calls_capacity ? 2 * d->calls_capacity : 64;
        struct grammar_dfa_call *grown = realloc(d->calls, capacity * sizeof *grown);
        if (!grown)
            return false;
        d->calls = grown;
        d->calls_capacity = capacity;
    }
    struct grammar_dfa_state *s = &d->states[from];
    if (s->n_calls == 0)
        s->first_call = d->n_calls;
    s->n_calls++;
    d->calls[d->n_calls++] = (struct grammar_dfa_call){rule, to};
    return true;
}

/* ---- sets ---- */

static uint64_t set_hash(const uint32_t *set, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ set[i]) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static size_t set_slot(const struct subset *s, const uint32_t *set, size_t n)
{
    size_t at = set_hash(set, n) & (s->slots.capacity - 1);
    for (; s->slots.at[at]; at = (at + 1) & (s->slots.capacity - 1)) {
        const uint32_t *offset = &s->offsets.at[s->slots.at[at] - 1];
        if (offset[1] - offset[0] == n && memcmp(s->sets.at + offset[0], set, n * sizeof *set) == 0)
            break;
    }
    return at;
}

static bool subset_grow_slots(struct subset *s)
{
    size_t n_sets = s->offsets.n - 1, capacity = s->slots.capacity;
    if (capacity >= 2 * (n_sets + 1))
        return true;
    capacity = capacity ? 2 * capacity : 256;
    uint32_t *slots = calloc(capacity, sizeof *slots);
    if (!slots) {
        s->has_no_memory = true;
        return false;
    }
    free(s->slots.at);
    s->slots.at = slots;
    s->slots.capacity = capacity;
    for (uint32_t i = 0; i < n_sets; i++) {
        uint32_t begin = s->offsets.at[i];
        s->slots.at[set_slot(s, s->sets.at + begin, s->offsets.at[i + 1] - begin)] = i + 1;
    }
    return true;
}

/* The state of d for the set in s->found, made when it is new. */
static uint32_t subset_intern(struct subset *s)
{
    list_sort_unique(&s->found);
    if (subset_failed(s) || !subset_grow_slots(s))
        return GRAMMAR_NONE;
    size_t slot = set_slot(s, s->found.at, s->found.n);
    if (s->slots.at[slot])
        return s->base + s->slots.at[slot] - 1;
    uint32_t state = grammar_dfa_state(s->d, s->rule);
    if (state == GRAMMAR_NONE) {
        s->is_too_large = true;
        return GRAMMAR_NONE;
    }
    for (size_t i = 0; i < s->found.n; i++) {
        list_add(s, &s->sets, s->found.at[i]);
        s->d->states[state].accepts |= s->found.at[i] == s->nfa->rules[s->rule].end;
    }
    list_add(s, &s->offsets, (uint32_t)s->sets.n);
    s->slots.at[slot] = (uint32_t)s->offsets.n - 1;
    return state;
}

/* Begins a closure; then each state that belongs to it is reached. */
static void closure_begin(struct subset *s)
{
    s->stamp++;
    s->found.n = 0;
}

static void closure_reach(struct subset *s, uint32_t state)
{
    s->work++;
    s->stack.n = 0;
    list_add(s, &s->stack, state);
    while (s->stack.n && !subset_failed(s)) {
        uint32_t at = s->stack.at[--s->stack.n];
        if (s->stamps[at] == s->stamp)
            continue;
        s->stamps[at] = s->stamp;
        bool is_kept = at == s->nfa->rules[s->rule].end;
        for (uint32_t i = s->nfa->first_edge[at]; i != GRAMMAR_NONE; i = s->nfa->edges[i].next) {
            s->work++;
            if (s->nfa->edges[i].kind == GRAMMAR_EDGE_FREE)
                list_add(s, &s->stack, s->nfa->edges[i].to);
            else
                is_kept = true;
        }
        if (is_kept)
            list_add(s, &s->found, at);
    }
    s->is_too_large = s->is_too_large || s->work > GRAMMAR_MOST_WORK;
}

/* ---- edges of a set ---- */

static uint32_t subset_class(const struct subset *s, uint32_t symbol)
{
    const uint32_t *first = s->d->first_symbol;
    if (symbol < 256)
        return s->class_of_symbol[symbol];
    uint32_t low = 0, high = s->d->n_classes; /* first[low] <= symbol < first[high] */
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (first[middle] <= symbol)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Edges by the class with which they begin, and all classes at which some edge begins or has ended,
 * in order. */
static void subset_mark_edges(struct subset *s)
{
    s->marks.n = 0;
    for (size_t i = 0; i < s->edges.n; i++) {
        const struct grammar_nfa_edge *e = &s->nfa->edges[s->edges.at[i]];
        uint32_t first = subset_class(s, e->low);
        list_add(s, &s->marks, first);
        list_add(s, &s->marks, subset_class(s, e->high) + 1);
        s->next_from[i] = s->first_from[first];
        s->first_from[first] = (uint32_t)i;
    }
    list_sort_unique(&s->marks);
}

/* The edges that take the class of a mark: those that begin there, and those before that have not
 * ended. */
static void subset_take_edges(struct subset *s, uint32_t mark)
{
    size_t n = 0;
    for (size_t i = 0; i < s->active.n; i++)
        if (s->nfa->edges[s->active.at[i]].high >= s->d->first_symbol[mark])
            s->active.at[n++] = s->active.at[i];
    s->active.n = n;
    uint32_t i = mark < s->d->n_classes ? s->first_from[mark] : GRAMMAR_NONE;
    for (; i != GRAMMAR_NONE; i = s->next_from[i])
        list_add(s, &s->active, s->edges.at[i]);
    if (mark < s->d->n_classes)
        s->first_from[mark] = GRAMMAR_NONE; /* for the next set */
}

static void subset_follow_symbols(struct subset *s, uint32_t state)
{
    if (s->edges.n > s->from_capacity) {
        uint32_t *grown = realloc(s->next_from, s->edges.n * sizeof *grown);
        s->next_from = grown ? grown : s->next_from;
        s->from_capacity = grown ? s->edges.n : s->from_capacity;
        s->has_no_memory = s->has_no_memory || !grown;
    }
    if (subset_failed(s))
        return;
    subset_mark_edges(s);
    s->active.n = 0;
    for (size_t m = 0; m < s->marks.n && !subset_failed(s); m++) {
        subset_take_edges(s, s->marks.at[m]);
        closure_begin(s);
        for (size_t i = 0; i < s->active.n; i++)
            closure_reach(s, s->nfa->edges[s->active.at[i]].to);
        uint32_t to = s->found.n ? subset_intern(s) : GRAMMAR_NONE;
        uint32_t *row = s->d->next + (size_t)state * s->d->n_classes;
        uint32_t past = m + 1 < s->marks.n ? s->marks.at[m + 1] : s->marks.at[m];
        for (uint32_t c = s->marks.at[m]; c < past; c++)
            row[c] = to;
    }
}

/* s->calls: rule and target, pairs. */
static void subset_follow_calls(struct subset *s, uint32_t state)
{
    for (size_t i = 0; i < s->calls.n && !subset_failed(s); i += 2) {
        uint32_t rule = s->calls.at[i];
        if (rule == GRAMMAR_NONE)
            continue;
        closure_begin(s);
        for (size_t k = i; k < s->calls.n; k += 2) {
            s->work++;
            if (s->calls.at[k] != rule)
                continue;
            s->calls.at[k] = GRAMMAR_NONE; /* done */
            closure_reach(s, s->calls.at[k + 1]);
        }
        uint32_t to = s->found.n ? subset_intern(s) : GRAMMAR_NONE;
        if (to != GRAMMAR_NONE && !grammar_dfa_call(s->d, state, rule, to))
            s->has_no_memory = true;
    }
}

static void subset_follow(struct subset *s, uint32_t set)
{
    uint32_t begin = s->offsets.at[set], end = s->offsets.at[set + 1];
    s->edges.n = s->calls.n = 0;
    for (uint32_t k = begin; k < end; k++) {
        uint32_t i = s->nfa->first_edge[s->sets.at[k]];
        for (; i != GRAMMAR_NONE; i = s->nfa->edges[i].next) {
            const struct grammar_nfa_edge *e = &s->nfa->edges[i];
            if (e->kind == GRAMMAR_EDGE_SYMBOL) {
                list_add(s, &s->edges, i);
            } else if (e->kind == GRAMMAR_EDGE_CALL) {
                list_add(s, &s->calls, e->low);
                list_add(s, &s->calls, e->to);
            }
        }
    }
    if (!subset_failed(s))
        subset_follow_symbols(s, s->base + set);
    if (!subset_failed(s))
        subset_follow_calls(s, s->base + set);
}

static void subset_rule(struct subset *s, uint32_t rule)
{
    s->rule = rule;
    s->base = s->d->n_states;
    s->sets.n = s->offsets.n = 0;
    free(s->slots.at); /* a large one would be expensive to empty for each small rule */
    s->slots = (struct list){0};
    list_add(s, &s->offsets, 0);
    closure_begin(s);
    closure_reach(s, s->nfa->rules[rule].start);
    s->d->starts[rule] = subset_intern(s); /* of a rule that nobody calls, it may be empty */
    for (uint32_t set = 0; set + 1 < s->offsets.n && !subset_failed(s); set++)
        subset_follow(s, set);
}

/* ---- classes ---- */

static void subset_make_classes(struct subset *s)
{
    struct list firsts = {0};
    uint32_t past = s->nfa->in_characters ? GRAMMAR_LAST_CHARACTER + 1 : 256;
    list_add(s, &firsts, 0);
    list_add(s, &firsts, past);
    for (uint32_t i = 0; i < s->nfa->n_edges; i++) {
        const struct grammar_nfa_edge *e = &s->nfa->edges[i];
        if (e->kind != GRAMMAR_EDGE_SYMBOL)
            continue;
        list_add(s, &firsts, e->low);
        list_add(s, &firsts, e->high + 1);
        if (firsts.n > 16 * MOST_CLASSES)
            list_sort_unique(&firsts);
        if (firsts.n > 16 * MOST_CLASSES)
            break;
    }
    list_sort_unique(&firsts);
    s->is_too_large = firsts.n > MOST_CLASSES;
    s->d->first_symbol = firsts.at;
    s->d->n_classes = (uint32_t)firsts.n - 1;
    for (uint32_t c = 0, symbol = 0; symbol < 256 && !subset_failed(s); symbol++) {
        while (c + 1 < s->d->n_classes && firsts.at[c + 1] <= symbol)
            c++;
        s->class_of_symbol[symbol] = c;
    }
}

int grammar_dfa_make(struct grammar_dfa *d, const struct grammar_nfa *n, uint64_t *work,
                     struct err *err)
{
    struct subset s = {.d = d, .nfa = n, .work = *work};
    *d = (struct grammar_dfa){0};
    d->starts = calloc(n->n_rules, sizeof *d->starts);
    s.stamps = calloc(n->n_states + 1, sizeof *s.stamps);
    s.class_of_symbol = calloc(256, sizeof *s.class_of_symbol);
    s.has_no_memory = !d->starts || !s.stamps || !s.class_of_symbol;
    if (!s.has_no_memory)
        subset_make_classes(&s);
    s.first_from = s.has_no_memory ? NULL : malloc(d->n_classes * sizeof *s.first_from);
    if (s.first_from)
        memset(s.first_from, 0xFF, d->n_classes * sizeof *s.first_from); /* GRAMMAR_NONE */
    s.has_no_memory = s.has_no_memory || !s.first_from;
    for (uint32_t r = 0; r < n->n_rules && !subset_failed(&s); r++)
        subset_rule(&s, r);
    *work = s.work;
    struct list *const lists[] = {&s.sets,  &s.offsets, &s.slots, &s.edges, &s.marks,
                                  &s.calls, &s.stack,   &s.found, &s.active};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        free(lists[i]->at);
    free(s.stamps);
    free(s.first_from);
    free(s.next_from);
    free(s.class_of_symbol);
    if (s.is_too_large)
        return err_set(err, ERR_INPUT,
                       "it is too large: its automaton has more than %d states, or takes too long "
                       "to make",
                       MOST_STATES);
    return s.has_no_memory ? err_set(err, ERR_MEMORY, "there is no memory for it") : 0;
}

void grammar_dfa_clear(struct grammar_dfa *d)
{
    free(d->first_symbol);
    free(d->states);
    free(d->next);
    free(d->calls);
    free(d->starts);
    *d = (struct grammar_dfa){0};
}
