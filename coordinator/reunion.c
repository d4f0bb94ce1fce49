#include "coordinator/reunion.h"

#define AWAIT_MS 1500 /* they knock twice a second, and reconnect more often */

static bool reunion_has(const struct registry *r, uint32_t stage, uint32_t n_stages)
{
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->had_stage == stage && w->had_stages == n_stages)
            return true;
    return false;
}

/* All stages of a plan of that many. */
static bool reunion_is_whole(const struct registry *r, uint32_t n_stages)
{
    for (uint32_t stage = 1; stage <= n_stages; stage++)
        if (!reunion_has(r, stage, n_stages))
            return false;
    return true;
}

bool reunion_is_awaited(const struct registry *r, int64_t now_ms)
{
    bool is_awaited = false;
    for (const struct worker_entry *w = r->workers; w; w = w->next) {
        if (!w->had_stage)
            continue;
        if (now_ms - w->joined_ms > AWAIT_MS || reunion_is_whole(r, w->had_stages))
            return false;
        is_awaited = true;
    }
    return is_awaited;
}

void reunion_order(struct worker_entry **entries, int n)
{
    for (int i = 1; i < n; i++) { /* a handful: insertion, which is stable */
        struct worker_entry *w = entries[i];
        int at = i;
        for (; w->had_stage && at > 0; at--) {
            const struct worker_entry *before = entries[at - 1];
            if (before->had_stage && before->had_stage <= w->had_stage)
                break;
            entries[at] = entries[at - 1];
        }
        entries[at] = w;
    }
}
