/* token_counts.c - see token_counts.h. */
#include "worker/token_counts.h"

#include <stdlib.h>
#include <string.h>

/* At most two thirds full, so that a search ends soon, and ends at all. */
static uint32_t slots_for(uint32_t most)
{
    uint32_t slots = 16;
    while (slots < most + most / 2 + 1)
        slots *= 2;
    return slots;
}

size_t token_counts_memory(uint32_t most)
{
    return most * sizeof(struct token_count) + slots_for(most) * sizeof(uint32_t);
}

bool token_counts_init(struct token_counts *c, uint32_t most)
{
    *c = (struct token_counts){.most = most, .slots = slots_for(most)};
    c->entries = calloc(most ? most : 1, sizeof *c->entries);
    c->slot = calloc(c->slots, sizeof *c->slot);
    if (c->entries && c->slot)
        return true;
    token_counts_clear(c);
    return false;
}

void token_counts_clear(struct token_counts *c)
{
    free(c->entries);
    free(c->slot);
    *c = (struct token_counts){0};
}

void token_counts_reset(struct token_counts *c)
{
    if (c->n > 0)
        memset(c->slot, 0, c->slots * sizeof *c->slot);
    c->n = 0;
}

void token_counts_set(struct token_counts *c, uint32_t token, uint32_t generated, bool in_prompt)
{
    uint32_t at = token * 0x9e3779b9u >> 7 & (c->slots - 1);
    while (c->slot[at] && c->entries[c->slot[at] - 1].token != token)
        at = (at + 1) & (c->slots - 1);
    if (!c->slot[at]) {
        if (c->n == c->most)
            return;
        c->slot[at] = ++c->n;
    }
    c->entries[c->slot[at] - 1] = (struct token_count){token, generated, in_prompt};
}
