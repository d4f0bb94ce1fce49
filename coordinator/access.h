/* access.h - who may use the API: keys, compared in constant time. */
#ifndef PACELINE_COORDINATOR_ACCESS_H
#define PACELINE_COORDINATOR_ACCESS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct access_keys {
    char **keys; /* [n] */
    size_t n;
    bool is_exposed; /* others than the file's owner can read it: worth a warning */
};

/* One key a line; blank lines and lines that begin with # do not count. ERR_IO, or ERR_CONFIG
 * naming the line, also when the file holds no key. */
int access_read(struct access_keys *ret_keys, const char *path, struct err *err);
void access_clear(struct access_keys *keys);

/* Takes the same time whichever key is nearly right. */
bool access_is_granted(const char *const *keys, size_t n_keys, const char *given);
/* The key in a header's value: "Bearer KEY"; NULL when it is of another form. */
const char *access_bearer(const char *authorization);

#endif
