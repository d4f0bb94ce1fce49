#include "proto/keys.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

#define Z85_BYTES 41

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int keys_fail(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "this libzmq makes no CURVE keys: %s", zmq_strerror(errno));
}

int keys_make(struct key_pair *ret_pair, struct err *err)
{
    char public_text[Z85_BYTES], secret_text[Z85_BYTES];
    if (zmq_curve_keypair(public_text, secret_text) != 0)
        return keys_fail(err);
    zmq_z85_decode(ret_pair->public_key, public_text);
    zmq_z85_decode(ret_pair->secret_key, secret_text);
    return 0;
}

int keys_derive(const unsigned char secret_key[KEYS_BYTES], struct key_pair *ret_pair,
                struct err *err)
{
    char public_text[Z85_BYTES], secret_text[Z85_BYTES];
    if (!zmq_z85_encode(secret_text, secret_key, KEYS_BYTES) ||
        zmq_curve_public(public_text, secret_text) != 0)
        return keys_fail(err);
    zmq_z85_decode(ret_pair->public_key, public_text);
    memcpy(ret_pair->secret_key, secret_key, KEYS_BYTES);
    return 0;
}

/* Six bits a character, the first ones first; 256 bits end in two that are zero. */
void keys_format(const unsigned char key[KEYS_BYTES], char to[KEYS_TEXT_BYTES])
{
    unsigned bits = 0;
    int n_bits = 0, at = 0;
    for (int i = 0; i < KEYS_BYTES; i++) {
        bits = bits << 8 | key[i];
        for (n_bits += 8; n_bits >= 6; n_bits -= 6)
            to[at++] = alphabet[bits >> (n_bits - 6) & 63];
    }
    to[at++] = alphabet[bits << (6 - n_bits) & 63];
    to[at] = '\0';
}

bool keys_parse(const char *text, size_t length, unsigned char ret_key[KEYS_BYTES])
{
    if (length != KEYS_TEXT_BYTES - 1)
        return false;
    unsigned char key[KEYS_BYTES];
    unsigned bits = 0;
    int n_bits = 0, at = 0;
    for (size_t i = 0; i < length; i++) {
        const char *letter = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (!letter)
            return false;
        bits = bits << 6 | (unsigned)(letter - alphabet);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            key[at++] = (unsigned char)(bits >> n_bits);
        }
    }
    if (bits & ((1u << n_bits) - 1))
        return false; /* one key has one form */
    memcpy(ret_key, key, KEYS_BYTES);
    return true;
}

bool keys_are_equal(const unsigned char a[KEYS_BYTES], const unsigned char b[KEYS_BYTES])
{
    unsigned char difference = 0;
    for (int i = 0; i < KEYS_BYTES; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}
