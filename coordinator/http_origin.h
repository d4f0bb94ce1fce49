/* http_origin.h - which web pages may use the API.
 *
 * A browser sends to 127.0.0.1 whatever a page from anywhere tells it to, and says whose page it
 * was: in Origin and, on trustworthy addresses, in Sec-Fetch-Site. Programs send neither and are
 * always let in. A page whose name was made to mean 127.0.0.1 (DNS rebinding) counts as the same
 * origin; it is told by its name in Host, and only by that. */
#ifndef PACELINE_COORDINATOR_HTTP_ORIGIN_H
#define PACELINE_COORDINATOR_HTTP_ORIGIN_H

#include "base/err.h"

#include <stdbool.h>

struct http_origin_rules {
    const char *allowed; /* "*", or origins with commas between them; NULL: none. Borrowed */
    bool checks_host;    /* no key protects the API */
};

/* Headers as they came, NULL without one. */
struct http_origin_question {
    const char *method, *origin, *host;
    const char *fetch_site, *fetch_mode, *fetch_dest; /* Sec-Fetch-… */
};

enum http_origin {
    HTTP_ORIGIN_OWN,       /* a program, or a page that this server has served */
    HTTP_ORIGIN_ALLOWED,   /* a page of another origin that may use the API, and read its answers */
    HTTP_ORIGIN_STRANGE,   /* a page that may not */
    HTTP_ORIGIN_WRONG_HOST /* Host is a name that others can make mean this address */
};

/* A list for `allowed`, as a check of an option: each is *, null, or SCHEME://HOST[:PORT]. */
int http_origin_check(const char *list, struct err *err);
enum http_origin http_origin_judge(const struct http_origin_rules *rules,
                                   const struct http_origin_question *q);

#endif
