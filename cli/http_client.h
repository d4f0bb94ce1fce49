/* http_client.h - requests to a coordinator (libcurl): JSON, server-sent events, raw bytes.
 *
 * An answer other than 200 is an error with the server's own sentence. A stop signal ends a request
 * with ERR_CANCELLED; the server frees what the request held when the connection closes. */
#ifndef PACELINE_CLI_HTTP_CLIENT_H
#define PACELINE_CLI_HTTP_CLIENT_H

#include "base/buf.h"
#include "base/err.h"
#include "cli/sse_reader.h"

#include <curl/curl.h>
#include <jansson.h>

struct http_client {
    char *base;          /* "http://127.0.0.1:8080" */
    char *key;           /* or NULL */
    char *ca_file;       /* of certificates that are believed; NULL: the system's */
    bool takes_any_name; /* … whichever name they are for */
    /* Asked now and then while an answer is awaited; a negative code ends the request. NULL: not.
     */
    int (*watch)(void *context, struct err *err);
    void *watch_context;
};

/* base with or without a final slash or "/v1". key_file: see below; it and ca_file may be NULL. */
int http_client_init(struct http_client *c, const char *base, const char *key_file,
                     const char *ca_file, struct err *err);
void http_client_clear(struct http_client *c);
/* The first key of a file that --api-key-file names: a server's own file will do, whose lines are
 * KEY [TENANT [WEIGHT]] and comments. *ret_key: malloc'd. */
int http_client_read_key(const char *key_file, char **ret_key, struct err *err);

/* GET, without waiting longer than timeout_ms (0: no limit). ret_body NULL: not wanted. */
int http_client_get(const struct http_client *c, const char *path, long timeout_ms,
                    json_t **ret_body, struct err *err);
int http_client_post(const struct http_client *c, const char *path, const json_t *request,
                     json_t **ret_body, struct err *err);
/* The body of the answer as it comes. The callback returns 0, or a negative code to end it. */
typedef int http_client_sink(void *context, const char *bytes, size_t length, struct err *err);
int http_client_post_raw(const struct http_client *c, const char *path, const json_t *request,
                         http_client_sink *sink, void *context, struct err *err);
/* Server-sent events whose data is JSON; [DONE] ends them. An event that is an error object ends
 * the request with its sentence. */
int http_client_post_events(const struct http_client *c, const char *path, const json_t *request,
                            sse_reader_event *on_event, void *context, struct err *err);

/* ---- parts, for those who run many requests at once ---- */

/* The headers of every request; the caller frees them with curl_slist_free_all(). */
int http_client_headers(const struct http_client *c, struct curl_slist **ret_headers,
                        struct err *err);
/* What every request has in common. The headers are borrowed. */
void http_client_prepare(const struct http_client *c, CURL *curl, const char *url,
                         struct curl_slist *headers);
/* The sentence of an OpenAI error object, or the status; the code is that of the status. */
int http_client_refused(const char *url, long status, const struct buf *body, struct err *err);

#endif
