/* err.h - a failure of the world: a code, and one sentence for the person who meets it.
 *
 * Functions that can fail return 0 or a negative code and fill the caller's `struct err`; the
 * sentence says what failed, where, and what to do. Mistakes of ours are assert()s instead.
 * Libraries never log: the program that called them does, once. */
#ifndef PACELINE_BASE_ERR_H
#define PACELINE_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum err_code {
    ERR_NONE = 0,
    ERR_USAGE = -1,        /* the command line is wrong */
    ERR_CONFIG = -2,       /* a configuration file or setting is wrong */
    ERR_MODEL = -3,        /* a model file is refused */
    ERR_NETWORK = -4,      /* a peer or an address could not be reached, bound or understood */
    ERR_MEMORY = -5,       /* memory is exhausted or a limit of it is too small */
    ERR_IO = -6,           /* a file or device failed */
    ERR_INPUT = -7,        /* a client's request is malformed or out of range */
    ERR_NOT_FOUND = -8,    /* a client named something that does not exist */
    ERR_LIMIT = -9,        /* a queue or quota is full: trying again later may help */
    ERR_UNAVAILABLE = -10, /* the service is not ready: loading, or a worker is missing */
    ERR_AUTH = -11,        /* no key, or a wrong one */
    ERR_CANCELLED = -12,   /* whoever asked does not want it any more */
    ERR_INTERNAL = -13,    /* we broke a promise, and say so instead of crashing */
    ERR_QUOTA = -14,       /* one client has its share: its own requests must end first */
    ERR_TIMEOUT = -15,     /* it took longer than is allowed here */
    ERR_CRASH = -16,       /* whoever works on it ends of it */
    ERR_DAMAGED = -17      /* bytes are not what they were, in memory or on a link */
};

struct err {
    int code;       /* an err_code */
    char param[48]; /* name of the offending request parameter or setting, or "" */
    char text[512]; /* one sentence */
};

/* Fills *err (which may be NULL) and returns `code`, so that callers can `return err_set(...)`. */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, naming the request parameter or setting that is at fault. */
int err_set_param(struct err *err, int code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "text: " before the sentence that is there: the caller knows which file or peer it was. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exit codes that scripts may rely on: 0, 1 usage, 2 configuration, 3 model, 4 network, 5 memory;
 * every other failure is 1. */
int err_exit_code(int code);
/* HTTP status: 400, 401, 404, 413, 429, 500, 503, 504. */
int err_http_status(int code);

#endif
