#include "coordinator/link_probe.h"

#define EMPTY_ROUNDS 6
#define FIRST_BYTES  (32 << 10) /* of a round; then twice as many each time */
#define MOST_BYTES   (4 << 20)
#define MESSAGES     8      /* of a round, unless it is the first */
#define LONG_US      100000 /* under way for so long: a late acknowledgement does not count */
#define LONG_TRIPS   4      /* and for as long as so many round trips, or these would count */
#define LONG_ROUNDS  4      /* of that size */
#define MOST_US      5000000

_Static_assert(MOST_BYTES / MESSAGES <= LINK_PROBE_MOST, "a message of the largest round");

static struct link_probe_round link_probe_send(struct link_probe *p, size_t total, int64_t now_us)
{
    p->round++;
    p->n_back = 0;
    p->n_messages = total > FIRST_BYTES ? MESSAGES : 1;
    p->bytes = total / (size_t)p->n_messages;
    p->round_began_us = now_us;
    return (struct link_probe_round){p->round, p->n_messages, p->bytes};
}

struct link_probe_round link_probe_begin(struct link_probe *p, int64_t now_us)
{
    *p = (struct link_probe){
        .state = LINK_PROBING, .began_us = now_us, .round_trip_us = INT64_MAX, .round = p->round};
    return link_probe_send(p, 0, now_us);
}

/* Bytes of the next round; -1: there is none. */
static int64_t link_probe_learn(struct link_probe *p, int64_t took_us)
{
    int64_t total = (int64_t)p->bytes * p->n_messages;
    if (total == 0) {
        p->round_trip_us = took_us < p->round_trip_us ? took_us : p->round_trip_us;
        if (++p->n_alike < EMPTY_ROUNDS)
            return 0;
        p->n_alike = 0;
        return FIRST_BYTES;
    }
    bool is_long = took_us >= LONG_US && took_us >= LONG_TRIPS * p->round_trip_us;
    if (!is_long && total < MOST_BYTES) { /* or the one before was only disturbed */
        p->n_alike = 0;
        p->bytes_per_second = 0;
        return 2 * total;
    }
    int64_t way_us = took_us - p->round_trip_us;
    double rate = (double)p->bytes * (p->n_messages + 1) * 1e6 / (double)(way_us > 0 ? way_us : 1);
    if (rate > p->bytes_per_second)
        p->bytes_per_second = rate;
    return ++p->n_alike < LONG_ROUNDS ? total : -1;
}

bool link_probe_take(struct link_probe *p, uint32_t round, size_t bytes, int64_t now_us,
                     struct link_probe_round *ret_round)
{
    if (p->state != LINK_PROBING || round != p->round || bytes != p->bytes ||
        ++p->n_back < p->n_messages)
        return false;
    int64_t next = link_probe_learn(p, now_us - p->round_began_us);
    if (next < 0) {
        p->state = LINK_KNOWN;
        *ret_round = (struct link_probe_round){.n_messages = 0};
    } else {
        *ret_round = link_probe_send(p, (size_t)next, now_us);
    }
    return true;
}

bool link_probe_expire(struct link_probe *p, int64_t now_us)
{
    if (p->state != LINK_PROBING || now_us - p->began_us < MOST_US)
        return false;
    p->state = LINK_KNOWN;
    return true;
}
