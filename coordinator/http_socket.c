#include "coordinator/http_socket.h"

#include <linux/tcp.h> /* netinet/tcp.h knows fewer fields */
#include <netinet/in.h>
#include <sys/socket.h>

uint64_t http_socket_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    return info.tcpi_bytes_received; /* 0 from kernels that do not fill it */
}

void http_socket_tell(int fd, const char *text, size_t length)
{
    /* A client that does not read gets no more than this. */
    (void)!send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}
