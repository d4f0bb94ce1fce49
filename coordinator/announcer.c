#include "coordinator/announcer.h"

#include "base/clock.h"
#include "base/log.h"

#include <unistd.h>

#define EVERY_MS 1000

void announcer_open(struct announcer *a, const char *host, int udp_port,
                    const struct beacon *beacon)
{
    struct err err = {0};
    *a = (struct announcer){.fd = -1, .udp_port = udp_port, .host = host, .beacon = *beacon};
    if (beacon_open(&a->fd, host, &err) != 0)
        log_warning("%s", err.text);
}

void announcer_run(struct announcer *a)
{
    const int64_t now_ms = clock_now_ms();
    if (a->fd < 0 || now_ms - a->last_ms < EVERY_MS)
        return;
    a->last_ms = now_ms;
    beacon_send(a->fd, a->host, a->udp_port, &a->beacon);
}

void announcer_close(struct announcer *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}
