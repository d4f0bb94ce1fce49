/* key_set.h - public keys that may be asked about from any thread. */
#ifndef PACELINE_PROTO_KEY_SET_H
#define PACELINE_PROTO_KEY_SET_H

#include "base/err.h"
#include "proto/keys.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct key_set {
    pthread_mutex_t lock;
    unsigned char (*keys)[KEYS_BYTES];
    size_t n;
};

void key_set_init(struct key_set *s); /* empty */
void key_set_clear(struct key_set *s);
/* Copies n keys in place of those before. ERR_MEMORY: these stay. */
int key_set_replace(struct key_set *s, const unsigned char (*keys)[KEYS_BYTES], size_t n,
                    struct err *err);
bool key_set_has(struct key_set *s, const unsigned char key[KEYS_BYTES]);

#endif
