#include "coordinator/grammar_automaton.h"

#include "coordinator/grammar_subset.h"
#include "coordinator/grammar_utf8.h"

#include <stdlib.h>
#include <string.h>

#define MOST_PRODUCT_STATES 20000

static int automaton_no_memory(struct grammar_builder *b, struct err *err)
{
    b->failed = true;
    return err_set(err, ERR_MEMORY, "there is no memory for it");
}

static struct grammar_automaton *automaton_new(struct grammar_builder *b, uint32_t n_states)
{
    struct grammar_automaton *a = arena_alloc(&b->arena, sizeof *a);
    if (a)
        a->states = arena_array(&b->arena, n_states, sizeof *a->states);
    if (!a || !a->states)
        return NULL;
    a->n_states = n_states;
    return a;
}

/* ---- from expressions ---- */

/* Classes side by side that lead to the same state are one arrow. */
static bool automaton_add_row(struct grammar_builder *b, struct grammar_automaton_state *s,
                              const struct grammar_dfa *d, uint32_t state)
{
    const uint32_t *row = d->next + (size_t)state * d->n_classes;
    uint32_t n = 0;
    for (uint32_t c = 0; c < d->n_classes; c++)
        n += row[c] != GRAMMAR_NONE && (c == 0 || row[c] != row[c - 1]);
    s->accepts = d->states[state].accepts;
    s->arrows = arena_array(&b->arena, n, sizeof *s->arrows);
    if (!s->arrows)
        return false;
    for (uint32_t c = 0; c < d->n_classes; c++) {
        if (row[c] == GRAMMAR_NONE)
            continue;
        if (c == 0 || row[c] != row[c - 1])
            s->arrows[s->n_arrows++] =
                (struct grammar_arrow){.low = d->first_symbol[c], .to = row[c]};
        s->arrows[s->n_arrows - 1].high = d->first_symbol[c + 1] - 1;
    }
    return true;
}

int grammar_automaton_from(const struct grammar_automaton **ret_automaton,
                           struct grammar_builder *b, const struct grammar_expr *e, struct err *err)
{
    struct grammar_nfa n = {0};
    struct grammar_dfa d = {0};
    int rc = grammar_nfa_make(&n, b, e, err);
    if (rc == 0)
        rc = grammar_dfa_make(&d, &n, &b->work, err);
    struct grammar_automaton *a = rc == 0 ? automaton_new(b, d.n_states) : NULL;
    if (rc == 0 && !a)
        rc = automaton_no_memory(b, err);
    for (uint32_t i = 0; rc == 0 && i < d.n_states; i++)
        if (!automaton_add_row(b, &a->states[i], &d, i))
            rc = automaton_no_memory(b, err);
    if (rc == 0)
        *ret_automaton = a;
    grammar_dfa_clear(&d);
    grammar_nfa_clear(&n);
    return rc;
}

/* ---- both ---- */

struct product {
    struct grammar_builder *builder;
    const struct grammar_automaton *x, *y;
    uint32_t (*pairs)[2]; /* [n], states of x and y */
    uint32_t n, capacity;
    uint32_t *slots; /* open addressing: 1 + pair, or 0 */
    uint32_t n_slots;
    bool is_too_large;
};

static uint32_t product_slot(const struct product *p, uint32_t x, uint32_t y)
{
    uint64_t hash = ((uint64_t)x << 32 | y) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(hash >> 32) & (p->n_slots - 1);
    while (p->slots[at] &&
           (p->pairs[p->slots[at] - 1][0] != x || p->pairs[p->slots[at] - 1][1] != y))
        at = (at + 1) & (p->n_slots - 1);
    return at;
}

static uint32_t product_state(struct product *p, uint32_t x, uint32_t y)
{
    uint32_t slot = product_slot(p, x, y);
    if (p->slots[slot])
        return p->slots[slot] - 1;
    if (p->n == p->capacity) {
        p->is_too_large = true;
        return 0;
    }
    p->pairs[p->n][0] = x;
    p->pairs[p->n][1] = y;
    p->slots[slot] = ++p->n;
    return p->n - 1;
}

/* Where arrows of both overlap. */
static bool product_add_arrows(struct product *p, uint32_t pair, struct grammar_automaton_state *s)
{
    const struct grammar_automaton_state *x = &p->x->states[p->pairs[pair][0]];
    const struct grammar_automaton_state *y = &p->y->states[p->pairs[pair][1]];
    s->accepts = x->accepts && y->accepts;
    p->builder->work += 1 + x->n_arrows + y->n_arrows;
    p->is_too_large = p->is_too_large || p->builder->work > GRAMMAR_MOST_WORK;
    s->arrows =
        arena_array(&p->builder->arena, (size_t)x->n_arrows + y->n_arrows, sizeof *s->arrows);
    if (!s->arrows)
        return false;
    for (uint32_t i = 0, k = 0; i < x->n_arrows && k < y->n_arrows;) {
        const struct grammar_arrow *a = &x->arrows[i], *c = &y->arrows[k];
        uint32_t low = a->low > c->low ? a->low : c->low;
        uint32_t high = a->high < c->high ? a->high : c->high;
        if (low <= high)
            s->arrows[s->n_arrows++] =
                (struct grammar_arrow){low, high, product_state(p, a->to, c->to)};
        if (a->high < c->high)
            i++;
        else
            k++;
    }
    return true;
}

static bool product_claim(struct product *p)
{
    size_t most = (size_t)p->x->n_states * p->y->n_states;
    p->capacity = most < MOST_PRODUCT_STATES ? (uint32_t)most : MOST_PRODUCT_STATES;
    p->n_slots = 16;
    while (p->n_slots < 2 * p->capacity)
        p->n_slots *= 2;
    p->pairs = calloc(p->capacity, sizeof *p->pairs);
    p->slots = calloc(p->n_slots, sizeof *p->slots);
    return p->pairs && p->slots;
}

static int product_make(struct product *p, struct grammar_automaton **ret_automaton,
                        struct err *err)
{
    struct grammar_automaton_state *states =
        product_claim(p) ? calloc(p->capacity, sizeof *states) : NULL;
    if (!states)
        return automaton_no_memory(p->builder, err);
    product_state(p, 0, 0);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < p->n; i++) {
        if (!product_add_arrows(p, i, &states[i]))
            rc = automaton_no_memory(p->builder, err);
        else if (p->is_too_large)
            rc = err_set(err, ERR_INPUT,
                         "it is too large: its rules together take more than %d states, or take "
                         "too long to make",
                         MOST_PRODUCT_STATES);
    }
    struct grammar_automaton *a = rc == 0 ? automaton_new(p->builder, p->n) : NULL;
    if (rc == 0 && !a)
        rc = automaton_no_memory(p->builder, err);
    if (rc == 0) {
        memcpy(a->states, states, p->n * sizeof *states);
        *ret_automaton = a;
    }
    free(states);
    return rc;
}

/* Dead ends are harmless inside an expression, which is trimmed, but cost. */
int grammar_automaton_both(const struct grammar_automaton **ret_automaton,
                           struct grammar_builder *b, const struct grammar_automaton *x,
                           const struct grammar_automaton *y, struct err *err)
{
    struct product p = {.builder = b, .x = x, .y = y};
    struct grammar_automaton *a = NULL;
    int rc = product_make(&p, &a, err);
    free(p.pairs);
    free(p.slots);
    if (rc == 0)
        *ret_automaton = a;
    return rc;
}

/* ---- the others ---- */

/* What has no arrow leads to one more state, where everything is accepted. */
static bool automaton_fill(struct grammar_builder *b, const struct grammar_automaton_state *from,
                           struct grammar_automaton_state *to, uint32_t sink)
{
    uint32_t next = 0;
    to->accepts = !from->accepts;
    to->arrows = arena_array(&b->arena, 2 * (size_t)from->n_arrows + 1, sizeof *to->arrows);
    if (!to->arrows)
        return false;
    for (uint32_t i = 0; i < from->n_arrows; i++) {
        const struct grammar_arrow *a = &from->arrows[i];
        if (a->low > next)
            to->arrows[to->n_arrows++] = (struct grammar_arrow){next, a->low - 1, sink};
        to->arrows[to->n_arrows++] = *a;
        next = a->high + 1;
    }
    if (next <= GRAMMAR_LAST_CHARACTER)
        to->arrows[to->n_arrows++] = (struct grammar_arrow){next, GRAMMAR_LAST_CHARACTER, sink};
    return true;
}

int grammar_automaton_other(const struct grammar_automaton **ret_automaton,
                            struct grammar_builder *b, const struct grammar_automaton *x,
                            struct err *err)
{
    const struct grammar_automaton_state nothing = {0};
    struct grammar_automaton *a = automaton_new(b, x->n_states + 1);
    for (uint32_t i = 0; i <= x->n_states; i++)
        if (!a || !automaton_fill(b, i < x->n_states ? &x->states[i] : &nothing, &a->states[i],
                                  x->n_states))
            return automaton_no_memory(b, err);
    *ret_automaton = a;
    return 0;
}

/* ---- questions ---- */

/* Every state can be reached: so it is made. */
bool grammar_automaton_is_empty(const struct grammar_automaton *a)
{
    for (uint32_t i = 0; i < a->n_states; i++)
        if (a->states[i].accepts)
            return false;
    return true;
}

bool grammar_automaton_matches(const struct grammar_automaton *a, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length;
    uint32_t state = 0;
    while (at < end) {
        uint32_t character;
        at += grammar_utf8_decode(at, (size_t)(end - at), &character);
        const struct grammar_automaton_state *s = &a->states[state];
        uint32_t i = 0;
        while (i < s->n_arrows && s->arrows[i].high < character)
            i++;
        if (i == s->n_arrows || s->arrows[i].low > character)
            return false;
        state = s->arrows[i].to;
    }
    return a->states[state].accepts;
}

uint32_t grammar_automaton_size(const struct grammar_automaton *a)
{
    uint64_t size = a->n_states;
    for (uint32_t i = 0; i < a->n_states; i++)
        size += a->states[i].n_arrows;
    return size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
}
