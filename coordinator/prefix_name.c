#include "coordinator/prefix_name.h"

#include "kernels/attention.h"

#include <openssl/sha.h>
#include <string.h>

static unsigned char *prefix_put(unsigned char *to, uint64_t number, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        *to++ = (unsigned char)(number >> 8 * i);
    return to;
}

void prefix_name_root(enum prefix_scope scope, uint64_t number, struct prefix_name *ret_name)
{
    static const char title[] = "paceline prefix 1";
    unsigned char bytes[sizeof title + 16];
    memcpy(bytes, title, sizeof title);
    prefix_put(prefix_put(bytes + sizeof title, scope, 8), number, 8);
    SHA256(bytes, sizeof bytes, ret_name->digest);
}

void prefix_name_next(const struct prefix_name *before, const uint32_t *tokens,
                      struct prefix_name *ret_name)
{
    unsigned char bytes[sizeof before->digest + 4 * KV_BLOCK_TOKENS], *to = bytes;
    memcpy(to, before->digest, sizeof before->digest);
    to += sizeof before->digest;
    for (int i = 0; i < KV_BLOCK_TOKENS; i++)
        to = prefix_put(to, tokens[i], 4);
    SHA256(bytes, sizeof bytes, ret_name->digest);
}
