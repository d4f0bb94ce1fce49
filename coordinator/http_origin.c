#include "coordinator/http_origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* A part of a text. */
struct http_origin_word {
    const char *text;
    size_t length;
};

static bool http_origin_equal(struct http_origin_word a, struct http_origin_word b)
{
    return a.length == b.length && strncasecmp(a.text, b.text, a.length) == 0;
}

static bool http_origin_is(struct http_origin_word word, const char *text)
{
    return http_origin_equal(word, (struct http_origin_word){text, strlen(text)});
}

static bool http_origin_ends(struct http_origin_word word, const char *ending)
{
    size_t length = strlen(ending);
    return word.length > length &&
           strncasecmp(word.text + word.length - length, ending, length) == 0;
}

/* The next of a list, from *at on; false at the end. */
static bool http_origin_next(const char **at, struct http_origin_word *ret_word)
{
    const char *start = *at + strspn(*at, ", \t");
    size_t length = strcspn(start, ", \t");
    *at = start + length;
    *ret_word = (struct http_origin_word){start, length};
    return length > 0;
}

/* What stands behind SCHEME://, or nothing. */
static struct http_origin_word http_origin_authority(struct http_origin_word origin)
{
    const char *mark = memmem(origin.text, origin.length, "://", 3);
    size_t before = mark ? (size_t)(mark - origin.text) + 3 : origin.length;
    return (struct http_origin_word){origin.text + before, origin.length - before};
}

/* Takes ":PORT" off; nothing, or only a colon, is `port`. */
static struct http_origin_word http_origin_cut_port(struct http_origin_word authority,
                                                    struct http_origin_word *port)
{
    size_t at = authority.length;
    while (at > 0 && isdigit((unsigned char)authority.text[at - 1]))
        at--;
    if (at == 0 || authority.text[at - 1] != ':')
        return authority;
    if (at < authority.length)
        *port = (struct http_origin_word){authority.text + at, authority.length - at};
    return (struct http_origin_word){authority.text, at - 1};
}

static struct http_origin_word http_origin_host(struct http_origin_word authority)
{
    struct http_origin_word port;
    return http_origin_cut_port(authority, &port);
}

static bool http_origin_is_wellformed(struct http_origin_word origin)
{
    struct http_origin_word authority = http_origin_authority(origin);
    if (http_origin_is(origin, "*") || http_origin_is(origin, "null"))
        return true;
    if (!isalpha((unsigned char)origin.text[0]) || http_origin_host(authority).length == 0)
        return false;
    for (size_t i = 0; i < authority.length; i++)
        if (!isalnum((unsigned char)authority.text[i]) && !strchr("-._~:[]", authority.text[i]))
            return false;
    return true;
}

int http_origin_check(const char *list, struct err *err)
{
    struct http_origin_word word;
    bool is_empty = true;
    for (const char *at = list; http_origin_next(&at, &word); is_empty = false)
        if (!http_origin_is_wellformed(word))
            return err_set(err, ERR_CONFIG,
                           "'%.*s' is no origin: it takes the form https://example.org, with a "
                           "port where it is not the usual one and without a path; * is every page",
                           (int)(word.length < 200 ? word.length : 200), word.text);
    if (is_empty)
        return err_set(err, ERR_CONFIG, "names no origin: give https://example.org, or *");
    return 0;
}

static bool http_origin_is_listed(const char *list, const char *origin)
{
    struct http_origin_word word;
    for (const char *at = list; at && http_origin_next(&at, &word);)
        if (http_origin_is(word, "*") || (origin && http_origin_is(word, origin)))
            return true;
    return false;
}

/* An address, or a name that nobody can register: without a dot, or below these two. */
static bool http_origin_is_own_host(const char *allowed, struct http_origin_word host)
{
    char text[INET_ADDRSTRLEN] = "";
    struct in_addr address;
    struct http_origin_word word;
    if (host.length < sizeof text)
        memcpy(text, host.text, host.length);
    if (host.text[0] == '[' || inet_pton(AF_INET, text, &address) == 1 ||
        !memchr(host.text, '.', host.length) || http_origin_ends(host, ".localhost") ||
        http_origin_ends(host, ".internal"))
        return true;
    for (const char *at = allowed; at && http_origin_next(&at, &word);)
        if (http_origin_equal(http_origin_host(http_origin_authority(word)), host))
            return true;
    return false;
}

/* The page came from the address that it asks now. The scheme may differ: a proxy in front of this
 * server may speak TLS. */
static bool http_origin_is_same(const char *origin, const char *host)
{
    if (!host)
        return false;
    const char *usual = strncasecmp(origin, "https:", 6) == 0 ? "443" : "80";
    struct http_origin_word theirs = {usual, strlen(usual)}, ours = theirs;
    struct http_origin_word authority =
        http_origin_authority((struct http_origin_word){origin, strlen(origin)});
    struct http_origin_word from = http_origin_cut_port(authority, &theirs);
    struct http_origin_word to =
        http_origin_cut_port((struct http_origin_word){host, strlen(host)}, &ours);
    return http_origin_equal(from, to) && http_origin_equal(theirs, ours);
}

/* Somebody followed a link to us, which shows them our answer, and no page. */
static bool http_origin_is_visit(const struct http_origin_question *q)
{
    return (strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0) && q->fetch_mode &&
           strcasecmp(q->fetch_mode, "navigate") == 0 && q->fetch_dest &&
           strcasecmp(q->fetch_dest, "document") == 0;
}

enum http_origin http_origin_judge(const struct http_origin_rules *rules,
                                   const struct http_origin_question *q)
{
    if (http_origin_is_listed(rules->allowed, q->origin))
        return q->origin ? HTTP_ORIGIN_ALLOWED : HTTP_ORIGIN_OWN;
    if (rules->checks_host && q->host && q->host[0]) {
        struct http_origin_word host = {q->host, strlen(q->host)};
        if (!http_origin_is_own_host(rules->allowed, http_origin_host(host)))
            return HTTP_ORIGIN_WRONG_HOST;
    }
    if (q->fetch_site && strcasecmp(q->fetch_site, "same-origin") == 0)
        return HTTP_ORIGIN_OWN;
    if (q->origin)
        return http_origin_is_same(q->origin, q->host) ? HTTP_ORIGIN_OWN : HTTP_ORIGIN_STRANGE;
    bool is_elsewhere = q->fetch_site && strcasecmp(q->fetch_site, "none") != 0;
    return is_elsewhere && !http_origin_is_visit(q) ? HTTP_ORIGIN_STRANGE : HTTP_ORIGIN_OWN;
}
