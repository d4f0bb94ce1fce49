#include "worker/scrub.h"

#include "proto/block_sum.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* A slice is read without a pause: some tens of microseconds. */
#define SLICE_BYTES ((size_t)256 << 10)
#define IDLE_S      0.2 /* while there is nothing to read */
#define NICEST      19

struct scrub {
    struct scrub_spec spec;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping; /* under the lock */
    atomic_uint_fast64_t bytes;

    /* the thread's own: how far it has come */
    struct block_summer *sum; /* of the part under way */
    uint64_t serial;
    int part;
    size_t offset;
};

static void scrub_begin_pack(struct scrub *s, uint64_t serial)
{
    s->serial = serial;
    s->part = 0;
    s->offset = 0;
}

/* The part is read to its end. */
static void scrub_judge(struct scrub *s, struct pack *pack)
{
    const struct pack_part *part = &pack->parts[s->part];
    s->part++;
    s->offset = 0;
    if (block_summer_end(s->sum) == part->sum) {
        if (s->part == pack->n_parts)
            scrub_begin_pack(s, pack->serial + 1);
        return;
    }
    packs_spoil(s->spec.packs, pack);
    s->spec.damaged(s->spec.context, part->name);
    scrub_begin_pack(s, pack->serial + 1);
}

/* Bytes that were read; 0: there is nothing. */
static size_t scrub_slice(struct scrub *s)
{
    struct pack *pack = packs_reach(s->spec.packs, s->serial);
    if (!pack && s->serial) { /* round again */
        scrub_begin_pack(s, 0);
        pack = packs_reach(s->spec.packs, 0);
    }
    if (!pack)
        return 0;
    if (pack->serial != s->serial)
        scrub_begin_pack(s, pack->serial);
    const struct pack_part *part = &pack->parts[s->part];
    size_t left = part->bytes - s->offset, n = left < SLICE_BYTES ? left : SLICE_BYTES;
    if (s->offset == 0)
        block_summer_begin(s->sum);
    block_summer_add(s->sum, pack->region.base + part->offset + s->offset, n);
    s->offset += n;
    if (s->offset == part->bytes)
        scrub_judge(s, pack);
    packs_leave(s->spec.packs, pack);
    atomic_fetch_add(&s->bytes, n);
    return n;
}

/* true: go on. */
static bool scrub_wait(struct scrub *s, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)(seconds * 1e9);
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
        ;
    bool go_on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

static void *scrub_main(void *argument)
{
    struct scrub *s = argument;
    size_t n = 0;
    setpriority(PRIO_PROCESS, 0, NICEST); /* on Linux: of this thread alone */
    while (scrub_wait(s, n ? (double)n / s->spec.bytes_per_s : IDLE_S))
        n = scrub_slice(s);
    return NULL;
}

static void scrub_free(struct scrub *s)
{
    block_summer_free(s->sum);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int scrub_start(struct scrub **ret_scrub, const struct scrub_spec *spec, struct err *err)
{
    struct scrub *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the scrub");
    s->spec = *spec;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->sum = block_summer_new();
    int failed = s->sum ? pthread_create(&s->thread, NULL, scrub_main, s) : ENOMEM;
    if (failed) {
        scrub_free(s);
        return err_set(err, ERR_MEMORY, "scrubbing thread: %s", strerror(failed));
    }
    *ret_scrub = s;
    return 0;
}

void scrub_stop(struct scrub *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    scrub_free(s);
}

uint64_t scrub_bytes(const struct scrub *s)
{
    return s ? atomic_load(&s->bytes) : 0;
}
