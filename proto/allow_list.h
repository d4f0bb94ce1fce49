/* allow_list.h - whom a coordinator lets in: workers by their public keys, and invites that nobody
 * has used yet.
 *
 * Two files of the trust folder, a line each: "NAME KEY DATE" in `workers`, "KEY EXPIRY" in
 * `invites`, where KEY is the public key of the one-time token. Every edit is made under the
 * folder's lock and from what the files say then, so that the coordinator and `paceline` may both
 * edit; each sees the other's edits with allow_list_refresh(). */
#ifndef PACELINE_PROTO_ALLOW_LIST_H
#define PACELINE_PROTO_ALLOW_LIST_H

#include "proto/trust_store.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define ALLOW_LIST_NAME 64

struct allow_worker {
    char name[ALLOW_LIST_NAME];
    unsigned char key[KEYS_BYTES];
    int64_t since_s; /* unix time */
};

struct allow_invite {
    unsigned char key[KEYS_BYTES];
    int64_t expires_s; /* unix time; from then on it is void */
};

struct allow_stamp { /* tells one version of a file from another */
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct allow_list {
    const struct trust_store *store; /* borrowed */
    struct allow_worker *workers;
    struct allow_invite *invites;
    size_t n_workers, n_invites;
    struct allow_stamp stamps[2];
};

/* Reads both files; those that are missing are empty. ERR_CONFIG names file and line. */
int allow_list_open(struct allow_list *ret_list, const struct trust_store *store, struct err *err);
void allow_list_close(struct allow_list *l);
/* Reads the files again if they were replaced. 1: they were; 0: no; on failure the list stays as it
 * was, and the same version of the files does not fail twice. */
int allow_list_refresh(struct allow_list *l, struct err *err);

const struct allow_worker *allow_list_worker(const struct allow_list *l,
                                             const unsigned char key[KEYS_BYTES]);
const struct allow_worker *allow_list_named(const struct allow_list *l, const char *name);
bool allow_list_is_invited(const struct allow_list *l, const unsigned char key[KEYS_BYTES],
                           int64_t now_s);

/* ---- edits; each is on the disk when it returns, and in the list ---- */

/* Also forgets the invites that are over. */
int allow_list_invite(struct allow_list *l, const unsigned char key[KEYS_BYTES], int64_t expires_s,
                      struct err *err);
/* Uses the invite up and puts the worker on the list, as `name` (printable, without blanks) or with
 * -2, -3 … if that is another's. A key that is there already keeps its name. invite NULL: needs
 * none. ERR_AUTH: the invite is unknown, used or over. */
int allow_list_enroll(struct allow_list *l, const unsigned char *invite,
                      const unsigned char key[KEYS_BYTES], const char *name, int64_t now_s,
                      struct err *err);
/* ERR_NOT_FOUND: nobody has that name. */
int allow_list_revoke(struct allow_list *l, const char *name, struct err *err);

#endif
