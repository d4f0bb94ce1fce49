/* content_cache.h - tensors on this worker's disk, each a file named by its digest, for all
 * workers of this machine that share the folder; bounded, the least recently used go first.
 *
 *   HEX         whole, and was verified when it was written
 *   HEX.part    on its way; its writer holds a lock on it
 *
 * What is in a file is believed only after it was verified again (content_file.h). A file's time
 * of change is when it was used last; whoever uses one holds a shared lock on it. */
#ifndef PACELINE_WORKER_CONTENT_CACHE_H
#define PACELINE_WORKER_CONTENT_CACHE_H

#include "base/err.h"
#include "model/manifest.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_CACHE_AUTO (-1) /* a fifth of the disk's free space */

struct content_cache {
    char *folder; /* NULL: no cache */
    int64_t limit;
    int64_t room; /* that is left of it; under the lock */
    pthread_mutex_t lock;
};

/* Makes the folder. limit 0: no cache. ERR_IO when it cannot be made or written. */
int content_cache_open(struct content_cache *c, const char *folder, int64_t limit, struct err *err);
void content_cache_close(struct content_cache *c);
/* Removes what nobody uses, the least recently used first, until `bytes` more fit or nothing is
 * left to remove. */
void content_cache_make_room(struct content_cache *c, int64_t bytes);
/* true: so much was taken of the room. */
bool content_cache_reserve(struct content_cache *c, int64_t bytes);
/* The disk takes no more: nothing is reserved until room is made again. */
void content_cache_is_full(struct content_cache *c);
/* FOLDER/HEX or FOLDER/HEX.part into a caller's buffer; false: too long, or no cache. */
bool content_cache_path(const struct content_cache *c, const unsigned char digest[DIGEST_BYTES],
                        bool part, char *to, size_t size);
/* Whether a tensor of so many bytes is there whole, by its name. */
bool content_cache_has(const struct content_cache *c, const unsigned char digest[DIGEST_BYTES],
                       size_t bytes);
/* Digests of whole files, the most recently used first; how many there are, at most `most`. */
size_t content_cache_list(const struct content_cache *c, unsigned char (*to)[DIGEST_BYTES],
                          size_t most);

#endif
