/* clock_offset.h - how far a peer's monotonic clock is from ours, from messages there and back.
 *
 * Whatever the times of the two ways are, the true offset of a sample is no further from its
 * estimate than half of the time that both took together. The sample with the narrowest such
 * interval counts; an old one widens, since clocks drift. */
#ifndef PACELINE_COORDINATOR_CLOCK_OFFSET_H
#define PACELINE_COORDINATOR_CLOCK_OFFSET_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_OFFSET_SAMPLES   32
#define CLOCK_OFFSET_DRIFT_PPM 100 /* two clocks differ by less in their rate */

struct clock_offset {
    struct {
        int64_t offset_us, delay_us, taken_us;
    } samples[CLOCK_OFFSET_SAMPLES];
    int n, next;
};

/* A message left here at sent_us, came there at received_us (the peer's clock), its answer left
 * there at answered_us (the peer's clock) and came here at now_us. All but now_us are what the peer
 * says: false when they cannot be, and nothing changes. */
bool clock_offset_add(struct clock_offset *c, uint64_t sent_us, uint64_t received_us,
                      uint64_t answered_us, int64_t now_us);
/* Microseconds of a message there and back, without the time it rested there: the least of late.
 * false: not known. */
bool clock_offset_round_trip(const struct clock_offset *c, int64_t *ret_us);
/* The peer's clock minus ours, and how much it may be wrong. false: not known. */
bool clock_offset_estimate(const struct clock_offset *c, int64_t now_us, int64_t *ret_offset_us,
                           int64_t *ret_uncertainty_us);

#endif
