#include "coordinator/replay.h"

#include <stdlib.h>

int replay_init(struct replay *r, int n_slots, struct err *err)
{
    *r = (struct replay){.slots = calloc((size_t)n_slots, sizeof *r->slots)};
    return r->slots ? 0 : err_set(err, ERR_MEMORY, "no memory for %d sequences", n_slots);
}

void replay_clear(struct replay *r)
{
    free(r->slots);
    *r = (struct replay){0};
}

/* Behind those who have waited for longer. */
static void replay_insert(struct replay *r, struct choice *const *slots, int slot)
{
    int at = r->n++;
    for (; at > 0; at--) {
        if (slots[r->slots[at - 1]]->last_news_us <= slots[slot]->last_news_us)
            break;
        r->slots[at] = r->slots[at - 1];
    }
    r->slots[at] = slot;
}

void replay_begin(struct replay *r, struct choice *const *slots, int n_slots)
{
    r->n = 0;
    for (int i = 0; i < n_slots; i++) {
        struct choice *c = slots[i];
        if (!c)
            continue;
        c->is_replaying = c->is_replaying || c->n_computed > 0;
        if (c->is_replaying)
            replay_insert(r, slots, i);
    }
}

struct choice *replay_choice(const struct replay *r, struct choice *const *slots, int at)
{
    struct choice *c = slots[r->slots[at]];
    return c && c->is_replaying ? c : NULL;
}
