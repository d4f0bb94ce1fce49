/* Streams that clients go on with: after a broken connection, and after the server was another. */
#include "coordinator/api_store.h"
#include "coordinator/journal.h"
#include "tests/support/fake_clock.h"
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CHAT     "/v1/chat/completions"
#define MESSAGES "/v1/messages"
#define TEXT     "/v1/completions"
#define SAID     "Grüße, \"世界\"! one two three\n"
#define ACCEPT   "Accept: text/event-stream\r\n"
#define HELLO    "{\"stream\":true,\"seed\":7,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

struct place {
    struct http_fixture fixture;
    char folder[64], journal[128];
};

static int open_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/paceline-replay-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->journal, sizeof p->journal, "%s/j.db", p->folder);
    http_fixture_open(&p->fixture,
                      &(struct http_fixture_spec){.journal = p->journal, .context = 512});
    http_fixture_say(&p->fixture, SAID);
    *state = p;
    return 0;
}

static int close_place(void **state)
{
    struct place *p = *state;
    char command[128];
    http_fixture_close(&p->fixture);
    snprintf(command, sizeof command, "rm -r '%s'", p->folder);
    assert_int_equal(system(command), 0);
    free(p);
    return 0;
}

/* ---- events ---- */

/* An event's text as it came, and its id ("" without one). */
struct event {
    char id[80], *data;
};

struct events {
    struct event list[200];
    int n;
};

static void take_events(struct events *e, const char *text)
{
    e->n = 0;
    for (const char *end; (end = strstr(text, "\n\n")); text = end + 2) {
        struct event *v = &e->list[e->n++];
        const char *data = strstr(text, "data: ");
        assert_true(data && data < end);
        v->id[0] = '\0';
        if (strncmp(text, "id: ", 4) == 0)
            snprintf(v->id, sizeof v->id, "%.*s", (int)strcspn(text + 4, "\n"), text + 4);
        v->data = strndup(data + 6, (size_t)(end - data - 6));
    }
}

static void free_events(struct events *e)
{
    for (int i = 0; i < e->n; i++)
        free(e->list[i].data);
    e->n = 0;
}

/* The texts of a stream's choices, one after the other, with roles and ends. */
static void join_events(const struct events *e, struct buf *out)
{
    size_t n_logprobs = 0;
    for (int choice = 0; choice < 4; choice++)
        for (int i = 0; i < e->n; i++) {
            json_t *v = json_loads(e->list[i].data, JSON_DECODE_ANY, NULL);
            const json_t *c = http_fixture_at(v, "choices.0");
            const char *text = json_string_value(http_fixture_at(c, "delta.content"));
            const char *plain = json_string_value(http_fixture_at(c, "text"));
            const char *end = json_string_value(http_fixture_at(c, "finish_reason"));
            if (c && json_integer_value(http_fixture_at(c, "index")) == choice) {
                if (http_fixture_at(c, "delta.role"))
                    buf_puts(out, "<role>");
                buf_puts(out, text ? text : plain ? plain : "");
                if (end)
                    buf_printf(out, "<%s>", end);
                n_logprobs += json_array_size(http_fixture_at(c, "logprobs.content"));
            }
            json_decref(v);
        }
    buf_printf(out, "%zu", n_logprobs);
}

static void ask(struct http_fixture *f, const char *path, const char *body, const char *last,
                struct http_answer *a)
{
    char more[200];
    snprintf(more, sizeof more, ACCEPT "%s%s%s", last ? "Last-Event-ID: " : "", last ? last : "",
             last ? "\r\n" : "");
    *a = (struct http_answer){0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", path, more, body);
    http_fixture_receive(f, fd, a);
    close(fd);
    http_fixture_turn(f);
}

/* A stream that is under way: the model rests after so many tokens, the connection stays. */
static int begin_stream(struct http_fixture *f, const char *path, const char *body, int n_tokens,
                        struct events *ret_events, struct buf *raw)
{
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", path, ACCEPT, body);
    fake_coordinator_hold(f->coordinator, true);
    while (fake_coordinator_open(f->coordinator) == 0)
        http_fixture_turn(f);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < n_tokens; i++)
        fake_coordinator_step(f->coordinator);
    fake_coordinator_hold(f->coordinator, true);
    /* The first event waits for the journal. */
    for (int i = 0; i < 2000 && (i < 5 || !strstr(buf_text(&a.body), "data: ")); i++) {
        http_fixture_turn(f);
        http_fixture_poll(fd, &a);
    }
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    http_fixture_poll(fd, &a);
    buf_append(raw, a.body.data, a.body.length);
    take_events(ret_events, buf_text(raw));
    assert_true(ret_events->n > 0);
    http_answer_clear(&a);
    return fd;
}

/* ---- tests ---- */

static void test_ids_for_those_who_want_them(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    struct events e;
    char want[80];
    ask(&p->fixture, CHAT, HELLO "}", NULL, &a);
    take_events(&e, buf_text(&a.body));
    assert_true(e.n > 8);
    json_t *first = json_loads(e.list[0].data, 0, NULL);
    for (int i = 0; i < e.n - 1; i++) {
        snprintf(want, sizeof want, "%s:%d", http_fixture_string(first, "id"), i + 1);
        /* A token without text of its own (half a character) has no event. */
        assert_true(strlen(e.list[i].id) >= strlen(want) &&
                    strncmp(e.list[i].id, want, strcspn(want, ":")) == 0);
        assert_true(atoi(strchr(e.list[i].id, ':') + 1) >= i + 1);
    }
    assert_string_equal(e.list[e.n - 1].data, "[DONE]");
    assert_string_equal(e.list[e.n - 1].id, "");
    json_decref(first);
    free_events(&e);
    http_answer_clear(&a);
    http_fixture_ask(&p->fixture, "POST", CHAT, HELLO "}", &a);
    assert_null(strstr(buf_text(&a.body), "id: "));
    http_answer_clear(&a);
}

/* What was had up to event `last`, and what came then, is the whole, choice by choice. */
static void check_together(const struct events *had, int last, const struct events *rest,
                           const char *want)
{
    struct events both = {.n = 0};
    struct buf got;
    buf_init(&got);
    for (int k = 0; k <= last; k++)
        both.list[both.n++] = had->list[k];
    for (int k = 0; k < rest->n; k++)
        both.list[both.n++] = rest->list[k];
    join_events(&both, &got);
    assert_string_equal(buf_text(&got), want);
    assert_string_equal(rest->list[rest->n - 1].data, "[DONE]");
    buf_clear(&got);
}

/* Asked to go on behind event `last`, a chat of SAID is whole. */
static void check_goes_on(struct http_fixture *f, const char *body, const struct events *had,
                          int last)
{
    struct http_answer a;
    struct events rest;
    ask(f, CHAT, body, had->list[last].id, &a);
    assert_int_equal(a.status, 200);
    take_events(&rest, buf_text(&a.body));
    check_together(had, last, &rest, "<role>" SAID "<stop>0");
    free_events(&rest);
    http_answer_clear(&a);
}

/* No number in an id is less than in the one before: whoever goes on twice gets nothing twice. */
static void check_ids(const char *had, const struct events *rest)
{
    for (int i = 0; i < rest->n && rest->list[i].id[0]; i++) {
        const char *before = strchr(i ? rest->list[i - 1].id : had, ':');
        const char *after = strchr(rest->list[i].id, ':');
        while (before && after) {
            assert_true(atoi(after + 1) >= atoi(before + 1));
            before = strchr(before + 1, ',');
            after = strchr(after + 1, ',');
        }
    }
}

/* last -1: nothing was had, but the name is known. */
static void go_on_from(struct http_fixture *f, const char *path, const char *body, int n_tokens,
                       int last, const char *want)
{
    struct http_answer a = {0};
    struct events had, rest;
    struct buf raw;
    char id[80], more[200];
    buf_init(&raw);
    int fd = begin_stream(f, path, body, n_tokens, &had, &raw), second = http_fixture_connect(f);
    last = last < had.n ? last : had.n - 1;
    snprintf(id, sizeof id, "%s", had.list[last < 0 ? 0 : last].id);
    if (last < 0)
        id[strcspn(id, ":")] = '\0';
    snprintf(more, sizeof more, ACCEPT "Last-Event-ID: %s\r\n", id);
    http_fixture_request(second, "POST", path, more, body);
    for (int i = 0; i < 10; i++)
        http_fixture_turn(f);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, second, &a);
    assert_int_equal(a.status, 200);
    take_events(&rest, buf_text(&a.body));
    check_together(&had, last, &rest, want);
    check_ids(id, &rest);
    close(fd);
    close(second);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    free_events(&had);
    free_events(&rest);
    buf_clear(&raw);
    http_answer_clear(&a);
}

/* From many events of the stream, while its first connection still hangs there. */
static void go_on_from_everywhere(struct http_fixture *f, const char *path, const char *body)
{
    struct http_answer whole;
    struct events want;
    struct buf text;
    buf_init(&text);
    http_fixture_ask(f, "POST", path, body, &whole);
    take_events(&want, buf_text(&whole.body));
    join_events(&want, &text);
    for (int n = 0; n < 12; n++)
        go_on_from(f, path, body, n, n * 7 % 12 - 1, buf_text(&text));
    free_events(&want);
    buf_clear(&text);
    http_answer_clear(&whole);
}

static void test_chat_goes_on(void **state)
{
    struct place *p = *state;
    go_on_from_everywhere(&p->fixture, CHAT, HELLO "}");
}

static void test_choices_and_logprobs_go_on(void **state)
{
    struct place *p = *state;
    go_on_from_everywhere(&p->fixture, CHAT, HELLO ",\"n\":3,\"logprobs\":true}");
}

/* A client that had much of one choice and little of another, and is cut off again meanwhile. */
static void test_ids_never_go_back(void **state)
{
    struct place *p = *state;
    struct http_answer a = {0};
    struct events had, rest;
    struct buf raw;
    char id[80], more[200];
    buf_init(&raw);
    int fd = begin_stream(&p->fixture, CHAT, HELLO ",\"n\":3}", 12, &had, &raw);
    int second = http_fixture_connect(&p->fixture);
    snprintf(id, sizeof id, "%.*s:2,9,4", (int)strcspn(had.list[0].id, ":"), had.list[0].id);
    snprintf(more, sizeof more, ACCEPT "Last-Event-ID: %s\r\n", id);
    http_fixture_request(second, "POST", CHAT, more, "{}");
    for (int i = 0; i < 10; i++)
        http_fixture_turn(&p->fixture);
    fake_coordinator_hold(p->fixture.coordinator, false);
    http_fixture_receive(&p->fixture, second, &a);
    take_events(&rest, buf_text(&a.body));
    assert_true(rest.n > 20);
    check_ids(id, &rest);
    close(fd);
    close(second);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(&p->fixture);
    free_events(&had);
    free_events(&rest);
    buf_clear(&raw);
    http_answer_clear(&a);
}

static void test_completions_go_on(void **state)
{
    struct place *p = *state;
    go_on_from_everywhere(&p->fixture, TEXT,
                          "{\"stream\":true,\"prompt\":[\"one\",\"two\"],\"echo\":true,\"seed\":1,"
                          "\"stop\":[\"three\"],\"n\":2,"
                          "\"stream_options\":{\"include_usage\":true}}");
}

/* ---- /v1/messages: pieces of several events ---- */

/* What the first n events say, but for names. */
static void join_messages(const struct events *e, int n, struct buf *out)
{
    for (int i = 0; i < n; i++) {
        json_t *v = json_loads(e->list[i].data, 0, NULL);
        const char *text = json_string_value(http_fixture_at(v, "delta.text"));
        const char *json = json_string_value(http_fixture_at(v, "delta.partial_json"));
        const char *stop = json_string_value(http_fixture_at(v, "delta.stop_reason"));
        buf_printf(out, "%s %d %s\n", http_fixture_string(v, "type"),
                   (int)json_integer_value(http_fixture_at(v, "index")),
                   text   ? text
                   : json ? json
                   : stop ? stop
                          : "");
        json_decref(v);
    }
}

static void messages_go_on_from(struct http_fixture *f, const char *body, int n_tokens,
                                const char *want)
{
    struct http_answer a = {0};
    struct events had, rest;
    struct buf raw, got;
    char more[200];
    buf_init(&raw);
    buf_init(&got);
    int fd = begin_stream(f, MESSAGES, body, n_tokens, &had, &raw), last = had.n;
    while (last && !had.list[last - 1].id[0])
        last--;
    assert_true(last > 0);
    int second = http_fixture_connect(f);
    snprintf(more, sizeof more, ACCEPT "Last-Event-ID: %s\r\n", had.list[last - 1].id);
    http_fixture_request(second, "POST", MESSAGES, more, body);
    for (int i = 0; i < 10; i++)
        http_fixture_turn(f);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, second, &a);
    assert_int_equal(a.status, 200);
    take_events(&rest, buf_text(&a.body));
    join_messages(&had, last, &got);
    join_messages(&rest, rest.n, &got);
    assert_string_equal(buf_text(&got), want);
    close(fd);
    close(second);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    free_events(&had);
    free_events(&rest);
    buf_clear(&raw);
    buf_clear(&got);
    http_answer_clear(&a);
}

static void test_messages_go_on(void **state)
{
    static const char body[] =
        "{\"stream\":true,\"max_tokens\":200,\"messages\":[{\"role\":\"user\","
        "\"content\":\"hi\"}],\"tools\":[{\"name\":\"a\",\"input_schema\":{}}]}";
    struct place *p = *state;
    struct http_answer whole;
    struct events want;
    struct buf text;
    buf_init(&text);
    http_fixture_say(&p->fixture, "Well.\n<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n"
                                  "</tool_call>\nDone, so.");
    ask(&p->fixture, MESSAGES, body, NULL, &whole);
    take_events(&want, buf_text(&whole.body));
    join_messages(&want, want.n, &text);
    assert_true(want.n > 10);
    assert_string_equal(want.list[want.n - 1].id, "");
    assert_true(want.list[want.n - 2].id[0]);
    for (int n = 0; n < 36; n += 3)
        messages_go_on_from(&p->fixture, body, n, buf_text(&text));
    free_events(&want);
    buf_clear(&text);
    http_answer_clear(&whole);
}

/* What was sent may not have come to its client: for a minute it can be asked for again. */
static void test_sent_is_kept_for_a_minute(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events e;
    char id[80];
    ask(f, CHAT, HELLO "}", NULL, &a);
    take_events(&e, buf_text(&a.body));
    snprintf(id, sizeof id, "%s", e.list[2].id);
    http_answer_clear(&a);
    for (int i = 0; i < 3; i++) { /* the minute begins anew each time */
        fake_clock_advance(50 * 1000);
        http_fixture_turn(f);
        check_goes_on(f, HELLO "}", &e, 2);
    }
    fake_clock_advance(62 * 1000);
    http_fixture_turn(f);
    ask(f, CHAT, HELLO "}", id, &a);
    assert_int_equal(a.status, 404);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "stream_not_found");
    http_answer_clear(&a);
    free_events(&e);
}

/* It is the first to go when there is too much. */
static void test_sent_goes_when_there_is_no_room(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events e;
    char id[80];
    f->spec.store.most_bytes = 1;
    http_server_close(f->server);
    http_fixture_reopen(f);
    ask(f, CHAT, HELLO "}", NULL, &a);
    take_events(&e, buf_text(&a.body));
    snprintf(id, sizeof id, "%s", e.list[2].id);
    http_answer_clear(&a);
    fake_clock_advance(300);
    http_fixture_turn(f);
    ask(f, CHAT, HELLO "}", id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    free_events(&e);
}

/* Whoever has left a stream leaves nothing behind. */
static void test_left_is_forgotten(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events e;
    struct buf raw;
    char id[80];
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 3, &e, &raw);
    snprintf(id, sizeof id, "%s", e.list[1].id);
    close(fd);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    ask(f, CHAT, HELLO "}", id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    free_events(&e);
    buf_clear(&raw);
}

static void test_of_another_endpoint_or_none(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    struct events e;
    struct buf raw;
    static const char *const ids[] = {":", "chatcmpl-nothing:3", "::::", "x:99999999999999,-1"};
    buf_init(&raw);
    int fd = begin_stream(&p->fixture, CHAT, HELLO "}", 3, &e, &raw);
    ask(&p->fixture, TEXT, "{}", e.list[0].id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        ask(&p->fixture, CHAT, HELLO "}", ids[i], &a);
        assert_int_equal(a.status, 404);
        http_answer_clear(&a);
    }
    close(fd);
    fake_coordinator_hold(p->fixture.coordinator, false);
    ask(&p->fixture, CHAT, HELLO "}", "", &a); /* none */
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    free_events(&e);
    buf_clear(&raw);
}

/* Only the newest of several followers' leaving ends the run. */
static void test_the_first_connection_may_end_first(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a = {0};
    struct events e;
    struct buf raw;
    char more[200];
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 4, &e, &raw);
    snprintf(more, sizeof more, ACCEPT "Last-Event-ID: %s\r\n", e.list[e.n - 1].id);
    int second = http_fixture_connect(f);
    http_fixture_request(second, "POST", CHAT, more, HELLO "}");
    for (int i = 0; i < 20; i++)
        http_fixture_turn(f);
    close(fd);
    for (int i = 0; i < 20; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 1);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, second, &a);
    struct events rest;
    take_events(&rest, buf_text(&a.body));
    check_together(&e, e.n - 1, &rest, "<role>" SAID "<stop>0");
    close(second);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    free_events(&e);
    free_events(&rest);
    buf_clear(&raw);
    http_answer_clear(&a);
}

/* ---- another server ---- */

static void copy_journal(const struct place *p, const char *from, const char *to)
{
    char command[512];
    (void)p;
    snprintf(command, sizeof command,
             "cp '%s' '%s' && rm -f '%s-wal' && { [ ! -e '%s-wal' ] || cp '%s-wal' '%s-wal'; }",
             from, to, to, from, from, to);
    assert_int_equal(system(command), 0);
}

/* The first server is gone: killed, with what was in the file then, or in order. */
static void change_server(struct place *p, bool is_killed)
{
    char copy[160];
    struct http_fixture *f = &p->fixture;
    snprintf(copy, sizeof copy, "%s/copy.db", p->folder);
    if (is_killed)
        copy_journal(p, p->journal, copy);
    http_server_close(f->server);
    if (is_killed)
        copy_journal(p, copy, p->journal);
    http_fixture_reopen(f);
}

static void finish_elsewhere(struct place *p, bool is_killed, const char *path, const char *body,
                             int n_tokens)
{
    struct http_fixture *f = &p->fixture;
    struct http_answer whole, a;
    struct events want, had, rest;
    struct buf raw, want_text;
    buf_init(&raw);
    buf_init(&want_text);
    http_fixture_ask(f, "POST", path, body, &whole);
    take_events(&want, buf_text(&whole.body));
    join_events(&want, &want_text);
    int fd = begin_stream(f, path, body, n_tokens, &had, &raw);
    change_server(p, is_killed);
    close(fd);
    fake_coordinator_hold(f->coordinator, false);
    const int last = had.n - 1;
    ask(f, path, "{}", had.list[last].id, &a);
    assert_int_equal(a.status, 200);
    take_events(&rest, buf_text(&a.body));
    check_together(&had, last, &rest, buf_text(&want_text));
    /* Name, date and seed are those of the beginning. */
    json_t *first = json_loads(had.list[0].data, 0, NULL),
           *then = json_loads(rest.list[0].data, 0, NULL);
    assert_true(json_equal(json_object_get(first, "id"), json_object_get(then, "id")));
    assert_true(json_equal(json_object_get(first, "created"), json_object_get(then, "created")));
    assert_int_equal(fake_coordinator_last(f->coordinator)->sampling.seed,
                     (uint64_t)json_integer_value(json_object_get(first, "seed")));
    json_decref(first);
    json_decref(then);
    if (!is_killed) /* nothing is computed twice */
        assert_int_equal(fake_coordinator_last_tokens(f->coordinator), n_tokens);
    http_answer_clear(&a);
    change_server(p, false);
    ask(f, path, "{}", had.list[last].id, &a); /* what was sent is not in the journal */
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    free_events(&had);
    free_events(&rest);
    free_events(&want);
    buf_clear(&raw);
    buf_clear(&want_text);
    http_answer_clear(&whole);
}

static void test_finished_after_an_orderly_end(void **state)
{
    struct place *p = *state;
    finish_elsewhere(p, false, CHAT, HELLO "}", 5);
}

/* The client has more than the journal: the tokens since its last transaction are made again. */
static void test_finished_after_a_kill(void **state)
{
    struct place *p = *state;
    finish_elsewhere(p, true, CHAT, HELLO ",\"n\":2,\"logprobs\":true}", 5);
}

static void test_a_drawn_seed_is_kept(void **state)
{
    struct place *p = *state;
    finish_elsewhere(p, true, TEXT, "{\"stream\":true,\"prompt\":[\"one\",\"two\"]}", 3);
}

/* Nobody comes back: it is finished, kept for a while, and then forgotten. */
static void test_finished_for_nobody(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events had;
    struct buf raw;
    buf_init(&raw);
    f->spec.store.keep_s = 100;
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    change_server(p, true);
    close(fd);
    fake_coordinator_set_ready(f->coordinator, false);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 20; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    fake_coordinator_set_ready(f->coordinator, true);
    for (int i = 0; i < 40; i++) {
        fake_clock_advance(20);
        http_fixture_turn(f);
    }
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    assert_int_equal(fake_coordinator_last(f->coordinator)->n_choices, 1);
    ask(f, CHAT, "{}", had.list[0].id, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(buf_text(&a.body), "[DONE]"));
    http_answer_clear(&a);
    /* That one was delivered; of another nobody hears any more. */
    free_events(&had);
    buf_clear(&raw);
    fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    change_server(p, true);
    close(fd);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 3; i++) {
        fake_clock_advance(300);
        http_fixture_turn(f);
    }
    for (int i = 0; i < 40; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    fake_clock_advance(102 * 1000);
    http_fixture_turn(f);
    ask(f, CHAT, "{}", had.list[0].id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    free_events(&had);
    buf_clear(&raw);
}

/* With other weights the rest would be another answer's. */
static void test_another_model_is_told(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events had;
    struct buf raw;
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    f->spec.store.kv_type = "q8_0";
    change_server(p, true);
    close(fd);
    fake_coordinator_hold(f->coordinator, false);
    ask(f, CHAT, "{}", had.list[0].id, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(buf_text(&a.body), "\"error\""));
    assert_non_null(strstr(buf_text(&a.body), "q8_0"));
    http_answer_clear(&a);
    free_events(&had);
    buf_clear(&raw);
}

/* A request that may be what ends the coordinator is not tried for ever; one that gets on is. */
static void test_restarts_without_end(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events had;
    struct buf raw;
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    for (int restart = 1; restart <= 7; restart++) {
        change_server(p, false); /* in order, so that all that was noted is in the file */
        for (int i = 0; i < 2; i++) {
            fake_clock_advance(300);
            http_fixture_turn(f);
        }
        assert_int_equal(fake_coordinator_open(f->coordinator), restart < 7);
        if (restart != 3)
            continue;
        fake_coordinator_hold(f->coordinator, false);
        fake_coordinator_step(f->coordinator);
        fake_coordinator_hold(f->coordinator, true);
        http_fixture_turn(f);
    }
    close(fd);
    ask(f, CHAT, "{}", had.list[0].id, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(buf_text(&a.body), "without a new token"));
    http_answer_clear(&a);
    fake_coordinator_hold(f->coordinator, false);
    free_events(&had);
    buf_clear(&raw);
}

/* Restarts after which it was not begun again, for the model was not there, say nothing of it. */
static void test_restarts_that_did_not_try_it(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct events had;
    struct buf raw;
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    fake_coordinator_set_ready(f->coordinator, false);
    for (int restart = 0; restart < 6; restart++) {
        change_server(p, false);
        for (int i = 0; i < 2; i++) {
            fake_clock_advance(300);
            http_fixture_turn(f);
        }
    }
    close(fd);
    fake_coordinator_set_ready(f->coordinator, true);
    fake_coordinator_hold(f->coordinator, false);
    check_goes_on(f, "{}", &had, had.n - 1);
    free_events(&had);
    buf_clear(&raw);
}

/* Whoever cannot have the port leaves the journal alone. */
static void test_no_port_no_journal(void **state)
{
    struct place *p = *state;
    struct http_server_spec spec = p->fixture.spec;
    struct http_server *other = NULL;
    struct err err = {0};
    char path[160];
    snprintf(path, sizeof path, "%s/other.db", p->folder);
    spec.store.journal = path;
    spec.port = http_server_port(p->fixture.server);
    assert_int_equal(http_server_open(&other, &spec, &err), ERR_NETWORK);
    assert_int_equal(access(path, F_OK), -1);
}

static int take_call(void *to, const struct journal_call *call, const struct journal_end *end,
                     struct err *err)
{
    (void)err;
    if (to)
        journal_add(to, call);
    if (to && end->outcome)
        journal_end(to, call->id, end);
    return 0;
}

static int take_tokens(void *to, const char *id, int choice, int64_t at, const void *data,
                       size_t length, struct err *err)
{
    (void)err;
    if (to)
        journal_add_tokens(to, id, choice, at, data, length);
    return 0;
}

/* All that is in the file is added to the journal `to`, or to none. */
static struct journal *open_file(const char *path, struct journal *to)
{
    struct journal *j = NULL;
    struct err err = {0};
    const struct journal_reader reader = {
        .context = to, .on_call = take_call, .on_tokens = take_tokens};
    assert_int_equal(journal_open(&j, path, &reader, &err), 0);
    return j;
}

/* Damaged entries stand before what is in the journal. */
static void damage_journal(const struct place *p)
{
    char path[160];
    static const struct {
        const char *id, *prompts;
    } cases[] = {{"damaged_1", "\xff\xff\xff\x7f"}, {"damaged_2", "\1\0\0\0"}, {"damaged_3", ""}};
    snprintf(path, sizeof path, "%s/damaged.db", p->folder);
    struct journal *j = open_file(path, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        journal_add(j, &(struct journal_call){.id = cases[i].id,
                                              .path = CHAT,
                                              .tenant = "default",
                                              .request_id = "",
                                              .bits = "",
                                              .body = "{}",
                                              .body_length = 2,
                                              .prompts = cases[i].prompts,
                                              .prompts_length = i < 2 ? 4 : 0,
                                              .n_prompts = 1,
                                              .n_choices = 1});
    journal_close(open_file(p->journal, j));
    journal_close(j);
    copy_journal(p, path, p->journal);
}

/* A damaged entry costs no other one, nor the journal. */
static void test_a_damaged_entry_is_left_out(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct events had;
    struct buf raw;
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    http_server_close(f->server);
    close(fd);
    damage_journal(p);
    http_fixture_reopen(f);
    http_fixture_ask(f, "GET", "/cluster", NULL, &a);
    assert_string_equal(http_fixture_string(a.json, "journal.state"), "on");
    http_answer_clear(&a);
    change_server(p, false);
    fake_coordinator_hold(f->coordinator, false);
    check_goes_on(f, "{}", &had, had.n - 1);
    free_events(&had);
    buf_clear(&raw);
}

/* A full queue is no end: what was accepted once waits. */
static void test_a_full_queue_waits(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a = {0};
    struct events had;
    struct buf raw;
    int others[8];
    char more[200];
    buf_init(&raw);
    int fd = begin_stream(f, CHAT, HELLO "}", 2, &had, &raw);
    change_server(p, true);
    close(fd);
    for (int i = 0; i < 8; i++) {
        others[i] = http_fixture_connect(f);
        http_fixture_request(others[i], "POST", TEXT, NULL, "{\"prompt\":\"x\",\"max_tokens\":3}");
    }
    fake_coordinator_set_ready(f->coordinator, false); /* nothing is begun again yet */
    fake_coordinator_set_ready(f->coordinator, true);
    while (fake_coordinator_open(f->coordinator) < 8)
        http_fixture_turn(f);
    snprintf(more, sizeof more, ACCEPT "Last-Event-ID: %s\r\n", had.list[0].id);
    fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", CHAT, more, "{}");
    for (int i = 0; i < 10; i++) {
        fake_clock_advance(300);
        http_fixture_turn(f);
    }
    assert_int_equal(fake_coordinator_open(f->coordinator), 8);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 10; i++)
        http_fixture_turn(f);
    fake_clock_advance(1300);
    http_fixture_receive(f, fd, &a);
    assert_non_null(strstr(buf_text(&a.body), "[DONE]"));
    for (int i = 0; i < 8; i++)
        close(others[i]);
    close(fd);
    for (int i = 0; i < 5; i++)
        http_fixture_turn(f);
    http_answer_clear(&a);
    free_events(&had);
    buf_clear(&raw);
}

/* The journal cannot be there: the server serves all the same. */
static void test_without_a_journal(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    p->fixture.spec.store.journal = "/dev/null/j.db";
    http_server_close(p->fixture.server);
    http_fixture_reopen(&p->fixture);
    go_on_from_everywhere(&p->fixture, CHAT, HELLO "}");
    http_fixture_ask(&p->fixture, "GET", "/cluster", NULL, &a);
    assert_string_equal(http_fixture_string(a.json, "journal.state"), "lost");
    assert_non_null(strstr(http_fixture_string(a.json, "journal.why"), "/dev/null"));
    http_answer_clear(&a);
}

static int open_keys(void **state)
{
    static const char *const keys[] = {"red", "blue"}, *const names[] = {"r", "b"};
    static const int tenants[] = {0, 1};
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/paceline-replay-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->journal, sizeof p->journal, "%s/j.db", p->folder);
    http_fixture_open(&p->fixture, &(struct http_fixture_spec){.journal = p->journal,
                                                               .keys = keys,
                                                               .n_keys = 2,
                                                               .key_tenants = tenants,
                                                               .tenant_names = names,
                                                               .n_tenants = 2});
    http_fixture_say(&p->fixture, SAID);
    *state = p;
    return 0;
}

static void ask_with_key(struct http_fixture *f, const char *key, const char *last,
                         struct http_answer *a)
{
    char more[200];
    snprintf(more, sizeof more, ACCEPT "X-Api-Key: %s\r\nLast-Event-ID: %s\r\n", key, last);
    *a = (struct http_answer){0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", CHAT, more, "{}");
    http_fixture_receive(f, fd, a);
    close(fd);
    http_fixture_turn(f);
}

/* A name that somebody else has seen is of no use to him, after a restart too, whose key file names
 * the tenants in another order. */
static void test_of_another_tenant(void **state)
{
    static const char *const names[] = {"b", "r"}, *const keys[] = {"blue", "red"};
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", CHAT, ACCEPT "X-Api-Key: red\r\n", HELLO "}");
    fake_coordinator_hold(f->coordinator, true);
    for (int i = 0; i < 60; i++) {
        http_fixture_turn(f);
        usleep(1000);
        http_fixture_poll(fd, &a);
    }
    char id[80];
    const char *at = strstr(buf_text(&a.body), "id: ");
    assert_non_null(at);
    snprintf(id, sizeof id, "%.*s", (int)strcspn(at + 4, "\n"), at + 4);
    http_answer_clear(&a);
    ask_with_key(f, "blue", id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    f->spec.store.tenant_names = names;
    f->spec.api_keys = keys;
    change_server(p, true);
    close(fd);
    fake_coordinator_hold(f->coordinator, false);
    ask_with_key(f, "blue", id, &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    ask_with_key(f, "red", id, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ids_for_those_who_want_them),
        TEST(test_chat_goes_on),
        TEST(test_choices_and_logprobs_go_on),
        TEST(test_ids_never_go_back),
        TEST(test_completions_go_on),
        TEST(test_messages_go_on),
        TEST(test_sent_is_kept_for_a_minute),
        TEST(test_sent_goes_when_there_is_no_room),
        TEST(test_left_is_forgotten),
        TEST(test_of_another_endpoint_or_none),
        TEST(test_the_first_connection_may_end_first),
        TEST(test_finished_after_an_orderly_end),
        TEST(test_finished_after_a_kill),
        TEST(test_a_drawn_seed_is_kept),
        TEST(test_finished_for_nobody),
        TEST(test_another_model_is_told),
        TEST(test_restarts_without_end),
        TEST(test_restarts_that_did_not_try_it),
        TEST(test_no_port_no_journal),
        TEST(test_a_damaged_entry_is_left_out),
        TEST(test_a_full_queue_waits),
        TEST(test_without_a_journal),
        cmocka_unit_test_setup_teardown(test_of_another_tenant, open_keys, close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
