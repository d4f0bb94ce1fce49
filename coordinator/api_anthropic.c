#include "coordinator/api_anthropic.h"

#include "coordinator/api_anthropic_body.h"
#include "coordinator/api_chat.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_text.h"

#include <inttypes.h>
#include <string.h>

/* ---- parts of an answer ---- */

static const char *anthropic_stop_reason(const struct api_generation_piece *p)
{
    bool is_clipped = p->request->max_tokens < p->call->generation->params.max_tokens;
    if (strcmp(p->finish, "length") == 0)
        return is_clipped ? "model_context_window_exceeded" : "max_tokens";
    if (strcmp(p->finish, "tool_calls") == 0)
        return "tool_use";
    return p->choice->stops.matched >= 0 ? "stop_sequence" : "end_turn";
}

/* ,"stop_reason":…,"stop_sequence":… without the first comma */
static void anthropic_write_stop(struct buf *out, const struct api_generation_piece *p)
{
    int matched = p->choice->stops.matched;
    const char *text = matched >= 0 ? p->request->stop[matched] : NULL;
    buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", anthropic_stop_reason(p));
    if (text)
        json_text_quote(out, text, strlen(text));
    else
        buf_puts(out, "null");
}

static void anthropic_write_usage(struct buf *out, const struct api_generation *g)
{
    struct api_usage u = api_usage_count(g);
    buf_printf(out,
               "\"usage\":{\"input_tokens\":%" PRId64 ",\"cache_creation_input_tokens\":0,"
               "\"cache_read_input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
               ",\"output_tokens_details\":{\"thinking_tokens\":%" PRId64 "}}",
               u.prompt - u.cached, u.cached, u.completion, u.reasoning);
}

static void anthropic_write_head(struct buf *out, const struct api_call *c)
{
    const char *alias = coordinator_model_alias(c->api->coordinator);
    buf_printf(out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
               c->generation->id);
    json_text_quote(out, alias, strlen(alias));
    buf_puts(out, ",\"content\":[");
}

/* {"type":"tool_use",…,"input": with the closing brace left to the caller */
static void anthropic_write_call(struct buf *out, const struct api_generation_piece *p, size_t i)
{
    const struct api_generation *g = p->call->generation;
    buf_printf(out, "{\"type\":\"tool_use\",\"id\":\"toolu_%s_%zu\",\"name\":",
               g->id + strlen(g->format->id_prefix), p->first_call + i);
    json_text_quote(out, p->calls[i].name, strlen(p->calls[i].name));
    buf_puts(out, ",\"input\":");
}

/* ---- a whole answer ---- */

static void anthropic_write_content(struct buf *out, const struct api_generation_piece *p)
{
    const char *comma = "";
    if (p->reasoning) {
        buf_puts(out, "{\"type\":\"thinking\",\"thinking\":");
        json_text_quote(out, p->reasoning, p->reasoning_length);
        buf_puts(out, ",\"signature\":\"\"}");
        comma = ",";
    }
    if (p->text_length || (!p->reasoning && !p->n_calls)) {
        buf_printf(out, "%s{\"type\":\"text\",\"text\":", comma);
        json_text_quote(out, p->text, p->text_length);
        buf_puts(out, "}");
        comma = ",";
    }
    for (size_t i = 0; i < p->n_calls; i++) {
        buf_puts(out, comma);
        anthropic_write_call(out, p, i);
        buf_append(out, buf_text(&p->calls[i].arguments), p->calls[i].arguments.length);
        buf_puts(out, "}");
        comma = ",";
    }
}

static void anthropic_answer(struct api_call *c)
{
    struct api_generation *g = c->generation;
    struct api_generation_piece piece;
    if (!api_generation_whole(c, 0, &g->requests[0]->choices[0], &piece)) {
        api_call_answer(c, 500, NULL);
        return;
    }
    anthropic_write_head(&c->out, c);
    anthropic_write_content(&c->out, &piece);
    buf_puts(&c->out, "],");
    anthropic_write_stop(&c->out, &piece);
    buf_puts(&c->out, ",");
    anthropic_write_usage(&c->out, g);
    buf_puts(&c->out, "}");
    api_call_complete(c, 200);
}

/* ---- a stream ---- */

static void anthropic_begin_event(struct buf *out, const char *type)
{
    buf_printf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void anthropic_end_event(struct buf *out)
{
    buf_puts(out, "}\n\n");
}

static void anthropic_start(struct api_call *c)
{
    anthropic_begin_event(&c->out, "message_start");
    buf_puts(&c->out, ",\"message\":");
    anthropic_write_head(&c->out, c);
    buf_puts(&c->out, "],\"stop_reason\":null,\"stop_sequence\":null,");
    anthropic_write_usage(&c->out, c->generation);
    buf_puts(&c->out, "}");
    anthropic_end_event(&c->out);
}

static void anthropic_close(struct api_call *c)
{
    struct api_generation *g = c->generation;
    if (!g->open_block)
        return;
    anthropic_begin_event(&c->out, "content_block_stop");
    buf_printf(&c->out, ",\"index\":%d", g->n_blocks++);
    anthropic_end_event(&c->out);
    g->open_block = NULL;
}

/* From here on a block of that type grows; empty: its object before it has anything. */
static void anthropic_open(struct api_call *c, const char *type, const char *empty)
{
    struct api_generation *g = c->generation;
    if (g->open_block && strcmp(g->open_block, type) == 0)
        return;
    anthropic_close(c);
    anthropic_begin_event(&c->out, "content_block_start");
    buf_printf(&c->out, ",\"index\":%d,\"content_block\":%s", g->n_blocks, empty);
    anthropic_end_event(&c->out);
    g->open_block = type;
}

static void anthropic_add(struct api_call *c, const char *type, const char *name, const char *text,
                          size_t length)
{
    anthropic_begin_event(&c->out, "content_block_delta");
    buf_printf(&c->out, ",\"index\":%d,\"delta\":{\"type\":\"%s\",\"%s\":", c->generation->n_blocks,
               type, name);
    json_text_quote(&c->out, text, length);
    buf_puts(&c->out, "}");
    anthropic_end_event(&c->out);
}

static void anthropic_write_calls(const struct api_generation_piece *p)
{
    struct api_call *c = p->call;
    for (size_t i = 0; i < p->n_calls; i++) {
        struct buf empty;
        buf_init(&empty);
        anthropic_write_call(&empty, p, i);
        buf_puts(&empty, "{}}");
        c->out.failed |= buf_failed(&empty);
        anthropic_close(c); /* each call is a block of its own */
        anthropic_open(c, "tool_use", buf_text(&empty));
        anthropic_add(c, "input_json_delta", "partial_json", buf_text(&p->calls[i].arguments),
                      p->calls[i].arguments.length);
        buf_clear(&empty);
    }
}

static void anthropic_finish(const struct api_generation_piece *p)
{
    struct api_call *c = p->call;
    if (!c->generation->n_blocks && !c->generation->open_block)
        anthropic_open(c, "text", "{\"type\":\"text\",\"text\":\"\"}");
    anthropic_close(c);
    anthropic_begin_event(&c->out, "message_delta");
    buf_puts(&c->out, ",\"delta\":{");
    anthropic_write_stop(&c->out, p);
    buf_puts(&c->out, "},");
    anthropic_write_usage(&c->out, c->generation);
    anthropic_end_event(&c->out);
}

static void anthropic_write(const struct api_generation_piece *p)
{
    struct api_call *c = p->call;
    if (p->is_first)
        anthropic_start(c);
    if (p->reasoning) {
        anthropic_open(c, "thinking",
                       "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
        anthropic_add(c, "thinking_delta", "thinking", p->reasoning, p->reasoning_length);
    } else if (p->text_length) {
        anthropic_open(c, "text", "{\"type\":\"text\",\"text\":\"\"}");
        anthropic_add(c, "text_delta", "text", p->text, p->text_length);
    }
    anthropic_write_calls(p);
    if (p->finish)
        anthropic_finish(p);
}

static void anthropic_end(struct api_call *c)
{
    anthropic_begin_event(&c->out, "message_stop");
    anthropic_end_event(&c->out);
}

static void anthropic_fail(struct api_call *c, const struct err *failure)
{
    json_t *error = api_call_error_json(c, err_http_status(failure->code), NULL, failure);
    buf_puts(&c->out, "event: error\ndata: ");
    json_text_write(&c->out, error);
    buf_puts(&c->out, "\n\n");
    json_decref(error);
}

static const struct api_generation_format anthropic_format = {
    .id_prefix = "msg_",
    .chunk_before_text = true,
    .answer = anthropic_answer,
    .write = anthropic_write,
    .end = anthropic_end,
    .fail = anthropic_fail,
};

/* ---- the question ---- */

/* The call's body becomes one in the form of /v1/chat/completions. */
static bool anthropic_translate(struct api_call *c, bool counts)
{
    struct err err = {0};
    json_t *body;
    if (api_anthropic_body(c->body, counts, &body, &err) != 0) {
        api_call_fail(c, &err);
        return false;
    }
    json_decref(c->body);
    c->body = body;
    return true;
}

void api_anthropic(struct api_call *c)
{
    if (anthropic_translate(c, false))
        api_chat_begin(c, &anthropic_format);
}

void api_anthropic_count(struct api_call *c)
{
    if (anthropic_translate(c, true))
        api_prompt_count(c);
}
