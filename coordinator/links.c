#include "coordinator/links.h"

#include "base/clock.h"
#include "base/log.h"

#include <math.h>
#include <string.h>

bool links_are_near(const struct worker_entry *w)
{
    return strncmp(w->address, "tcp://127.", 10) == 0 ||
           strncmp(w->address, "tcp://[::1]", 11) == 0;
}

static void links_send(struct registry *r, const struct worker_entry *w,
                       const struct link_probe_round *round)
{
    static const uint8_t nothing[LINK_PROBE_MOST];
    Paceline__Probe probe = PACELINE__PROBE__INIT;
    probe.round = round->round;
    probe.payload.data = (uint8_t *)nothing;
    probe.payload.len = round->bytes;
    for (int i = 0; i < round->n_messages; i++)
        registry_send(r, w, PACELINE__CONTROL__BODY_PROBE, &probe);
}

static void links_tell(const struct worker_entry *w)
{
    const struct link_probe *p = &w->link;
    if (p->bytes_per_second > 0)
        log_info("worker %s: its link carries %.1f MB/s, %.2f ms there and back", w->name,
                 p->bytes_per_second / 1e6, (double)p->round_trip_us / 1e3);
    else
        log_warning("worker %s: what its link carries could not be measured", w->name);
}

/* One at a time: those of many workers would share the coordinator's link. */
void links_keep(struct registry *r)
{
    struct worker_entry *next = NULL;
    bool is_probing = false;
    for (struct worker_entry *w = r->workers; w; w = w->next) {
        if (link_probe_expire(&w->link, clock_now_us()))
            links_tell(w);
        is_probing = is_probing || w->link.state == LINK_PROBING;
        if (!next && w->link.state == LINK_UNKNOWN && !links_are_near(w))
            next = w;
    }
    if (is_probing || !next)
        return;
    struct link_probe_round round = link_probe_begin(&next->link, clock_now_us());
    links_send(r, next, &round);
}

void links_on_probe(struct registry *r, struct worker_entry *w, const Paceline__Probe *probe)
{
    struct link_probe_round round;
    if (!link_probe_take(&w->link, probe->round, probe->payload.len, clock_now_us(), &round))
        return;
    if (w->link.state == LINK_KNOWN) {
        links_tell(w);
        links_keep(r);
    } else {
        links_send(r, w, &round);
    }
}

bool links_are_awaited(const struct worker_entry *w)
{
    return !links_are_near(w) && w->link.state != LINK_KNOWN;
}

void links_watch_hops(struct registry *r, const struct timeline *t, size_t row_bytes)
{
    struct worker_entry *from;
    for (int stage = 0; (from = registry_stage(r, stage)); stage++) {
        struct worker_entry *to = registry_stage(r, stage + 1);
        hop_times_learn(&from->hop, t, stage, row_bytes);
        from->link_seen = fmax(from->link_seen, from->hop.bytes_per_second);
        if (to)
            to->link_seen = fmax(to->link_seen, from->hop.bytes_per_second);
    }
}

double links_probed(const struct worker_entry *w)
{
    return w->link.state == LINK_KNOWN ? w->link.bytes_per_second : 0;
}

double links_rate(const struct worker_entry *w)
{
    return fmax(links_probed(w), w->link_seen);
}

int64_t links_round_trip_us(const struct worker_entry *w)
{
    int64_t least_us = 0;
    bool is_known = clock_offset_round_trip(&w->clock, &least_us);
    if (w->link.state != LINK_KNOWN || w->link.round_trip_us == INT64_MAX)
        return least_us;
    return is_known && least_us < w->link.round_trip_us ? least_us : w->link.round_trip_us;
}
