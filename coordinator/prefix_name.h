/* prefix_name.h - names of KV blocks: SHA-256 chained over the tokens from the start.
 *
 *   name(-1) = SHA-256("paceline prefix 1" | scope | number)
 *   name(i)  = SHA-256(name(i - 1) | the 64 tokens of block i, 32 bits each, little-endian)
 *
 * Equal names mean equal tokens from the first position on, in the same scope, and so, as the bits
 * do not depend on how they were computed, equal keys and values. Nobody can make two prompts of
 * one name, nor see from another tenant's scope what was asked here. */
#ifndef PACELINE_COORDINATOR_PREFIX_NAME_H
#define PACELINE_COORDINATOR_PREFIX_NAME_H

#include <stdint.h>

struct prefix_name {
    unsigned char digest[32];
};

enum prefix_scope {
    PREFIX_OF_TENANT,  /* shared by all requests of tenant `number` */
    PREFIX_OF_REQUEST, /* by the choices of one request only */
};

void prefix_name_root(enum prefix_scope scope, uint64_t number, struct prefix_name *ret_name);
/* tokens: [KV_BLOCK_TOKENS]. ret_name may be `before` itself. */
void prefix_name_next(const struct prefix_name *before, const uint32_t *tokens,
                      struct prefix_name *ret_name);

#endif
