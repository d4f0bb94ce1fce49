/* link_probe.h - what a link carries, from messages that come back as they are: first empty ones,
 * whose time is the round trip, then ever more bytes, until they are long under way.
 *
 * A round of n messages of which each is sent back as soon as it is there takes the round trip and,
 * on the slower way, as long as n + 1 of them. What disturbs a round makes it longer, so the best
 * of the last ones counts. Rounds begin small: over a slow link nothing else waits for long. */
#ifndef PACELINE_COORDINATOR_LINK_PROBE_H
#define PACELINE_COORDINATOR_LINK_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_PROBE_MOST (1 << 20) /* bytes of a message */

enum link_probe_state { LINK_UNKNOWN, LINK_PROBING, LINK_KNOWN };

struct link_probe {
    enum link_probe_state state;
    int64_t began_us; /* the whole */
    uint32_t round;
    int n_messages, n_back; /* of the round */
    size_t bytes;           /* of each */
    int64_t round_began_us, round_trip_us;
    int n_alike;             /* rounds of this size, where it stays */
    double bytes_per_second; /* LINK_KNOWN: the best; 0: nothing came back */
};

/* Sends n messages of so many bytes with this round's number: whoever calls this does. */
struct link_probe_round {
    uint32_t round;
    int n_messages;
    size_t bytes;
};

struct link_probe_round link_probe_begin(struct link_probe *p, int64_t now_us);
/* A message came back. true: that was the last of its round, and *ret_round is to be sent; or
 * nothing more (n_messages 0), for the link is known. */
bool link_probe_take(struct link_probe *p, uint32_t round, size_t bytes, int64_t now_us,
                     struct link_probe_round *ret_round);
/* Gives up what takes too long; what was measured counts. true: this has ended it. */
bool link_probe_expire(struct link_probe *p, int64_t now_us);

#endif
