/* packs.h - packed weights by their content. The stage that serves and the one that is made ready
 * beside it share what is equal, and a new plan loads nothing that is here already.
 *
 * A pack is the packed tensors of one layer, or of the model's end. Threads: one fills packs, any
 * may give them back. */
#ifndef PACELINE_WORKER_PACKS_H
#define PACELINE_WORKER_PACKS_H

#include "base/err.h"
#include "worker/region.h"

#include <stdbool.h>
#include <stdint.h>

#define PACK_IDENTITY_BYTES 32

struct pack {
    struct region region; /* claimed, of the size that was asked for */
    bool is_filled;       /* set by whoever took it and filled it */
    bool has_identity;
    unsigned char identity[PACK_IDENTITY_BYTES];
    int holders;
    struct pack *next;
};

struct packs;

int packs_new(struct packs **ret_packs, struct err *err);
void packs_free(struct packs *p); /* nobody holds a pack any more; NULL is fine */
/* The pack of this identity (NULL: one that nobody shares) and of `bytes`, found or claimed anew;
 * packs_give() ends the hold. p NULL: a pack of its own. */
int packs_take(struct pack **ret_pack, struct packs *p, const unsigned char *identity, size_t bytes,
               struct err *err);
/* Who is filled stays for the next one, until packs_trim(). NULL is fine. */
void packs_give(struct packs *p, struct pack *pack);
/* Frees what nobody holds. */
void packs_trim(struct packs *p);
int64_t packs_bytes(struct packs *p); /* of all, held or not */

#endif
