#include "coordinator/choice_counts.h"

#include <assert.h>
#include <stdlib.h>

#define LEAST_SLOTS 64

static uint32_t *choice_counts_slot(const struct choice_counts *c, uint32_t token)
{
    uint32_t at = token * 0x9e3779b9u >> 7 & (c->n_slots - 1);
    while (c->slots[at] && c->entries[c->slots[at] - 1].token != token)
        at = (at + 1) & (c->n_slots - 1);
    return &c->slots[at];
}

static bool choice_counts_grow(struct choice_counts *c)
{
    uint32_t n_slots = c->n_slots ? 2 * c->n_slots : LEAST_SLOTS;
    struct batch_count *entries = realloc(c->entries, n_slots / 2 * sizeof *entries);
    if (!entries)
        return false;
    c->entries = entries;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots)
        return false;
    free(c->slots);
    c->slots = slots;
    c->n_slots = n_slots;
    for (uint32_t i = 0; i < c->n; i++)
        *choice_counts_slot(c, c->entries[i].token) = i + 1;
    return true;
}

bool choice_counts_update(struct choice_counts *c, const uint32_t *tokens, int n_tokens,
                          int n_prompt)
{
    for (; c->n_tokens < n_tokens; c->n_tokens++) {
        if (2 * c->n >= c->n_slots && !choice_counts_grow(c))
            return false;
        uint32_t *slot = choice_counts_slot(c, tokens[c->n_tokens]);
        if (!*slot) {
            c->entries[c->n] = (struct batch_count){.token = tokens[c->n_tokens]};
            *slot = ++c->n;
        }
        struct batch_count *count = &c->entries[*slot - 1];
        if (c->n_tokens < n_prompt)
            count->in_prompt = true;
        else
            count->generated++;
    }
    return true;
}

const struct batch_count *choice_counts_find(const struct choice_counts *c, uint32_t token)
{
    uint32_t entry = *choice_counts_slot(c, token);
    assert(entry);
    return &c->entries[entry - 1];
}

void choice_counts_clear(struct choice_counts *c)
{
    free(c->entries);
    free(c->slots);
    *c = (struct choice_counts){0};
}
