#include "worker/packs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct packs {
    pthread_mutex_t lock;
    struct pack *first;
};

int packs_new(struct packs **ret_packs, struct err *err)
{
    struct packs *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_MEMORY, "no memory for the list of packed layers");
    pthread_mutex_init(&p->lock, NULL);
    *ret_packs = p;
    return 0;
}

void packs_free(struct packs *p)
{
    if (!p)
        return;
    packs_trim(p);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void pack_free(struct pack *pack)
{
    region_release(&pack->region);
    free(pack);
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
        if (rc == 0) {
            (*ret_pack)->next = p->first;
            p->first = *ret_pack;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
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
    pack->holders--;
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
        bytes += (int64_t)pack->region.size;
    pthread_mutex_unlock(&p->lock);
    return bytes;
}
