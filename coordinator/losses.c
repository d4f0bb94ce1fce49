#include "coordinator/losses.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define FORGET_MS ((int64_t)10 * 60 * 1000)
#define FIRST_MS  5000
#define MOST_MS   300000

static struct loss *losses_find(const struct losses *l, const char *who)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->list[i].who, who) == 0)
            return (struct loss *)&l->list[i];
    return NULL;
}

/* A place for one more: a free one, or that of whom nothing was heard for longest. */
static struct loss *losses_place(struct losses *l)
{
    if (l->n < LOSSES_MOST)
        return &l->list[l->n++];
    struct loss *oldest = &l->list[0];
    for (int i = 1; i < l->n; i++)
        if (l->list[i].until_ms < oldest->until_ms)
            oldest = &l->list[i];
    return oldest;
}

static int64_t losses_period(int n)
{
    int64_t ms = n < 2 ? 0 : FIRST_MS;
    for (; n > 2 && ms < MOST_MS; n--)
        ms *= 2;
    return ms < MOST_MS ? ms : MOST_MS;
}

void losses_note(struct losses *l, const char *who, int64_t now_ms)
{
    struct loss *loss = losses_find(l, who);
    if (!loss) {
        loss = losses_place(l);
        *loss = (struct loss){.n = 0};
        snprintf(loss->who, sizeof loss->who, "%s", who);
    }
    if (now_ms - loss->until_ms > FORGET_MS)
        loss->n = 0;
    loss->n++;
    loss->until_ms = now_ms + losses_period(loss->n);
}

int64_t losses_until(const struct losses *l, const char *who, int64_t now_ms, int *ret_n)
{
    const struct loss *loss = losses_find(l, who);
    bool is_out = loss && loss->until_ms > now_ms;
    *ret_n = is_out ? loss->n : 0;
    return is_out ? loss->until_ms : 0;
}
