#include "proto/beacon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC         "PACELINE"
#define VERSION       1
#define ENCRYPTED_BIT 1

int beacon_check_name(const char *name, struct err *err)
{
    const size_t n = strlen(name);
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (n >= 1 && n < BEACON_NAME && strspn(name, letters) == n)
        return 0;
    return err_set(err, ERR_CONFIG,
                   "\"%.40s\" is no name of a cluster: 1 to %d letters, digits, dots, dashes and "
                   "underscores",
                   name, BEACON_NAME - 1);
}

void beacon_pack(const struct beacon *b, unsigned char to[BEACON_BYTES])
{
    memset(to, 0, BEACON_BYTES);
    memcpy(to, MAGIC, 8);
    to[8] = VERSION;
    to[9] = b->is_encrypted ? ENCRYPTED_BIT : 0;
    to[10] = (unsigned char)(b->port >> 8);
    to[11] = (unsigned char)b->port;
    memcpy(to + 12, b->key, KEYS_BYTES);
    memcpy(to + 44, b->cluster, strnlen(b->cluster, BEACON_NAME - 1));
}

bool beacon_unpack(const unsigned char *bytes, size_t size, struct beacon *ret_beacon)
{
    if (size != BEACON_BYTES || memcmp(bytes, MAGIC, 8) != 0 || bytes[8] != VERSION)
        return false;
    struct beacon b = {.is_encrypted = bytes[9] & ENCRYPTED_BIT,
                       .port = bytes[10] << 8 | bytes[11]};
    memcpy(b.key, bytes + 12, KEYS_BYTES);
    memcpy(b.cluster, bytes + 44, BEACON_NAME);
    if (!b.port || b.cluster[BEACON_NAME - 1] || beacon_check_name(b.cluster, NULL) != 0)
        return false;
    *ret_beacon = b;
    return true;
}

/* false: every address, or none of IPv4 */
static bool beacon_address(const char *host, struct in_addr *ret_address)
{
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, ret_address) ==
               1 &&
           ret_address->s_addr != INADDR_ANY;
}

static bool beacon_is_loopback(struct in_addr address)
{
    return ntohl(address.s_addr) >> 24 == 127;
}

int beacon_open(int *ret_fd, const char *host, struct err *err)
{
    const int on = 1;
    struct sockaddr_in own = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is_open = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0;
    if (is_open && beacon_address(host, &own.sin_addr)) /* so that this is where it comes from */
        is_open = bind(fd, (struct sockaddr *)&own, sizeof own) == 0;
    if (is_open) {
        *ret_fd = fd;
        return 0;
    }
    int rc = err_set(err, ERR_NETWORK, "no beacon: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

static void beacon_send_to(int fd, struct in_addr address, int udp_port,
                           const unsigned char bytes[BEACON_BYTES])
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = address};
    to.sin_port = htons((uint16_t)udp_port);
    sendto(fd, bytes, BEACON_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
}

void beacon_send(int fd, const char *host, int udp_port, const struct beacon *b)
{
    unsigned char bytes[BEACON_BYTES];
    struct in_addr own;
    struct ifaddrs *all = NULL;
    const bool is_one = beacon_address(host, &own);
    beacon_pack(b, bytes);
    if (is_one && beacon_is_loopback(own)) {
        beacon_send_to(fd, (struct in_addr){htonl(0x7fffffff)}, udp_port, bytes);
        return;
    }
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)a->ifa_addr;
        const unsigned wanted = IFF_UP | IFF_BROADCAST;
        if (!address || address->sin_family != AF_INET || (a->ifa_flags & wanted) != wanted ||
            !a->ifa_broadaddr || (is_one && address->sin_addr.s_addr != own.s_addr))
            continue;
        beacon_send_to(fd, ((const struct sockaddr_in *)a->ifa_broadaddr)->sin_addr, udp_port,
                       bytes);
    }
    freeifaddrs(all);
}

int beacon_listen(int *ret_fd, int udp_port, struct err *err)
{
    const int on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_ANY)}};
    any.sin_port = htons((uint16_t)udp_port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&any, sizeof any) == 0) {
        *ret_fd = fd;
        return 0;
    }
    int rc = err_set(err, ERR_NETWORK, "no beacon can be heard on UDP port %d: %s", udp_port,
                     strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

bool beacon_receive(int fd, struct beacon *ret_beacon, char ret_host[BEACON_HOST])
{
    unsigned char bytes[BEACON_BYTES + 1];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    for (int i = 0; i < 64; i++) {
        ssize_t n =
            recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &size);
        if (n < 0)
            return false;
        if (beacon_unpack(bytes, (size_t)n, ret_beacon) &&
            inet_ntop(AF_INET, &from.sin_addr, ret_host, BEACON_HOST))
            return true;
    }
    return false;
}
