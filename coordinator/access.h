/* access.h - who may use the API: keys, compared in constant time, and the tenants they are of. */
#ifndef PACELINE_COORDINATOR_ACCESS_H
#define PACELINE_COORDINATOR_ACCESS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct access_keys {
    char **keys;  /* [n] */
    int *tenants; /* [n]: whose each is */
    size_t n;
    char **names;    /* [n_tenants] */
    double *weights; /* [n_tenants], > 0 */
    int n_tenants;
    bool is_exposed; /* others than the file's owner can read it: worth a warning */
};

/* A line is KEY [TENANT [WEIGHT]]; blank lines and lines that begin with # do not count. Keys with
 * the same TENANT are one tenant's; a key without is a tenant of its own, key-1 for the first key
 * and so on. WEIGHT defaults to 1. ERR_IO, or ERR_CONFIG naming the line, also when the file holds
 * no key. */
int access_read(struct access_keys *ret_keys, const char *path, struct err *err);
void access_clear(struct access_keys *keys);

/* The index of the given key (NULL is fine), n_keys when it is none of them. Takes the same time
 * whichever key is right or nearly right. */
size_t access_find(const char *const *keys, size_t n_keys, const char *given);
/* The key in a header's value: "Bearer KEY"; NULL when it is of another form. */
const char *access_bearer(const char *authorization);

#endif
