#include "coordinator/clock_offset.h"

#include <stdlib.h>

#define LONGEST_US 60000000           /* an older answer says nothing of now */
#define LATEST_US  (INT64_C(1) << 53) /* on any clock: three centuries */

static int64_t clock_offset_width(const struct clock_offset *c, int i, int64_t now_us)
{
    int64_t age_us = now_us - c->samples[i].taken_us;
    return (c->samples[i].delay_us + 1) / 2 + age_us * CLOCK_OFFSET_DRIFT_PPM / 1000000;
}

bool clock_offset_add(struct clock_offset *c, uint64_t sent_us, uint64_t received_us,
                      uint64_t answered_us, int64_t now_us)
{
    if (sent_us == 0 || sent_us > (uint64_t)now_us || (uint64_t)now_us - sent_us > LONGEST_US ||
        received_us > answered_us || answered_us > LATEST_US)
        return false;
    int64_t there = (int64_t)received_us - (int64_t)sent_us;
    int64_t back = (int64_t)answered_us - now_us, delay_us = there - back;
    if (delay_us < 0)
        return false; /* it kept the message for longer than we have waited */
    int64_t offset_us = (there + back) / 2, known_us, uncertainty_us;
    /* Two intervals that do not meet: one of the clocks was set anew, or was asleep. */
    if (clock_offset_estimate(c, now_us, &known_us, &uncertainty_us) &&
        llabs(known_us - offset_us) > uncertainty_us + delay_us / 2 + 1)
        c->n = c->next = 0;
    c->samples[c->next].offset_us = offset_us;
    c->samples[c->next].delay_us = delay_us;
    c->samples[c->next].taken_us = now_us;
    c->next = (c->next + 1) % CLOCK_OFFSET_SAMPLES;
    if (c->n < CLOCK_OFFSET_SAMPLES)
        c->n++;
    return true;
}

bool clock_offset_estimate(const struct clock_offset *c, int64_t now_us, int64_t *ret_offset_us,
                           int64_t *ret_uncertainty_us)
{
    int best = -1;
    for (int i = 0; i < c->n; i++)
        if (best < 0 || clock_offset_width(c, i, now_us) < clock_offset_width(c, best, now_us))
            best = i;
    if (best < 0)
        return false;
    *ret_offset_us = c->samples[best].offset_us;
    *ret_uncertainty_us = clock_offset_width(c, best, now_us);
    return true;
}

bool clock_offset_round_trip(const struct clock_offset *c, int64_t *ret_us)
{
    for (int i = 0; i < c->n; i++)
        if (i == 0 || c->samples[i].delay_us < *ret_us)
            *ret_us = c->samples[i].delay_us;
    return c->n > 0;
}
