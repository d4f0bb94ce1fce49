#include "tests/support/http_fixture.h"

#include "coordinator/tokenizer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HTTP_FIXTURE_PATIENCE_S = 20 };

void http_fixture_open(struct http_fixture *f, const struct http_fixture_spec *spec)
{
    char path[512];
    snprintf(path, sizeof path, "%s/models/%s", TEST_DATA,
             spec->model ? spec->model : "qwen2-tied/gguf/qwen2-tied-Q4_0.gguf");
    const struct fake_coordinator_spec fake = {.model_path = path,
                                               .alias = spec->alias,
                                               .context = spec->context ? spec->context : 128,
                                               .most_requests =
                                                   spec->most_requests ? spec->most_requests : 8};
    f->coordinator = fake_coordinator_new(&fake);
    f->spec = (struct http_server_spec){
        .host = "127.0.0.1",
        .api_keys = spec->keys,
        .key_tenants = spec->key_tenants,
        .n_api_keys = spec->n_keys,
        .cors_origins = spec->cors_origins,
        .max_body_bytes = spec->max_body_bytes ? spec->max_body_bytes : 64 * 1024,
        .max_header_bytes = 32 * 1024,
        .receive_ms = 60 * 1000,
        .max_connections = spec->max_connections ? spec->max_connections : 32,
        .coordinator = f->coordinator,
        .store = {.journal = spec->journal,
                  .keep_s = spec->keep_s,
                  .most_bytes = spec->most_bytes ? spec->most_bytes : 1 << 20,
                  .kv_type = "f16",
                  .tenant_names = spec->tenant_names,
                  .n_tenants = spec->n_tenants}};
    http_fixture_reopen(f);
}

void http_fixture_reopen(struct http_fixture *f)
{
    struct err err = {0};
    if (http_server_open(&f->server, &f->spec, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

void http_fixture_close(struct http_fixture *f)
{
    http_server_close(f->server);
    fake_coordinator_free(f->coordinator);
}

void http_fixture_turn(struct http_fixture *f)
{
    struct pollfd wake = {.fd = http_server_fd(f->server), .events = POLLIN};
    int wait_ms = http_server_wait_ms(f->server);
    poll(&wake, 1, wait_ms >= 0 && wait_ms < 1 ? wait_ms : 1);
    http_server_run(f->server);
    fake_coordinator_step(f->coordinator);
}

void http_fixture_say(struct http_fixture *f, const char *text)
{
    uint32_t *ids;
    size_t n_ids;
    struct err err;
    int rc = tokenizer_encode(coordinator_tokenizer(f->coordinator), text, strlen(text), 0, &ids,
                              &n_ids, &err);
    assert(rc == 0);
    fake_coordinator_answer(f->coordinator, ids, (int)n_ids);
    free(ids);
}

/* ---- a client ---- */

int http_fixture_connect(struct http_fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_server_port(f->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = connect(fd, (struct sockaddr *)&to, sizeof to);
    assert(fd >= 0 && rc == 0);
    return fd;
}

void http_fixture_send(int fd, const void *bytes, size_t length)
{
    ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
    assert(sent == (ssize_t)length);
}

void http_fixture_request(int fd, const char *method, const char *path, const char *more,
                          const char *body)
{
    struct buf out;
    buf_init(&out);
    buf_printf(&out, "%s %s HTTP/1.1\r\nHost: test\r\n%s", method, path, more ? more : "");
    if (body)
        buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    else
        buf_puts(&out, "\r\n");
    http_fixture_send(fd, out.data, out.length);
    buf_clear(&out);
}

static bool http_fixture_take_head(struct http_answer *a)
{
    const char *end = strstr(buf_text(&a->raw), "\r\n\r\n");
    if (a->head.length)
        return true;
    if (!end)
        return false;
    size_t length = (size_t)(end - a->raw.data) + 4;
    buf_append(&a->head, a->raw.data, length);
    buf_drop_front(&a->raw, length);
    sscanf(a->head.data, "HTTP/1.1 %d", &a->status);
    if (a->status != 100)
        return true;
    buf_reset(&a->head);
    return http_fixture_take_head(a);
}

static bool http_fixture_take_chunks(struct http_answer *a)
{
    size_t at = 0;
    bool is_last = false;
    while (!is_last && at < a->raw.length) {
        const char *start = a->raw.data + at;
        const char *line = memmem(start, a->raw.length - at, "\r\n", 2);
        size_t size = strtoul(start, NULL, 16);
        size_t head = line ? (size_t)(line - start) + 2 : 0;
        if (!line || a->raw.length - at < head + size + 2)
            break;
        buf_append(&a->body, start + head, size);
        at += head + size + 2;
        is_last = size == 0;
    }
    buf_drop_front(&a->raw, at);
    return is_last;
}

static bool http_fixture_take_body(struct http_answer *a)
{
    const char *length = strcasestr(buf_text(&a->head), "\r\nContent-Length:");
    if (strcasestr(buf_text(&a->head), "\r\nTransfer-Encoding: chunked"))
        return http_fixture_take_chunks(a);
    size_t size = length ? strtoul(length + 17, NULL, 10) : 0;
    if (a->raw.length < size)
        return false;
    buf_append(&a->body, a->raw.data, size);
    buf_drop_front(&a->raw, size);
    return true;
}

bool http_fixture_poll(int fd, struct http_answer *a)
{
    char piece[65536];
    ssize_t got = 1;
    while (got > 0) {
        got = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (got > 0)
            buf_append(&a->raw, piece, (size_t)got);
    }
    a->is_closed |= got == 0 || (got < 0 && errno != EAGAIN);
    if (!a->is_complete && http_fixture_take_head(a) && http_fixture_take_body(a)) {
        a->is_complete = true;
        a->json = json_loadb(buf_text(&a->body), a->body.length, 0, NULL);
    }
    return a->is_complete;
}

void http_fixture_receive(struct http_fixture *f, int fd, struct http_answer *a)
{
    time_t start = time(NULL);
    while (!http_fixture_poll(fd, a) && !a->is_closed) {
        http_fixture_turn(f);
        if (time(NULL) - start > HTTP_FIXTURE_PATIENCE_S) {
            fprintf(stderr, "no answer: head %s body %s raw %s\n", buf_text(&a->head),
                    buf_text(&a->body), buf_text(&a->raw));
            abort();
        }
    }
}

void http_answer_clear(struct http_answer *a)
{
    buf_clear(&a->head);
    buf_clear(&a->body);
    buf_clear(&a->raw);
    json_decref(a->json);
    *a = (struct http_answer){0};
}

bool http_answer_has_header(const struct http_answer *a, const char *line)
{
    struct buf wanted;
    buf_init(&wanted);
    buf_printf(&wanted, "\r\n%s\r\n", line);
    bool found = strcasestr(buf_text(&a->head), buf_text(&wanted)) != NULL;
    buf_clear(&wanted);
    return found;
}

void http_fixture_ask(struct http_fixture *f, const char *method, const char *path,
                      const char *body, struct http_answer *a)
{
    *a = (struct http_answer){0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, method, path, NULL, body);
    http_fixture_receive(f, fd, a);
    close(fd);
    http_fixture_turn(f);
}

const json_t *http_fixture_at(const json_t *value, const char *path)
{
    char part[64];
    while (value && *path) {
        size_t length = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)length, path);
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(part))
                                     : json_object_get(value, part);
        path += length + (path[length] == '.');
    }
    return value;
}

const char *http_fixture_string(const json_t *value, const char *path)
{
    const char *text = json_string_value(http_fixture_at(value, path));
    return text ? text : "(no string)";
}
