/* python_index.h - finds wheels on a Python package index (PEP 503 pages, PEP 691 JSON), with the
 * addresses and certificates that pip is configured with. No Python runs. */
#ifndef PACELINE_CLI_PYTHON_INDEX_H
#define PACELINE_CLI_PYTHON_INDEX_H

#include "base/err.h"

#define PYTHON_INDEX_URLS 8

struct python_index {
    char *urls[PYTHON_INDEX_URLS]; /* index-url, then extra-index-url */
    int n_urls;
    char *certificates; /* file, or NULL: the system's */
};

struct python_wheel {
    char *url;
    char sha256[65]; /* "" when the index does not say */
};

/* Configuration files in pip's order, then PIP_* variables. */
int python_index_init(struct python_index *index, struct err *err);
void python_index_clear(struct python_index *index);
/* ERR_NETWORK: no index answered; ERR_NOT_FOUND: they have no such wheel. */
int python_index_find(const struct python_index *index, const char *package, const char *version,
                      struct python_wheel *ret_wheel, struct err *err);
void python_wheel_clear(struct python_wheel *wheel);
/* The wheel's address and checksum on a page that is there already. ERR_NOT_FOUND: not on it. */
int python_index_search(const char *page, size_t length, const char *type, const char *base,
                        const char *package, const char *version, struct python_wheel *ret_wheel,
                        struct err *err);

#endif
