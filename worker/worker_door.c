#include "worker/worker_door.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

#define STRANGERS_EVERY_MS 60000

static bool door_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    const struct worker_door *d = context;
    if (strcmp(domain, WIRE_STEPS) == 0) {
        for (int i = 0; i < d->n_upstream; i++)
            if (keys_are_equal(d->upstream[i], key))
                return true;
        return false;
    }
    if (strcmp(domain, WIRE_CONTENT) != 0)
        return false;
    for (size_t i = 0; i < d->n_peers; i++)
        if (keys_are_equal(d->peers[i], key))
            return true;
    return keys_are_equal(d->coordinator_key, key);
}

int worker_door_open(struct worker_door *d, void *zmq,
                     const unsigned char coordinator_key[KEYS_BYTES], struct err *err)
{
    *d = (struct worker_door){0};
    memcpy(d->coordinator_key, coordinator_key, KEYS_BYTES);
    return zap_open(&d->zap, zmq, door_judge, d, err);
}

void worker_door_close(struct worker_door *d)
{
    zap_close(&d->zap);
    free(d->peers);
    *d = (struct worker_door){0};
}

int worker_door_on_peers(struct worker_door *d, const ProtobufCBinaryData *keys, size_t n,
                         struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i].len != KEYS_BYTES)
            return err_set(err, ERR_NETWORK, "the key of a worker has %zu bytes", keys[i].len);
    void *peers = calloc(n + 1, KEYS_BYTES);
    if (!peers)
        return err_set(err, ERR_MEMORY, "no memory for the keys of %zu workers", n);
    free(d->peers);
    d->peers = peers;
    d->n_peers = n + 1;
    for (size_t i = 0; i < n; i++)
        memcpy(d->peers[i], keys[i].data, KEYS_BYTES);
    memcpy(d->peers[n], d->coordinator_key, KEYS_BYTES);
    return 0;
}

int worker_door_on_load(struct worker_door *d, const Paceline__Load *load, struct err *err)
{
    if (load->upstream_key.len != KEYS_BYTES || load->next_key.len != KEYS_BYTES)
        return err_set(err, ERR_NETWORK, "the plan does not say which keys the neighbours have");
    memmove(d->upstream[1], d->upstream[0], (WORKER_DOOR_PLANS - 1) * KEYS_BYTES);
    memcpy(d->upstream[0], load->upstream_key.data, KEYS_BYTES);
    d->n_upstream += d->n_upstream < WORKER_DOOR_PLANS;
    return 0;
}

void worker_door_serve(struct worker_door *d)
{
    zap_serve(&d->zap);
    const int64_t now_ms = clock_now_ms();
    if (!d->zap.n_refused || (d->last_told_ms && now_ms - d->last_told_ms < STRANGERS_EVERY_MS))
        return;
    log_warning("connections with unknown keys were refused: %d, the last from %s",
                d->zap.n_refused, d->zap.last_address);
    d->last_told_ms = now_ms;
    zap_forget(&d->zap);
}
