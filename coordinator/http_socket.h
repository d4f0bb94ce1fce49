/* http_socket.h - what the kernel knows of a connection, and a word past libmicrohttpd. */
#ifndef PACELINE_COORDINATOR_HTTP_SOCKET_H
#define PACELINE_COORDINATOR_HTTP_SOCKET_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that have come since it was opened; 0 also when the kernel does not tell. */
uint64_t http_socket_received(int fd);
/* Sends what the socket takes at once, for a connection that ends then. */
void http_socket_tell(int fd, const char *text, size_t length);

#endif
