/* http_tls.h - the certificate and key that make HTTP to HTTPS, read and looked at before a client
 * can find out that something is wrong with them. */
#ifndef PACELINE_COORDINATOR_HTTP_TLS_H
#define PACELINE_COORDINATOR_HTTP_TLS_H

#include "base/err.h"

#include <stdbool.h>

struct http_tls {
    char *certificate; /* PEM: the server's own, then those between it and the root; NULL: no TLS */
    char *key;         /* PEM, without a passphrase */
    int days_left;     /* until the server's own has expired; negative: it has */
    bool is_exposed;   /* others than its owner can read the key's file: worth a warning */
};

/* ERR_CONFIG or ERR_IO: one of the files cannot be read, is not PEM, or the two do not belong
 * together. The caller clears *ret_tls on success. */
int http_tls_read(struct http_tls *ret_tls, const char *certificate_file, const char *key_file,
                  struct err *err);
/* Wipes the key. */
void http_tls_clear(struct http_tls *tls);

#endif
