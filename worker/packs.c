#include "worker/packs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct packs {
    pthread_mutex_t lock;
    pthread_cond_t left; /* a reader has left a pack */
    struct pack *first;
    uint64_t last_serial;
};

int packs_new(struct packs **ret_packs, struct err *err)
{
    struct packs *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_MEMORY, "no memory for the list of packed layers");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->left, NULL);
    *ret_packs = p;
    return 0;
}

void packs_free(struct packs *p)
{
    if (!p)
        return;
    packs_trim(p);
    pthread_cond_destroy(&p->left);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void pack_free(struct pack *pack)
{
    if (!pack->is_borrowed)
        region_release(&pack->region);
    free(pack->parts);
    free(pack);
}

/* Under the lock, like all that begins so. */
static void packs_list(struct packs *p, struct pack *pack)
{
    pack->serial = ++p->last_serial;
    pack->next = p->first;
    p->first = pack;
}

static void packs_unlist(struct packs *p, const struct pack *pack)
{
    for (struct pack **at = &p->first; *at; at = &(*at)->next)
        if (*at == pack) {
            *at = pack->next;
            return;
        }
}

static int pack_new(struct pack **ret_pack, const unsigned char *identity, size_t bytes,
                    struct err *err)
{
    struct pack *pack = calloc(1, sizeof *pack);
    if (!pack)
        return err_set(err, ERR_MEMORY, "no memory for a packed layer");
    pack->region.used = bytes;
    int rc = region_claim(&pack->region, err);
    if (rc != 0) {
        free(pack);
        return rc;
    }
    pack->has_identity = identity != NULL;
    if (identity)
        memcpy(pack->identity, identity, PACK_IDENTITY_BYTES);
    pack->holders = 1;
    *ret_pack = pack;
    return 0;
}

int packs_take(struct pack **ret_pack, struct packs *p, const unsigned char *identity, size_t bytes,
               struct err *err)
{
    if (!p)
        return pack_new(ret_pack, NULL, bytes, err);
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    struct pack *pack = NULL;
    for (pack = identity ? p->first : NULL; pack; pack = pack->next)
        if (pack->has_identity && pack->is_filled && pack->region.size >= bytes &&
            memcmp(pack->identity, identity, PACK_IDENTITY_BYTES) == 0)
            break;
    if (pack) {
        pack->holders++;
        *ret_pack = pack;
    } else {
        rc = pack_new(ret_pack, identity, bytes, err);
        if (rc == 0)
            packs_list(p, *ret_pack);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

void packs_fill(struct packs *p, struct pack *pack, struct pack_part *parts, int n)
{
    if (p)
        pthread_mutex_lock(&p->lock);
    free(pack->parts);
    pack->parts = parts;
    pack->n_parts = n;
    pack->is_filled = true;
    if (p)
        pthread_mutex_unlock(&p->lock);
}

int packs_watch(struct pack **ret_pack, struct packs *p, const void *bytes,
                const struct pack_part *part, struct err *err)
{
    struct pack *pack = calloc(1, sizeof *pack);
    struct pack_part *copy = malloc(sizeof *copy);
    if (!pack || !copy) {
        free(pack);
        free(copy);
        return err_set(err, ERR_MEMORY, "no memory to watch a tensor with");
    }
    *copy = *part;
    *pack = (struct pack){.region = {.base = (unsigned char *)bytes}, /* never written */
                          .is_borrowed = true,
                          .is_filled = true,
                          .holders = 1,
                          .parts = copy,
                          .n_parts = 1};
    pthread_mutex_lock(&p->lock);
    packs_list(p, pack);
    pthread_mutex_unlock(&p->lock);
    *ret_pack = pack;
    return 0;
}

/* Its bytes are about to go. */
static void packs_unwatch(struct packs *p, struct pack *pack)
{
    packs_unlist(p, pack);
    while (pack->readers)
        pthread_cond_wait(&p->left, &p->lock);
    pack_free(pack);
}

void packs_give(struct packs *p, struct pack *pack)
{
    if (!pack)
        return;
    if (!p) {
        pack_free(pack);
        return;
    }
    pthread_mutex_lock(&p->lock);
    if (pack->is_borrowed)
        packs_unwatch(p, pack);
    else
        pack->holders--;
    pthread_mutex_unlock(&p->lock);
}

struct pack *packs_reach(struct packs *p, uint64_t serial)
{
    struct pack *found = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct pack *pack = p->first; pack; pack = pack->next)
        if (pack->is_filled && !pack->is_spoilt && pack->n_parts && pack->serial >= serial &&
            (!found || pack->serial < found->serial))
            found = pack;
    if (found)
        found->readers++;
    pthread_mutex_unlock(&p->lock);
    return found;
}

void packs_leave(struct packs *p, struct pack *pack)
{
    pthread_mutex_lock(&p->lock);
    bool is_last = --pack->readers == 0 && pack->is_dropped;
    pthread_cond_signal(&p->left);
    pthread_mutex_unlock(&p->lock);
    if (is_last)
        pack_free(pack);
}

void packs_spoil(struct packs *p, struct pack *pack)
{
    pthread_mutex_lock(&p->lock);
    pack->has_identity = false;
    atomic_store(&pack->is_spoilt, true);
    pthread_mutex_unlock(&p->lock);
}

void packs_trim(struct packs *p)
{
    struct pack *unused = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct pack **at = &p->first; *at;) {
        struct pack *pack = *at;
        if (pack->holders > 0) {
            at = &pack->next;
            continue;
        }
        *at = pack->next;
        if (pack->readers) {
            pack->is_dropped = true;
            continue;
        }
        pack->next = unused;
        unused = pack;
    }
    pthread_mutex_unlock(&p->lock);
    while (unused) { /* giving memory back takes time */
        struct pack *next = unused->next;
        pack_free(unused);
        unused = next;
    }
}

int64_t packs_bytes(struct packs *p)
{
    int64_t bytes = 0;
    pthread_mutex_lock(&p->lock);
    for (const struct pack *pack = p->first; pack; pack = pack->next)
        bytes += pack->is_borrowed ? 0 : (int64_t)pack->region.size;
    pthread_mutex_unlock(&p->lock);
    return bytes;
}
