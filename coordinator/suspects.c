#include "coordinator/suspects.h"

#define MOST_SEEN   2 /* ends in a row that the workers themselves put down to its step */
#define MOST_ALONE  2 /* ends in a row without a word while it was alone */
#define MOST_PROVEN 3 /* ends while only proven rows were computed again */

static bool suspect_is_one(const struct choice *c)
{
    return c->suspect_end > 0;
}

static bool suspect_is_under_way(const struct choice *c)
{
    return c->in_flight > 0 && c->n_computed > c->n_proven;
}

void suspects_prove(struct choice *c, int end)
{
    if (end <= c->n_proven)
        return;
    c->n_proven = end;
    c->n_alone = 0; /* not in a row any more */
    if (end >= c->suspect_end)
        c->suspect_end = c->n_ends = c->n_alone = c->n_seen = 0;
}

static int suspects_count_unproven(struct choice *const *slots, int n_slots)
{
    int n = 0;
    for (int i = 0; i < n_slots; i++)
        n += slots[i] && slots[i]->lost_end > slots[i]->n_proven;
    return n;
}

/* Only what had been computed before was under way: then it is no proof any more, if a worker names
 * the step, or if it happens too often. */
static void suspects_note_proven(struct choice *c, bool is_seen)
{
    c->n_ends++;
    if (!is_seen && c->n_ends < MOST_PROVEN)
        return;
    c->n_proven = 0;
    c->suspect_end = c->lost_end;
    c->n_seen += is_seen;
}

/* true: it was alone, and not for the first time. */
static bool suspects_note_unproven(struct choice *c, bool is_seen, bool is_alone)
{
    c->suspect_end = c->lost_end;
    c->n_seen += is_seen;
    c->n_alone += is_alone;
    return is_alone && ((is_seen && c->n_seen >= MOST_SEEN) || c->n_alone >= MOST_ALONE);
}

bool suspects_note(struct choice *const *slots, int n_slots, bool is_seen,
                   struct choice **ret_guilty)
{
    const int n_unproven = suspects_count_unproven(slots, n_slots);
    bool found = false;
    *ret_guilty = NULL;
    for (int i = 0; i < n_slots; i++) {
        struct choice *c = slots[i];
        if (!c)
            continue;
        if (c->lost_end > 0 && n_unproven == 0)
            suspects_note_proven(c, is_seen);
        else if (c->lost_end > c->n_proven && suspects_note_unproven(c, is_seen, n_unproven == 1))
            *ret_guilty = c;
        c->lost_end = 0;
        found = found || suspect_is_one(c);
    }
    return found;
}

bool suspects_are_left(struct choice *const *slots, int n_slots)
{
    for (int i = 0; i < n_slots; i++)
        if (slots[i] && suspect_is_one(slots[i]))
            return true;
    return false;
}

struct choice *suspects_turn(struct choice *const *slots, int n_slots, bool *ret_is_free)
{
    struct choice *turn = NULL;
    for (int i = 0; i < n_slots; i++) {
        struct choice *c = slots[i];
        if (!c || !suspect_is_one(c) || c->n_computed < c->n_proven || c->n_computed >= c->n_tokens)
            continue;
        if (!turn || c->last_news_us < turn->last_news_us)
            turn = c;
    }
    for (int i = 0; i < n_slots; i++)
        if (slots[i] && suspect_is_one(slots[i]) && suspect_is_under_way(slots[i]))
            turn = slots[i];
    *ret_is_free = true;
    for (int i = 0; i < n_slots; i++)
        if (slots[i] && slots[i] != turn && suspect_is_under_way(slots[i]))
            *ret_is_free = false;
    return turn;
}

int suspects_allow(const struct choice *c, int count, const struct choice *turn, bool is_free)
{
    if (c == turn ? is_free : !turn && !suspect_is_one(c))
        return count;
    int proven = c->n_proven - c->n_computed;
    return proven < 0 ? 0 : proven < count ? proven : count;
}
