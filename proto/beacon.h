/* beacon.h - how workers find their coordinator on a LAN: a UDP datagram to the broadcast address,
 * once a second, as CZMQ's zbeacon sends and hears them.
 *
 *   "PACELINE"  8 bytes
 *   version     1, now 1
 *   flags       1; bit 0: links are encrypted
 *   port        2, of the cluster, big endian; the address is the sender's
 *   key        32, public, of the coordinator; zeros without encryption
 *   name       32, of the cluster, filled up with zeros
 *
 * Anybody may send one: it is a hint where to knock, and proves nothing. */
#ifndef PACELINE_PROTO_BEACON_H
#define PACELINE_PROTO_BEACON_H

#include "proto/keys.h"

#include <stddef.h>

#define BEACON_BYTES 76
#define BEACON_NAME  32 /* with a NUL */
#define BEACON_HOST  64

struct beacon {
    bool is_encrypted;
    int port;
    unsigned char key[KEYS_BYTES];
    char cluster[BEACON_NAME];
};

/* ERR_CONFIG: a name of a cluster is 1 to 31 letters, digits, dots, dashes and underscores. */
int beacon_check_name(const char *name, struct err *err);
void beacon_pack(const struct beacon *b, unsigned char to[BEACON_BYTES]);
bool beacon_unpack(const unsigned char *bytes, size_t size, struct beacon *ret_beacon);

/* A descriptor to send with, for a coordinator that listens on `host`. ERR_NETWORK. */
int beacon_open(int *ret_fd, const char *host, struct err *err);
/* To the broadcast address of each interface that `host` listens on. What cannot be sent is not. */
void beacon_send(int fd, const char *host, int udp_port, const struct beacon *b);
/* A descriptor that hears them; several programs of a machine may listen. */
int beacon_listen(int *ret_fd, int udp_port, struct err *err);
/* Never waits. false: there is none. */
bool beacon_receive(int fd, struct beacon *ret_beacon, char ret_host[BEACON_HOST]);

#endif
