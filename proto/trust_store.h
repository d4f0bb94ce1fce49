/* trust_store.h - the folder of secrets, $PACELINE_HOME/trust: files that nobody else may read, and
 * that are replaced as a whole.
 *
 *   coordinator.key, worker.key   this machine's key pairs, made at first need
 *   workers, invites              whom a coordinator lets in (allow_list.h)
 *   cluster                       the coordinator that a worker belongs to (membership.h)
 *   address                       where the coordinator listened last, for `paceline invite` */
#ifndef PACELINE_PROTO_TRUST_STORE_H
#define PACELINE_PROTO_TRUST_STORE_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/keys.h"

#include <stddef.h>

#define TRUST_STORE_PATH 4096

struct trust_store {
    char folder[TRUST_STORE_PATH - 64]; /* room for a file's name behind it */
};

/* folder NULL: $PACELINE_HOME/trust, by default ~/.cache/paceline/trust. Touches no file. */
int trust_store_locate(struct trust_store *ret_store, const char *folder, struct err *err);
/* Makes the folder if it is not there. ERR_CONFIG when it is another user's, or open to others. */
int trust_store_open(const struct trust_store *s, struct err *err);

/* 1: *ret_text (the caller's, buf_clear) holds the file; 0: there is none. ERR_CONFIG: others may
 * read it, or it is another user's or larger than a MiB. */
int trust_store_read(const struct trust_store *s, const char *name, struct buf *ret_text,
                     struct err *err);
/* Whole or not at all, also when the machine stops in the midst of it. */
int trust_store_write(const struct trust_store *s, const char *name, const char *text,
                      size_t length, struct err *err);
/* One editor at a time, of all processes; *ret_lock is for trust_store_unlock(). */
int trust_store_lock(const struct trust_store *s, int *ret_lock, struct err *err);
void trust_store_unlock(int lock);

/* The key pair of that file, made if there is none. */
int trust_store_key(const struct trust_store *s, const char *name, struct key_pair *ret_pair,
                    struct err *err);

#endif
