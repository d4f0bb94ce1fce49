#include "coordinator/api_chat.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_messages.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdlib.h>

/* ---- the answer ---- */

static json_t *api_chat_message(const struct api_generation_piece *p)
{
    const struct api_generation *g = p->call->generation;
    if (g->params.is_stream && p->finish)
        return json_object();
    json_t *message = json_object();
    if (!g->params.is_stream || p->is_first)
        json_object_set_new(message, "role", json_string("assistant"));
    if (json_object_set_new(message, "content",
                            json_text_string(p->text ? p->text : "", p->text_length)) == 0)
        return message;
    json_decref(message);
    return NULL;
}

static json_t *api_chat_choice(const struct api_generation_piece *p)
{
    const struct api_generation *g = p->call->generation;
    bool is_whole = !g->params.is_stream;
    json_t *choice =
        json_pack("{s:i, s:o, s:s?}", "index", p->index, is_whole ? "message" : "delta",
                  api_chat_message(p), "finish_reason", p->finish);
    int rc = 0;
    if (g->wants_logprobs && (is_whole || p->n_records))
        rc |= json_object_set_new(choice, "logprobs", api_usage_chat_logprobs(p));
    else
        rc |= json_object_set_new(choice, "logprobs", json_null());
    if (g->params.return_token_ids && (is_whole || p->n_records))
        rc |= json_object_set_new(choice, "token_ids", api_usage_token_ids(p));
    if (g->params.return_token_ids && p->is_first)
        rc |= json_object_set_new(choice, "prompt_token_ids", api_usage_prompt_ids(p->request));
    if (rc == 0)
        return choice;
    json_decref(choice);
    return NULL;
}

static void api_chat_text_chunk(const struct api_generation_piece *p, struct buf *out)
{
    buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":", p->index);
    json_text_quote(out, p->text, p->text_length);
    buf_puts(out, "},\"finish_reason\":null,\"logprobs\":null}");
}

static const struct api_generation_format api_chat_format = {
    .id_prefix = "chatcmpl-",
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .chunk_before_text = true,
    .choice = api_chat_choice,
    .text_chunk = api_chat_text_chunk,
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

static int api_chat_add_prompt(struct api_call *c, struct err *err)
{
    struct buf text;
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct request *r = NULL;
    buf_init(&text);
    int rc = api_messages_render(c, &text, err);
    if (rc == 0)
        rc = api_params_encode(c, buf_text(&text), text.length, &ids, &n_ids, err);
    buf_clear(&text);
    if (rc == 0)
        rc = api_params_request(&c->generation->params, c, ids, n_ids, &r, err);
    if (rc != 0) {
        free(ids);
        return rc;
    }
    return api_generation_add(c, r, err);
}

void api_chat(struct api_call *c)
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
        rc = api_generation_new(c, &api_chat_format, &params, &err);
    api_params_clear(&params);
    if (rc == 0)
        rc = api_chat_add_prompt(c, &err);
    if (rc == 0)
        rc = api_generation_submit(c, &err);
    api_generation_began(c, rc == 0 ? NULL : &err);
}
