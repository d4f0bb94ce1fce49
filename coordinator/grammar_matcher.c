#include "coordinator/grammar_matcher.h"

#include "coordinator/grammar_nfa.h"

#include <stdlib.h>
#include <string.h>

/* A grammar that needs more at one position is too ambiguous to be followed. */
#define MOST_ITEMS 1024
/* Calls and links that a text may keep open: a nesting far beyond what readers of JSON take. */
#define MOST_CALLS ((uint32_t)1 << 20)
/* Clearing out waits for so many that are new. */
#define CLEAR_ABOVE 256

static bool matcher_reserve(struct grammar_matcher *m, void *array, uint32_t *capacity,
                            uint32_t wanted, size_t size)
{
    if (wanted <= *capacity)
        return true;
    uint32_t grown = *capacity ? *capacity : 32;
    while (grown < wanted)
        grown *= 2;
    void **place = array, *moved = realloc(*place, grown * size);
    if (!moved || grown > MOST_CALLS) {
        *place = moved ? moved : *place;
        m->failed = true;
        return false;
    }
    *place = moved;
    *capacity = grown;
    return true;
}

static bool item_equals(const struct matcher_item *a, const struct matcher_item *b)
{
    return a->state == b->state && a->call == b->call && a->count == b->count &&
           a->is_endless == b->is_endless;
}

static void matcher_add_item(struct grammar_matcher *m, struct matcher_item item)
{
    struct matcher_position *p = &m->positions[m->depth];
    const struct grammar_state *s = &m->grammar->states[item.state];
    m->work += 1 + p->n_items / 8; /* comparisons are cheap */
    for (uint32_t i = p->first_item; i < m->n_items; i++)
        if (item_equals(&m->items[i], &item))
            return;
    if (p->n_items >= MOST_ITEMS || m->work > m->most_work ||
        !matcher_reserve(m, &m->items, &m->items_capacity, m->n_items + 1, sizeof *m->items)) {
        m->failed = true;
        return;
    }
    m->items[m->n_items++] = item;
    p->n_items++;
    p->n_active += s->has_bytes && grammar_matcher_may_repeat(s, &item);
}

/* The item arrives at a state, by a byte or when a call has ended. */
static void matcher_arrive(struct grammar_matcher *m, uint32_t state, struct matcher_item item)
{
    const struct grammar_state *s = &m->grammar->states[state];
    item.state = state;
    if (s->is_head && (s->max != GRAMMAR_UNBOUNDED || item.count < (int32_t)s->min))
        item.count++; /* beyond the least of an open bound it does not matter any more */
    matcher_add_item(m, item);
}

/* The call of the rule at this position; made when it is new, with the rule's first item. */
static uint32_t matcher_call(struct grammar_matcher *m, const struct grammar_calls *c)
{
    uint32_t first = m->positions[m->depth].n_calls;
    for (uint32_t i = first; i < m->n_calls; i++)
        if (m->calls[i].rule == c->rule)
            return i;
    m->work += (m->n_calls - first) / 8;
    if (!matcher_reserve(m, &m->calls, &m->calls_capacity, m->n_calls + 1, sizeof *m->calls))
        return GRAMMAR_NONE;
    m->calls[m->n_calls] = (struct matcher_call){c->rule, GRAMMAR_NONE};
    matcher_add_item(m, (struct matcher_item){.state = c->start, .call = m->n_calls});
    return m->n_calls++;
}

static void matcher_link(struct grammar_matcher *m, uint32_t call, struct matcher_item back)
{
    uint32_t at = m->calls[call].first;
    for (; at != GRAMMAR_NONE; at = m->links[at].next, m->work++)
        if (item_equals(&m->links[at].back, &back))
            return;
    if (!matcher_reserve(m, &m->links, &m->links_capacity, m->n_links + 1, sizeof *m->links))
        return;
    m->links[m->n_links] = (struct matcher_link){back, m->calls[call].first};
    m->calls[call].first = m->n_links++;
}

static void matcher_follow_calls(struct grammar_matcher *m, struct matcher_item item,
                                 const struct grammar_state *s)
{
    for (uint32_t i = 0; i < s->n_calls && !m->failed; i++) {
        const struct grammar_calls *c = &m->grammar->calls[s->first_call + i];
        if (c->is_last) {
            matcher_add_item(m, (struct matcher_item){.state = c->start, .call = item.call});
            continue;
        }
        uint32_t call = matcher_call(m, c);
        if (call != GRAMMAR_NONE)
            matcher_link(m, call,
                         (struct matcher_item){c->to, item.call, item.count, item.is_endless});
    }
}

/* A rule that is called here and ends here is empty: the automata have a way past it already. */
static void matcher_end_call(struct grammar_matcher *m, uint32_t call, uint32_t rule)
{
    struct matcher_position *p = &m->positions[m->depth];
    if (call == 0) {
        p->is_end = true;
        for (size_t i = 0; i < 4; i++)
            p->follow.bits[i] |= m->grammar->follow[rule].bits[i];
    }
    if (call >= p->n_calls)
        return;
    for (uint32_t at = m->calls[call].first; at != GRAMMAR_NONE && !m->failed;
         at = m->links[at].next) {
        const struct matcher_item back = m->links[at].back;
        matcher_arrive(m, back.state, back);
    }
}

/* Items that follow from those that are there, without a byte. */
static void matcher_close(struct grammar_matcher *m)
{
    uint32_t first = m->positions[m->depth].first_item;
    for (uint32_t i = first; i < m->n_items && !m->failed; i++) {
        const struct matcher_item item = m->items[i];
        const struct grammar_state *s = &m->grammar->states[item.state];
        if (s->is_plain)
            continue;
        if (grammar_matcher_may_repeat(s, &item))
            matcher_follow_calls(m, item, s);
        if (s->accepts && (!s->is_head || (int64_t)item.count >= (int64_t)s->min))
            matcher_end_call(m, item.call, s->rule);
    }
}

static bool matcher_claim(struct grammar_matcher *m, const struct grammar *g)
{
    *m = (struct grammar_matcher){.grammar = g, .most_work = UINT64_MAX};
    if (!matcher_reserve(m, &m->positions, &m->positions_capacity, 1, sizeof *m->positions) ||
        !matcher_reserve(m, &m->calls, &m->calls_capacity, 1, sizeof *m->calls))
        return false;
    m->calls[0] = (struct matcher_call){GRAMMAR_NONE, GRAMMAR_NONE};
    m->n_calls = 1;
    m->positions[0] = (struct matcher_position){.n_calls = 1};
    return true;
}

bool grammar_matcher_init_at(struct grammar_matcher *m, const struct grammar *g,
                             const struct matcher_item *items, uint32_t n)
{
    if (!matcher_claim(m, g))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        struct matcher_item item = items[i];
        item.call = 0;
        matcher_add_item(m, item);
    }
    matcher_close(m);
    return !m->failed;
}

bool grammar_matcher_init(struct grammar_matcher *m, const struct grammar *g)
{
    const struct matcher_item first = {.state = g->start};
    return grammar_matcher_init_at(m, g, &first, 1);
}

void grammar_matcher_clear(struct grammar_matcher *m)
{
    free(m->items);
    free(m->calls);
    free(m->links);
    free(m->positions);
    *m = (struct grammar_matcher){0};
}

bool grammar_matcher_push(struct grammar_matcher *m, unsigned char byte)
{
    if (m->failed || !matcher_reserve(m, &m->positions, &m->positions_capacity, m->depth + 2,
                                      sizeof *m->positions))
        return false;
    const struct matcher_position before = m->positions[m->depth];
    m->positions[++m->depth] = (struct matcher_position){
        .first_item = m->n_items, .n_calls = m->n_calls, .n_links = m->n_links};
    for (uint32_t i = 0; i < before.n_items; i++) {
        const struct matcher_item item = m->items[before.first_item + i];
        uint32_t to = grammar_next(m->grammar, item.state, byte);
        const struct grammar_state *s = &m->grammar->states[item.state];
        if (to && grammar_matcher_may_repeat(s, &item))
            matcher_arrive(m, to, item);
    }
    matcher_close(m);
    const struct matcher_position *p = &m->positions[m->depth];
    return !m->failed && (p->n_active || p->is_end);
}

void grammar_matcher_pop(struct grammar_matcher *m, uint32_t depth)
{
    if (depth >= m->depth)
        return;
    const struct matcher_position *p = &m->positions[depth + 1];
    m->n_items = p->first_item;
    m->n_calls = p->n_calls;
    m->n_links = p->n_links;
    m->depth = depth;
}

/* ---- clearing out ---- */

/* Numbers of the calls that can still be come back to, in their order; 0 for the others. */
static uint32_t *matcher_number_calls(struct grammar_matcher *m)
{
    uint32_t *numbers = calloc(m->n_calls, sizeof *numbers);
    uint32_t *stack = calloc(m->n_calls + 1, sizeof *stack);
    uint32_t n_stack = 0, n = 1;
    for (uint32_t i = 0; numbers && stack && i < m->n_items; i++) {
        uint32_t call = m->items[i].call;
        if (call && !numbers[call]) {
            numbers[call] = 1;
            stack[n_stack++] = call;
        }
        while (n_stack) {
            uint32_t at = m->calls[stack[--n_stack]].first;
            for (; at != GRAMMAR_NONE; at = m->links[at].next) {
                uint32_t back = m->links[at].back.call;
                if (back && !numbers[back]) {
                    numbers[back] = 1;
                    stack[n_stack++] = back;
                }
            }
        }
    }
    for (uint32_t i = 1; numbers && i < m->n_calls; i++)
        numbers[i] = numbers[i] ? n++ : 0;
    if (!stack) {
        free(numbers);
        numbers = NULL;
    }
    free(stack);
    return numbers;
}

/* Links of calls that stay, in the new array. */
static uint32_t matcher_move_links(const struct grammar_matcher *m, const uint32_t *numbers,
                                   uint32_t from, struct matcher_link *links, uint32_t *n_links)
{
    uint32_t first = GRAMMAR_NONE, last = GRAMMAR_NONE;
    for (uint32_t at = from; at != GRAMMAR_NONE; at = m->links[at].next) {
        links[*n_links] = (struct matcher_link){m->links[at].back, GRAMMAR_NONE};
        links[*n_links].back.call = numbers[links[*n_links].back.call];
        if (last == GRAMMAR_NONE)
            first = *n_links;
        else
            links[last].next = *n_links;
        last = (*n_links)++;
    }
    return first;
}

/* There is one position. Without memory for it, everything stays as it is. */
static void matcher_clear_out(struct grammar_matcher *m)
{
    struct matcher_position *p = &m->positions[0];
    uint32_t *numbers = matcher_number_calls(m);
    struct matcher_link *links = malloc((m->n_links + 1) * sizeof *links);
    uint32_t n_calls = 1, n_links = 0, n_before = 1;
    for (uint32_t i = 1; numbers && links && i < m->n_calls; i++) {
        if (!numbers[i])
            continue;
        n_before += i < p->n_calls;
        m->calls[n_calls++] = (struct matcher_call){
            m->calls[i].rule, matcher_move_links(m, numbers, m->calls[i].first, links, &n_links)};
    }
    for (uint32_t i = 0; numbers && links && i < m->n_items; i++)
        m->items[i].call = numbers[m->items[i].call];
    if (numbers && links) {
        free(m->links);
        m->links = links;
        m->links_capacity = m->n_links + 1;
        m->n_calls = n_calls;
        m->n_links = n_links;
        p->n_calls = n_before;
        m->kept = n_calls + n_links;
        links = NULL;
    }
    free(links);
    free(numbers);
}

void grammar_matcher_commit(struct grammar_matcher *m)
{
    const struct matcher_position now = m->positions[m->depth];
    memmove(m->items, m->items + now.first_item, now.n_items * sizeof *m->items);
    m->positions[0] = now;
    m->positions[0].first_item = 0;
    m->n_items = now.n_items;
    m->depth = 0;
    if (m->n_calls + m->n_links > 2 * m->kept + CLEAR_ABOVE)
        matcher_clear_out(m);
}
