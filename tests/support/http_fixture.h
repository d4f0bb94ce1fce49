/* http_fixture.h - an HTTP server over a fake coordinator, and clients on real sockets, all in one
 * thread: whoever waits for an answer runs the server meanwhile. */
#ifndef PACELINE_TESTS_SUPPORT_HTTP_FIXTURE_H
#define PACELINE_TESTS_SUPPORT_HTTP_FIXTURE_H

#include "base/buf.h"
#include "coordinator/http_server.h"
#include "tests/support/fake_coordinator.h"

#include <jansson.h>

struct http_fixture {
    struct coordinator *coordinator;
    struct http_server *server;
    struct http_server_spec spec;
};

struct http_fixture_spec {
    const char *const *keys;
    size_t n_keys;
    const char *cors_origins; /* NULL: none */
    const char *model;        /* below tests/data/models; NULL: Qwen2.5's tokenizer and template */
    const char *alias;        /* NULL: "tiny" */
    int64_t max_body_bytes;   /* 0: 64 KiB */
    int max_connections;      /* 0: 32 */
    int context;              /* 0: 128 */
    int most_requests;        /* 0: 8 */
    const char *journal;      /* a file, or NULL */
    int64_t keep_s;           /* 0: for ever */
    int64_t most_bytes;       /* 0: 1 MiB */
    const int *key_tenants;   /* [n_keys], or NULL; with */
    const char *const *tenant_names;
    int n_tenants;
};

struct http_answer {
    int status;
    struct buf head; /* status line and headers */
    struct buf body; /* decoded */
    struct buf raw;  /* what came, as far as it is not part of head or body */
    bool is_complete;
    bool is_closed; /* the server has closed the connection */
    json_t *json;   /* the body, if it is JSON */
};

void http_fixture_open(struct http_fixture *f, const struct http_fixture_spec *spec);
void http_fixture_close(struct http_fixture *f);
/* Another server in place of the one that was closed, over the same fake model. */
void http_fixture_reopen(struct http_fixture *f);
/* One turn of the server and of the fake model. */
void http_fixture_turn(struct http_fixture *f);
/* What the fake model will say. */
void http_fixture_say(struct http_fixture *f, const char *text);

int http_fixture_connect(struct http_fixture *f);
void http_fixture_send(int fd, const void *bytes, size_t length);
/* Headers without the blank line may be given in `more` ("Name: value\r\n"), or NULL. */
void http_fixture_request(int fd, const char *method, const char *path, const char *more,
                          const char *body);
/* Runs the server until the answer is complete; what came after it stays in raw. */
void http_fixture_receive(struct http_fixture *f, int fd, struct http_answer *a);
/* Reads what is there; true when the answer is complete. */
bool http_fixture_poll(int fd, struct http_answer *a);
void http_answer_clear(struct http_answer *a);
bool http_answer_has_header(const struct http_answer *a, const char *line);

/* Connect, ask, receive, close. */
void http_fixture_ask(struct http_fixture *f, const char *method, const char *path,
                      const char *body, struct http_answer *a);
/* A value by path in JSON: "choices.0.message.content"; NULL when there is none. */
const json_t *http_fixture_at(const json_t *value, const char *path);
const char *http_fixture_string(const json_t *value, const char *path);

#endif
