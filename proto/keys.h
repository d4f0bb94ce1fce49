/* keys.h - CURVE key pairs (Curve25519, as libzmq uses them) and their text form. */
#ifndef PACELINE_PROTO_KEYS_H
#define PACELINE_PROTO_KEYS_H

#include "base/err.h"

#include <stdbool.h>

#define KEYS_BYTES 32
#define KEYS_TEXT_BYTES                                                                            \
    44 /* base64url without padding, and a NUL: safe in a shell and in a line                      \
        */

struct key_pair {
    unsigned char public_key[KEYS_BYTES];
    unsigned char secret_key[KEYS_BYTES];
};

/* A new pair. ERR_INTERNAL where libzmq was built without CURVE. */
int keys_make(struct key_pair *ret_pair, struct err *err);
/* The pair of a secret key. */
int keys_derive(const unsigned char secret_key[KEYS_BYTES], struct key_pair *ret_pair,
                struct err *err);
void keys_format(const unsigned char key[KEYS_BYTES], char to[KEYS_TEXT_BYTES]);
/* false: the `length` characters at text are not such a form. */
bool keys_parse(const char *text, size_t length, unsigned char ret_key[KEYS_BYTES]);
/* Without a hint from the time it takes. */
bool keys_are_equal(const unsigned char a[KEYS_BYTES], const unsigned char b[KEYS_BYTES]);

#endif
