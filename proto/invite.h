/* invite.h - the line that brings a new worker in:
 *
 *   paceline1:HOST:PORT:KEY:TOKEN:EXPIRY
 *
 * KEY is the coordinator's public key. TOKEN is a CURVE secret key that works once: the coordinator
 * knows its public key alone. EXPIRY is unix time. An IPv6 HOST stands without brackets: the line
 * is read from its end, and holds nothing that a shell would take for its own. */
#ifndef PACELINE_PROTO_INVITE_H
#define PACELINE_PROTO_INVITE_H

#include "proto/keys.h"

#include <stddef.h>
#include <stdint.h>

#define INVITE_LINE 512

struct invite {
    char host[256];
    int port;
    unsigned char coordinator_key[KEYS_BYTES];
    struct key_pair token;
    int64_t expires_s;
};

/* ERR_USAGE says what is wrong with the line. Blanks around it do not matter. */
int invite_parse(const char *line, struct invite *ret_invite, struct err *err);
void invite_format(const struct invite *i, char to[INVITE_LINE]);
/* "90s", "30m", "1h", "7d": seconds. ERR_USAGE. */
int invite_duration(const char *text, int64_t *ret_seconds, struct err *err);

#endif
