#include "coordinator/http_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HTTP_TLS_FILE_BYTES = 1 << 20 };

/* *ret_text: malloc'd, NUL-terminated. */
static int http_tls_load(const char *path, char **ret_text, bool *ret_is_exposed, struct err *err)
{
    struct stat st;
    FILE *file = fopen(path, "r");
    if (!file)
        return err_set(err, ERR_CONFIG, "%s: %s", path, strerror(errno));
    char *text = malloc(HTTP_TLS_FILE_BYTES + 1);
    size_t length = text ? fread(text, 1, HTTP_TLS_FILE_BYTES + 1, file) : 0;
    int rc = 0;
    if (!text)
        rc = err_set(err, ERR_MEMORY, "%s: no memory to read it", path);
    else if (ferror(file) || fstat(fileno(file), &st) != 0)
        rc = err_set(err, ERR_IO, "%s: it cannot be read: %s", path, strerror(errno));
    else if (length > HTTP_TLS_FILE_BYTES || memchr(text, 0, length))
        rc = err_set(err, ERR_CONFIG, "%s: this is no PEM file", path);
    fclose(file);
    if (rc != 0) {
        free(text);
        return rc;
    }
    text[length] = '\0';
    *ret_is_exposed = (st.st_mode & (S_IRGRP | S_IROTH)) != 0;
    *ret_text = text;
    return 0;
}

static void http_tls_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* A certificate of a PEM file, the first one; NULL: it holds none. */
static X509 *http_tls_parse_certificate(const char *text)
{
    BIO *in = BIO_new_mem_buf(text, -1);
    X509 *found = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    BIO_free(in);
    return found;
}

/* Nobody is there to be asked for a passphrase. */
static int http_tls_no_passphrase(char *to, int size, int is_writing, void *context)
{
    *(bool *)context = true;
    return -1;
}

static EVP_PKEY *http_tls_parse_key(const char *text, bool *ret_wants_passphrase)
{
    BIO *in = BIO_new_mem_buf(text, -1);
    EVP_PKEY *found =
        in ? PEM_read_bio_PrivateKey(in, NULL, http_tls_no_passphrase, ret_wants_passphrase) : NULL;
    BIO_free(in);
    return found;
}

static int http_tls_compare(const struct http_tls *tls, const char *certificate_file,
                            const char *key_file, int *ret_days_left, struct err *err)
{
    bool wants_passphrase = false;
    int seconds;
    X509 *certificate = http_tls_parse_certificate(tls->certificate);
    EVP_PKEY *key = http_tls_parse_key(tls->key, &wants_passphrase);
    int rc = 0;
    if (!certificate)
        rc =
            err_set(err, ERR_CONFIG,
                    "%s holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----",
                    certificate_file);
    else if (!key && wants_passphrase)
        rc = err_set(err, ERR_CONFIG,
                     "%s has a passphrase, and nobody is asked for it: \"openssl pkey -in %s\" "
                     "writes the key without",
                     key_file, key_file);
    else if (!key)
        rc =
            err_set(err, ERR_CONFIG,
                    "%s holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----",
                    key_file);
    else if (X509_check_private_key(certificate, key) != 1)
        rc = err_set(
            err, ERR_CONFIG,
            "%s is not the key of the certificate in %s, or that is not the first one there",
            key_file, certificate_file);
    else if (ASN1_TIME_diff(ret_days_left, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
        rc = err_set(err, ERR_CONFIG, "%s: its last day cannot be read", certificate_file);
    else if (seconds < 0)
        *ret_days_left -= 1;
    EVP_PKEY_free(key);
    X509_free(certificate);
    ERR_clear_error();
    return rc;
}

int http_tls_read(struct http_tls *ret_tls, const char *certificate_file, const char *key_file,
                  struct err *err)
{
    struct http_tls tls = {0};
    bool is_public;
    int rc = http_tls_load(certificate_file, &tls.certificate, &is_public, err);
    if (rc == 0)
        rc = http_tls_load(key_file, &tls.key, &tls.is_exposed, err);
    if (rc == 0)
        rc = http_tls_compare(&tls, certificate_file, key_file, &tls.days_left, err);
    if (rc != 0) {
        http_tls_clear(&tls);
        return rc;
    }
    *ret_tls = tls;
    return 0;
}

void http_tls_clear(struct http_tls *tls)
{
    http_tls_wipe(tls->certificate);
    http_tls_wipe(tls->key);
    *tls = (struct http_tls){0};
}
