#include "coordinator/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int http_listen_bind(const struct addrinfo *a, const char *host, int port, int *ret_fd,
                            struct err *err)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, ERR_NETWORK, "HTTP: socket: %s", strerror(errno));
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* not held up by TIME_WAIT */
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) {
        *ret_fd = fd;
        return 0;
    }
    int why = errno;
    close(fd);
    if (why == EADDRINUSE)
        return err_set(err, ERR_NETWORK,
                       "HTTP: port %d of %s is in use: stop the program that has it, or choose "
                       "another port",
                       port, host);
    if (why == EADDRNOTAVAIL)
        return err_set(err, ERR_NETWORK, "HTTP: %s is not an address of this machine", host);
    return err_set(err, ERR_NETWORK, "HTTP: cannot listen on %s:%d: %s", host, port, strerror(why));
}

static int http_listen_port(int fd)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0)
        return 0;
    if (bound.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&bound)->sin6_port);
    return ntohs(((struct sockaddr_in *)&bound)->sin_port);
}

int http_listen_open(const char *host, int port, int *ret_fd, int *ret_port, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    const char *numeric = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    if (port < 0 || port > 65535 || getaddrinfo(numeric, service, &hints, &found) != 0)
        return err_set(err, ERR_NETWORK, "HTTP: '%s:%d' is not a numeric address and a port", host,
                       port);
    int fd = -1;
    int rc = http_listen_bind(found, host, port, &fd, err);
    freeaddrinfo(found);
    if (rc != 0)
        return rc;
    *ret_fd = fd;
    *ret_port = http_listen_port(fd);
    return 0;
}
