/* download.h - one URL into a file or into memory, with resume (libcurl).
 * It asks for one thing and reports; which source is tried next is model_fetch.c's matter. */
#ifndef PACELINE_CLI_DOWNLOAD_H
#define PACELINE_CLI_DOWNLOAD_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct download {
    const char *url;
    const char *certificates; /* file of trusted certificates, or NULL: the system's */
    const char *accept;       /* Accept header, or NULL */
    int64_t limit;            /* bytes of the whole; more is refused */
    int64_t first_byte_ms;    /* left when the server has not answered by then */
    int64_t stall_ms;         /* left when nothing came for so long */
    void (*on_progress)(void *context, int64_t bytes); /* bytes of the whole so far; may be NULL */
    void *context;
};

/* Continues where the file ends, if the server can. ERR_NETWORK: it did not answer, or broke off
 * (the file keeps what came); ERR_CANCELLED: a stop signal. */
int download_to_file(const struct download *d, const char *path, struct err *err);
/* *ret_url: the final URL after redirections, malloc'd; ret_type: the media type. */
int download_to_memory(const struct download *d, struct buf *ret_body, char **ret_url,
                       char *ret_type, size_t type_size, struct err *err);
/* A reference found on a page, made absolute. *ret_url: malloc'd. */
int download_resolve(const char *base, const char *reference, char **ret_url, struct err *err);

#endif
