#include "cli/http_client.h"

#include "base/version.h"
#include "cli/paths.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HTTP_CONNECT_MS = 5000, HTTP_BODY_LIMIT = 1 << 28, KEY_FILE_LIMIT = 1 << 22 };

struct exchange {
    const struct http_client *client;
    CURL *curl;
    http_client_sink *sink; /* takes the body of a 200; NULL: collected */
    void *context;
    struct buf body;
    int failure; /* an err_code with its sentence in err, or 0 */
    struct err *err;
};

int http_client_read_key(const char *key_file, char **ret_key, struct err *err)
{
    static const char *const blank = " \t\r\n";
    char *text;
    size_t bytes;
    int rc = verb_read_file(key_file, KEY_FILE_LIMIT, &text, &bytes, err);
    if (rc < 0) {
        err_prefix(err, "--api-key-file");
        return err->code = ERR_CONFIG;
    }
    const char *key = text + strspn(text, blank);
    while (*key == '#') {
        key += strcspn(key, "\n");
        key += strspn(key, blank);
    }
    size_t length = strcspn(key, blank);
    memmove(text, key, length);
    text[length] = '\0';
    *ret_key = text;
    return 0;
}

int http_client_init(struct http_client *c, const char *base, const char *key_file,
                     const char *ca_file, struct err *err)
{
    *c = (struct http_client){0};
    int rc = paths_format(&c->base, err, "%s%s", strstr(base, "://") ? "" : "http://", base);
    size_t length = rc == 0 ? strlen(c->base) : 0;
    while (length && c->base[length - 1] == '/')
        c->base[--length] = '\0';
    if (length > 3 && !strcmp(c->base + length - 3, "/v1"))
        c->base[length - 3] = '\0';
    if (rc == 0 && key_file)
        rc = http_client_read_key(key_file, &c->key, err);
    if (rc == 0 && ca_file)
        rc = paths_format(&c->ca_file, err, "%s", ca_file);
    if (rc == 0 && ca_file && access(ca_file, R_OK) != 0)
        rc = err_set(err, ERR_CONFIG, "--ca-file: %s: %s", ca_file, strerror(errno));
    if (rc < 0)
        http_client_clear(c);
    return rc;
}

void http_client_clear(struct http_client *c)
{
    free(c->base);
    free(c->key);
    free(c->ca_file);
    *c = (struct http_client){0};
}

static size_t exchange_write(char *bytes, size_t size, size_t count, void *context)
{
    struct exchange *x = context;
    size_t length = size * count;
    long status = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (x->sink && status == 200) {
        x->failure = x->sink(x->context, bytes, length, x->err);
        return x->failure < 0 ? 0 : length;
    }
    if (x->body.length + length > HTTP_BODY_LIMIT) {
        x->failure = err_set(x->err, ERR_NETWORK, "the server's answer is too long");
        return 0;
    }
    buf_append(&x->body, bytes, length);
    return length;
}

static int exchange_watch(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                          curl_off_t up_now)
{
    struct exchange *x = context;
    if (stop_signal_is_raised())
        x->failure = err_set(x->err, ERR_CANCELLED, "stopped");
    else if (x->client->watch)
        x->failure = x->client->watch(x->client->watch_context, x->err);
    return x->failure < 0;
}

int http_client_refused(const char *url, long status, const struct buf *body, struct err *err)
{
    json_t *root = json_loadb(buf_text(body), body->length, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    const char *text = json_string_value(json_object_get(error, "message"));
    if (!text)
        text = json_string_value(error);
    int code = status == 503   ? ERR_UNAVAILABLE
               : status == 401 ? ERR_AUTH
               : status == 404 ? ERR_NOT_FOUND
               : status == 429 ? ERR_LIMIT
               : status >= 500 ? ERR_NETWORK
                               : ERR_INPUT;
    if (text)
        err_set(err, code, "%s", text);
    else
        err_set(err, code, "%s: HTTP status %ld", url, status);
    json_decref(root);
    return code;
}

/* A failed exchange, in libcurl's words and with what is usually the reason. */
static int exchange_fail(const char *url, CURLcode code, const char *reason, struct err *err)
{
    const char *hint = "";
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        hint = " (--ca-file names the certificates that are believed)";
    else if (code == CURLE_SSL_CONNECT_ERROR)
        hint = " (does the server speak https?)";
    else if (code == CURLE_GOT_NOTHING && !strncmp(url, "http:", 5))
        hint = " (does the server speak https only?)";
    return err_set(err, ERR_NETWORK, "%s: %s%s", url, *reason ? reason : curl_easy_strerror(code),
                   hint);
}

static int exchange_finish(struct exchange *x, const char *url, CURLcode code, const char *reason,
                           struct err *err)
{
    long status = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (x->failure)
        return x->failure;
    if (code != CURLE_OK)
        return exchange_fail(url, code, reason, err);
    if (buf_failed(&x->body))
        return err_set(err, ERR_MEMORY, "%s: no memory for the answer", url);
    if (status != 200)
        return http_client_refused(url, status, &x->body, err);
    return 0;
}

int http_client_headers(const struct http_client *c, struct curl_slist **ret_headers,
                        struct err *err)
{
    char *authorization = NULL;
    int rc = c->key ? paths_format(&authorization, err, "Authorization: Bearer %s", c->key) : 0;
    /* Without "Expect", no extra round trip for long bodies. */
    const char *const lines[] = {"Content-Type: application/json", "Expect:", authorization};
    struct curl_slist *headers = NULL;
    for (size_t i = 0; rc == 0 && i < sizeof lines / sizeof *lines && lines[i]; i++) {
        struct curl_slist *longer = curl_slist_append(headers, lines[i]);
        if (!longer)
            rc = err_set(err, ERR_MEMORY, "no memory for a request");
        else
            headers = longer;
    }
    if (rc < 0)
        curl_slist_free_all(headers);
    else
        *ret_headers = headers;
    free(authorization);
    return rc;
}

void http_client_prepare(const struct http_client *c, CURL *curl, const char *url,
                         struct curl_slist *headers)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "paceline/" PACELINE_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (c->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, c->ca_file);
    if (c->takes_any_name)
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
}

/* request: the text of the body of a POST, or NULL for a GET. */
static int exchange_run(const struct http_client *c, struct exchange *x, const char *path,
                        const char *request, long timeout_ms, struct err *err)
{
    char *url = NULL, reason[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    x->client = c;
    x->err = err;
    int rc = paths_format(&url, err, "%s%s", c->base, path);
    if (rc == 0)
        rc = http_client_headers(c, &headers, err);
    x->curl = rc == 0 ? curl_easy_init() : NULL;
    if (rc == 0 && !x->curl)
        rc = err_set(err, ERR_MEMORY, "no memory for a request");
    if (rc == 0) {
        http_client_prepare(c, x->curl, url, headers);
        curl_easy_setopt(x->curl, CURLOPT_TIMEOUT_MS, timeout_ms);
        curl_easy_setopt(x->curl, CURLOPT_ERRORBUFFER, reason);
        curl_easy_setopt(x->curl, CURLOPT_WRITEFUNCTION, exchange_write);
        curl_easy_setopt(x->curl, CURLOPT_WRITEDATA, x);
        curl_easy_setopt(x->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(x->curl, CURLOPT_XFERINFOFUNCTION, exchange_watch);
        curl_easy_setopt(x->curl, CURLOPT_XFERINFODATA, x);
        if (request)
            curl_easy_setopt(x->curl, CURLOPT_POSTFIELDS, request);
        rc = exchange_finish(x, url, curl_easy_perform(x->curl), reason, err);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(x->curl);
    free(url);
    return rc;
}

static int exchange_json(const struct http_client *c, const char *path, const char *request,
                         long timeout_ms, json_t **ret_body, struct err *err)
{
    struct exchange x = {0};
    json_error_t at;
    int rc = exchange_run(c, &x, path, request, timeout_ms, err);
    if (rc == 0 && ret_body) {
        *ret_body = json_loadb(buf_text(&x.body), x.body.length, 0, &at);
        if (!*ret_body)
            rc = err_set(err, ERR_NETWORK, "%s%s: the answer is not JSON: %s", c->base, path,
                         at.text);
    }
    buf_clear(&x.body);
    return rc;
}

int http_client_get(const struct http_client *c, const char *path, long timeout_ms,
                    json_t **ret_body, struct err *err)
{
    return exchange_json(c, path, NULL, timeout_ms, ret_body, err);
}

static int http_client_dump(const json_t *request, char **ret_text, struct err *err)
{
    *ret_text = json_dumps(request, JSON_COMPACT);
    return *ret_text ? 0 : err_set(err, ERR_MEMORY, "no memory for a request");
}

int http_client_post(const struct http_client *c, const char *path, const json_t *request,
                     json_t **ret_body, struct err *err)
{
    char *text;
    int rc = http_client_dump(request, &text, err);
    if (rc == 0)
        rc = exchange_json(c, path, text, 0, ret_body, err);
    free(text);
    return rc;
}

int http_client_post_raw(const struct http_client *c, const char *path, const json_t *request,
                         http_client_sink *sink, void *context, struct err *err)
{
    struct exchange x = {.sink = sink, .context = context};
    char *text;
    int rc = http_client_dump(request, &text, err);
    if (rc == 0)
        rc = exchange_run(c, &x, path, text, 0, err);
    free(text);
    buf_clear(&x.body);
    return rc;
}

/* ---- server-sent events ---- */

static int event_sink(void *context, const char *bytes, size_t length, struct err *err)
{
    return sse_reader_push(context, bytes, length, err);
}

int http_client_post_events(const struct http_client *c, const char *path, const json_t *request,
                            sse_reader_event *on_event, void *context, struct err *err)
{
    struct sse_reader r = {.on_event = on_event, .context = context};
    int rc = http_client_post_raw(c, path, request, event_sink, &r, err);
    if (rc == 0 && !r.done)
        rc = err_set(err, ERR_NETWORK, "the server's answer broke off");
    sse_reader_clear(&r);
    return rc;
}
