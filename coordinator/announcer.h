/* announcer.h - tells the LAN once a second where this cluster is (beacon.h). */
#ifndef PACELINE_COORDINATOR_ANNOUNCER_H
#define PACELINE_COORDINATOR_ANNOUNCER_H

#include "proto/beacon.h"

#include <stdint.h>

struct announcer {
    int fd; /* -1: silent */
    int udp_port;
    const char *host; /* that the cluster listens on; borrowed */
    struct beacon beacon;
    int64_t last_ms;
};

/* Without a beacon workers must be told the address, and nothing else is lost: a failure is logged.
 */
void announcer_open(struct announcer *a, const char *host, int udp_port,
                    const struct beacon *beacon);
void announcer_run(struct announcer *a);
void announcer_close(struct announcer *a);

#endif
