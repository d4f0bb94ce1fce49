/* packs.h - packed weights by their content. The stage that serves and the one that is made ready
 * beside it share what is equal, and a new plan loads nothing that is here already.
 *
 * A pack is the packed tensors of one layer, or of the model's end. What is filled can be read
 * through again (scrub.h), to see whether its bytes are still those that were put there; whoever
 * finds that they are not spoils the pack, and nobody takes it any more.
 * Threads: one fills packs, any may give them back, one reads them through. */
#ifndef PACELINE_WORKER_PACKS_H
#define PACELINE_WORKER_PACKS_H

#include "base/err.h"
#include "worker/region.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PACK_IDENTITY_BYTES 32

/* A tensor in a pack, and the checksum of its bytes when they were put there. */
struct pack_part {
    char name[64];
    size_t offset, bytes;
    uint64_t sum; /* block_sum() */
};

struct pack {
    struct region region; /* claimed, of the size that was asked for */
    bool is_filled;       /* packs_fill() */
    bool has_identity;
    unsigned char identity[PACK_IDENTITY_BYTES];
    int holders;
    struct pack *next;
    atomic_bool is_spoilt;
    struct pack_part *parts; /* [n_parts], owned */
    int n_parts;
    uint64_t serial;  /* unlike any other's; later ones are larger */
    int readers;      /* that read it through */
    bool is_borrowed; /* its bytes are somebody else's: packs_watch() */
    bool is_dropped;  /* trimmed while it was read: the reader frees it */
};

struct packs;

int packs_new(struct packs **ret_packs, struct err *err);
void packs_free(struct packs *p); /* nobody holds a pack any more; NULL is fine */
/* The pack of this identity (NULL: one that nobody shares) and of `bytes`, found or claimed anew;
 * packs_give() ends the hold. p NULL: a pack of its own. */
int packs_take(struct pack **ret_pack, struct packs *p, const unsigned char *identity, size_t bytes,
               struct err *err);
/* Whoever took the pack has filled it. parts: [n] on the heap, taken over. */
void packs_fill(struct packs *p, struct pack *pack, struct pack_part *parts, int n);
/* Who is filled stays for the next one, until packs_trim(). NULL is fine. */
void packs_give(struct packs *p, struct pack *pack);
/* Bytes that are read through with the packs, but are somebody else's: until packs_give(), which
 * waits for the reader. part.offset is 0. */
int packs_watch(struct pack **ret_pack, struct packs *p, const void *bytes,
                const struct pack_part *part, struct err *err);
/* Frees what nobody holds. */
void packs_trim(struct packs *p);
int64_t packs_bytes(struct packs *p); /* of all that are not borrowed, held or not */

/* The filled pack, not spoilt, with the least serial that is not below this one; it stays until
 * packs_leave(). NULL: there is none. */
struct pack *packs_reach(struct packs *p, uint64_t serial);
void packs_leave(struct packs *p, struct pack *pack);
/* Its bytes are not what they were. */
void packs_spoil(struct packs *p, struct pack *pack);

#endif
