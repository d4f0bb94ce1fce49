#include "coordinator/api_chat.h"

#include "coordinator/api_chunks.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdlib.h>
#include <string.h>

/* ---- the answer ---- */

static json_t *api_chat_call(const struct api_generation_piece *p, size_t i)
{
    const struct api_generation *g = p->call->generation;
    const struct tool_call *call = &p->calls[i];
    size_t index = p->first_call + i;
    json_t *value = json_pack(
        "{s:o, s:s, s:{s:o, s:o}}", "id",
        json_sprintf("call_%s_%d_%zu", g->id + strlen(g->format->id_prefix), p->index, index),
        "type", "function", "function", "name", json_text_string(call->name, strlen(call->name)),
        "arguments", json_text_string(buf_text(&call->arguments), call->arguments.length));
    int rc = 0;
    if (g->params.is_stream)
        rc = json_object_set_new(value, "index", json_integer((json_int_t)index));
    return api_chunks_checked(value, rc);
}

static int api_chat_set_calls(json_t *message, const struct api_generation_piece *p)
{
    json_t *list = json_array();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->n_calls; i++)
        rc = json_array_append_new(list, api_chat_call(p, i));
    return json_object_set_new(message, "tool_calls", api_chunks_checked(list, rc));
}

static int api_chat_set_reasoning(json_t *message, const struct api_generation_piece *p)
{
    return json_object_set_new(message, "reasoning_content",
                               json_text_string(p->reasoning, p->reasoning_length));
}

static json_t *api_chat_content(const struct api_generation_piece *p)
{
    return json_text_string(p->text ? p->text : "", p->text_length);
}

static json_t *api_chat_message(const struct api_generation_piece *p)
{
    json_t *content = p->n_calls && !p->text_length ? json_null() : api_chat_content(p);
    json_t *message =
        json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", content, "refusal");
    int rc = 0;
    if (p->reasoning)
        rc |= api_chat_set_reasoning(message, p);
    if (p->n_calls)
        rc |= api_chat_set_calls(message, p);
    return api_chunks_checked(message, rc);
}

static json_t *api_chat_delta(const struct api_generation_piece *p)
{
    json_t *delta = json_object();
    int rc = 0;
    if (p->is_first)
        rc = json_object_set_new(delta, "role", json_string("assistant"));
    if (p->n_calls)
        rc |= api_chat_set_calls(delta, p);
    else if (p->reasoning)
        rc |= api_chat_set_reasoning(delta, p);
    else if (!p->finish)
        rc |= json_object_set_new(delta, "content", api_chat_content(p));
    return api_chunks_checked(delta, rc);
}

static json_t *api_chat_choice(const struct api_generation_piece *p)
{
    const struct api_generation *g = p->call->generation;
    bool is_whole = !g->params.is_stream;
    json_t *choice =
        json_pack("{s:i, s:o, s:s?}", "index", p->index, is_whole ? "message" : "delta",
                  is_whole ? api_chat_message(p) : api_chat_delta(p), "finish_reason", p->finish);
    int rc = 0;
    if (g->wants_logprobs && (is_whole || p->n_records))
        rc |= json_object_set_new(choice, "logprobs", api_usage_chat_logprobs(p));
    else
        rc |= json_object_set_new(choice, "logprobs", json_null());
    if (g->params.return_token_ids && (is_whole || p->n_records))
        rc |= json_object_set_new(choice, "token_ids", api_usage_token_ids(p));
    if (g->params.return_token_ids && p->is_first)
        rc |= json_object_set_new(choice, "prompt_token_ids", api_usage_prompt_ids(p->request));
    return api_chunks_checked(choice, rc);
}

static void api_chat_text_chunk(const struct api_generation_piece *p, struct buf *out)
{
    buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":", p->index);
    json_text_quote(out, p->text, p->text_length);
    buf_puts(out, "},\"finish_reason\":null,\"logprobs\":null}");
}

static const struct api_chunks_form api_chat_form = {
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .choice = api_chat_choice,
    .text_chunk = api_chat_text_chunk,
};

static const struct api_generation_format api_chat_format = {
    .id_prefix = "chatcmpl-",
    .chunks = &api_chat_form,
    .chunk_before_text = true,
    .answer = api_chunks_answer,
    .write = api_chunks_write,
    .end = api_chunks_end,
    .fail = api_chunks_fail,
};

/* ---- the question ---- */

static int api_chat_read_logprobs(struct api_params *p, const json_t *body, struct err *err)
{
    int64_t top = 0;
    int rc = json_body_flag(body, "logprobs", &p->sampling.logprobs, err);
    if (rc == 0)
        rc = json_body_integer(body, "top_logprobs", 0, BATCH_TOP_LOGPROBS, &top, err);
    if (rc == 0 && top && !p->sampling.logprobs)
        rc = err_set_param(err, ERR_INPUT, "top_logprobs",
                           "'top_logprobs' needs 'logprobs' to be true.");
    p->sampling.top_logprobs = (uint32_t)top;
    return rc;
}

/* Legacy fields that would change the answer. */
static int api_chat_refuse_legacy(const json_t *body, struct err *err)
{
    static const char *const names[] = {"functions", "function_call"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_body_field(body, names[i]))
            return err_set_param(err, ERR_INPUT, names[i], "'%s' is not supported; use 'tools'.",
                                 names[i]);
    return 0;
}

static int api_chat_add_prompt(struct api_call *c, const struct buf *text, struct err *err)
{
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct request *r = NULL;
    int rc = api_params_encode(c, buf_text(text), text->length, &ids, &n_ids, err);
    if (rc == 0)
        rc = api_params_request(&c->generation->params, c, ids, n_ids, &r, err);
    if (rc != 0) {
        free(ids);
        return rc;
    }
    return api_generation_add(c, r, err);
}

static int api_chat_ask(struct api_call *c, struct err *err)
{
    struct api_prompt prompt = {0};
    int rc = api_prompt_make(&prompt, c, err);
    if (rc == 0)
        rc = api_prompt_constrain(&prompt, c, err);
    if (rc == 0)
        rc = api_chat_add_prompt(c, &prompt.text, err);
    if (rc == 0)
        rc = api_generation_read_replies(c->generation, &prompt.rules, &prompt.begin, err);
    api_prompt_clear(&prompt);
    return rc;
}

void api_chat_begin(struct api_call *c, const struct api_generation_format *format)
{
    struct api_params params = {0};
    struct err err = {0};
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_params_read(&params, c, &err);
    if (rc == 0)
        rc = api_chat_read_logprobs(&params, c->body, &err);
    if (rc == 0)
        rc = api_chat_refuse_legacy(c->body, &err);
    if (rc == 0)
        rc = api_generation_new(c, format, &params, &err);
    api_params_clear(&params);
    if (rc == 0)
        rc = api_chat_ask(c, &err);
    if (rc == 0)
        rc = api_generation_submit(c, &err);
    api_generation_began(c, rc == 0 ? NULL : &err);
}

void api_chat(struct api_call *c)
{
    api_chat_begin(c, &api_chat_format);
}
