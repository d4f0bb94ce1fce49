#include "cli/conversation.h"

#include "cli/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct answer {
    struct buf text;
    char finish[24];
    bool is_thinking; /* its last words were reasoning */
};

static int conversation_add(struct conversation *c, const char *role, const char *text,
                            struct err *err)
{
    json_t *message = json_pack("{s:s,s:s}", "role", role, "content", text);
    if (!message)
        return err_set(err, ERR_INPUT, "the message is not valid UTF-8");
    if (json_array_append_new(c->messages, message) < 0)
        return err_set(err, ERR_MEMORY, "no memory for the conversation");
    return 0;
}

int conversation_init(struct conversation *c, const struct http_client *client, const char *system,
                      struct err *err)
{
    *c = (struct conversation){.client = client, .seed = -1, .temperature = -1};
    c->messages = json_array();
    if (!c->messages)
        return err_set(err, ERR_MEMORY, "no memory for a conversation");
    return system ? conversation_set_system(c, system, err) : 0;
}

void conversation_free(struct conversation *c)
{
    json_decref(c->messages);
    free(c->system);
    *c = (struct conversation){0};
}

void conversation_clear(struct conversation *c)
{
    struct err ignored; /* the same message was accepted before */
    json_array_clear(c->messages);
    if (c->system)
        conversation_add(c, "system", c->system, &ignored);
}

int conversation_set_system(struct conversation *c, const char *system, struct err *err)
{
    char *copy = NULL;
    int rc = *system ? paths_format(&copy, err, "%s", system) : 0;
    if (rc < 0)
        return rc;
    free(c->system);
    c->system = copy;
    json_array_clear(c->messages);
    return copy ? conversation_add(c, "system", copy, err) : 0;
}

/* A terminal obeys control characters; a model's text has no business with it. Other bytes pass
 * as they are. */
static void answer_print(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x20 || *p == '\n' || *p == '\t')
            putchar(*p);
    fflush(stdout);
}

/* Reasoning is shown dim, to a person only: a pipe gets the answer alone. */
static void answer_think(struct answer *a, const char *text)
{
    if (!isatty(STDOUT_FILENO))
        return;
    if (!a->is_thinking)
        fputs("\033[2m", stdout);
    a->is_thinking = true;
    answer_print(text);
}

static void answer_end_thinking(struct answer *a)
{
    if (a->is_thinking)
        fputs("\033[0m\n\n", stdout);
    a->is_thinking = false;
}

static int answer_event(void *context, const json_t *event, struct err *err)
{
    struct answer *a = context;
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *delta = json_object_get(choice, "delta");
    const char *text = json_string_value(json_object_get(delta, "content"));
    const char *thought = json_string_value(json_object_get(delta, "reasoning_content"));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    if (thought && *thought)
        answer_think(a, thought);
    if (text && *text) {
        answer_end_thinking(a);
        buf_puts(&a->text, text);
        answer_print(text);
    }
    if (finish)
        snprintf(a->finish, sizeof a->finish, "%s", finish);
    return 0;
}

static json_t *conversation_request(const struct conversation *c)
{
    json_t *request = json_pack("{s:O,s:b}", "messages", c->messages, "stream", 1);
    if (request && c->max_tokens > 0)
        json_object_set_new(request, "max_tokens", json_integer(c->max_tokens));
    if (request && c->temperature >= 0)
        json_object_set_new(request, "temperature", json_real(c->temperature));
    if (request && c->seed >= 0)
        json_object_set_new(request, "seed", json_integer(c->seed));
    return request;
}

int conversation_ask(struct conversation *c, const char *text, struct err *err)
{
    size_t before = json_array_size(c->messages);
    int rc = conversation_add(c, "user", text, err);
    if (rc < 0)
        return rc;
    struct answer a = {0};
    json_t *request = conversation_request(c);
    rc = request ? http_client_post_events(c->client, "/v1/chat/completions", request, answer_event,
                                           &a, err)
                 : err_set(err, ERR_MEMORY, "no memory for a request");
    answer_end_thinking(&a);
    if ((rc == 0 || (rc == ERR_CANCELLED && a.text.length)) && !buf_failed(&a.text)) {
        struct err ignored;
        conversation_add(c, "assistant", buf_text(&a.text), rc == 0 ? err : &ignored);
    } else {
        while (json_array_size(c->messages) > before)
            json_array_remove(c->messages, json_array_size(c->messages) - 1);
    }
    if (rc == 0 && !strcmp(a.finish, "length")) {
        fflush(stdout);
        fputs("\n(the answer was cut: its limit of tokens, or the context, is full)", stderr);
    }
    json_decref(request);
    buf_clear(&a.text);
    return rc;
}

int conversation_retry(struct conversation *c, struct err *err)
{
    char *text = NULL;
    size_t n = json_array_size(c->messages);
    while (n &&
           strcmp(json_string_value(json_object_get(json_array_get(c->messages, n - 1), "role")),
                  "user") != 0)
        n--;
    if (!n)
        return err_set(err, ERR_INPUT, "there is nothing to answer again yet");
    int rc = paths_format(
        &text, err, "%s",
        json_string_value(json_object_get(json_array_get(c->messages, n - 1), "content")));
    while (rc == 0 && json_array_size(c->messages) >= n)
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    if (rc == 0)
        rc = conversation_ask(c, text, err);
    free(text);
    return rc;
}
