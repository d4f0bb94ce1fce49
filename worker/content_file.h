/* content_file.h - the bytes of one tensor that is not in a model file of this machine: in the
 * cache, or in memory where there is none; mapped, and filled chunk by chunk, in any order.
 *
 * Threads: different chunks may be written, verified and read at the same time. */
#ifndef PACELINE_WORKER_CONTENT_FILE_H
#define PACELINE_WORKER_CONTENT_FILE_H

#include "worker/content_cache.h"

struct content_file;

/* The whole file of the cache, or the one that was begun there, or a new one. One that another
 * process writes just now is left to it: this process has its own copy meanwhile. In memory
 * without a cache, or without room in it. digest is copied. */
int content_file_open(struct content_file **ret_file, struct content_cache *cache,
                      const unsigned char digest[DIGEST_BYTES], size_t bytes, struct err *err);
void content_file_close(struct content_file *f); /* NULL is fine */
/* It will be in the cache when it is whole. */
bool content_file_is_in_memory(struct content_file *f);
/* Something was there already when it was opened. */
bool content_file_is_begun(const struct content_file *f);
/* Whether there are bytes that may be this chunk, and whether they are: then it is good. */
bool content_file_verify(struct content_file *f, size_t chunk,
                         const unsigned char digest[DIGEST_BYTES]);
/* What was whole, by its name, is not: it is one that was begun, from now on. false: it was not
 * whole. */
bool content_file_is_damaged(struct content_file *f);
/* Bytes that were verified; good from now on. When the disk takes no more the file moves into
 * memory, *ret_moved is set and *ret_why says why. Fails only when memory has no room either. */
int content_file_write(struct content_file *f, size_t chunk, const void *bytes, bool *ret_moved,
                       struct err *ret_why, struct err *err);
bool content_file_is_whole(const struct content_file *f); /* all chunks are good */
/* A copy of a chunk that is good, for somebody else; false: it is not. */
bool content_file_read(struct content_file *f, size_t chunk, void *to);
/* Of a whole one: its bytes, until it is closed or dropped. */
const void *content_file_data(const struct content_file *f);
/* They are not needed any more for now; what is in memory alone is gone. */
void content_file_release(struct content_file *f, bool drop_memory);

#endif
