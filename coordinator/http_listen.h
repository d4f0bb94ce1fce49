/* http_listen.h - a listening socket, and words for why there is none. */
#ifndef PACELINE_COORDINATOR_HTTP_LISTEN_H
#define PACELINE_COORDINATOR_HTTP_LISTEN_H

#include "base/err.h"

/* host: numeric, or "localhost"; port 0: any free one. The caller closes *ret_fd. */
int http_listen_open(const char *host, int port, int *ret_fd, int *ret_port, struct err *err);

#endif
