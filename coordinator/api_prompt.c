#include "coordinator/api_prompt.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_messages.h"
#include "coordinator/api_params.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT_END = 16 }; /* tokens in which it is seen whether the model thinks */

static bool api_prompt_ends_with(const struct buf *text, const char *tag)
{
    size_t length = text->length, n = strlen(tag);
    while (length && strchr(" \r\n", text->data[length - 1]))
        length--;
    return length >= n && memcmp(text->data + length - n, tag, n) == 0;
}

/* What the reply has to begin with goes to the end of the text: no model can then do otherwise. */
static void api_prompt_begin_call(struct api_prompt *p, const struct api *api)
{
    if (p->rules.is_thinking)
        buf_puts(&p->text, REPLY_THINK_END "\n\n");
    p->rules.is_thinking = false;
    tool_calls_begin(api->tool_format, p->tools.forced, &p->begin);
    buf_append(&p->text, buf_text(&p->begin), p->begin.length);
    p->text.failed |= buf_failed(&p->begin);
}

/* What follows from tools and text. */
static int api_prompt_settle(struct api_prompt *p, const struct api *api, struct err *err)
{
    p->rules = (struct reply_rules){
        .thinks = api->thinks,
        /* Templates open the reasoning, or leave that to the model. */
        .is_thinking = api->thinks && api_prompt_ends_with(&p->text, REPLY_THINK_BEGIN),
        .has_thought = api->thinks && api_prompt_ends_with(&p->text, REPLY_THINK_END),
        .format = p->tools.offered ? api->tool_format : TOOL_FORMAT_NONE,
        .tools = p->tools.offered,
        .is_single = p->tools.is_single,
    };
    if (p->tools.is_required)
        api_prompt_begin_call(p, api);
    return buf_failed(&p->text) ? err_set(err, ERR_MEMORY, "There is no memory for the prompt.")
                                : 0;
}

int api_prompt_make(struct api_prompt *p, struct api_call *c, struct err *err)
{
    *p = (struct api_prompt){0};
    int rc = api_tools_read(&p->tools, c->api, c->body, err);
    if (rc == 0)
        rc = api_messages_render(c, &p->tools, &p->text, err);
    return rc == 0 ? api_prompt_settle(p, c->api, err) : rc;
}

int api_prompt_again(struct api_prompt *p, const struct api *api, const json_t *body,
                     const uint32_t *ids, size_t n, struct err *err)
{
    const struct tokenizer *t = coordinator_tokenizer(api->coordinator);
    *p = (struct api_prompt){0};
    int rc = api_tools_read(&p->tools, api, body, err);
    for (size_t i = n < PROMPT_END ? 0 : n - PROMPT_END; i < n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(t, ids[i], &length);
        buf_append(&p->text, piece, length);
    }
    return rc == 0 ? api_prompt_settle(p, api, err) : rc;
}

/* ---- what may come behind it ---- */

static int api_prompt_require(const struct api_prompt *p, struct api_call *c, struct err *err)
{
    struct constraint *form = NULL;
    int rc = 0;
    if (api_tools_are_bound(&p->tools, c->api))
        rc = api_tools_require(&p->tools, c->api, &form, err);
    return rc == 0 ? api_params_require(&c->generation->params, form, err) : rc;
}

int api_prompt_constrain(const struct api_prompt *p, struct api_call *c, struct err *err)
{
    struct constraint_calls calls = {0};
    struct api_constraint_how how = {0};
    int rc = 0;
    if (p->tools.is_required)
        return api_prompt_require(p, c, err);
    if (p->rules.thinks && !p->rules.has_thought) {
        how.manner.think_begin = REPLY_THINK_BEGIN;
        how.manner.think_end = REPLY_THINK_END;
        how.manner.thinks_at_once = p->rules.is_thinking;
    }
    if (p->rules.format != TOOL_FORMAT_NONE) {
        how.manner.call_begin = TOOL_CALLS_BEGIN;
        how.manner.call_end = TOOL_CALLS_END;
    }
    if (api_tools_are_bound(&p->tools, c->api)) {
        rc = api_tools_form(&p->tools, c->api, &calls, err);
        how.calls = &calls;
    }
    if (rc == 0)
        rc = api_params_constrain(&c->generation->params, c, &how, err);
    json_decref(calls.tools);
    return rc;
}

void api_prompt_clear(struct api_prompt *p)
{
    buf_clear(&p->text);
    buf_clear(&p->begin);
}

void api_prompt_count(struct api_call *c)
{
    struct api_prompt prompt = {0};
    struct err err = {0};
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_prompt_make(&prompt, c, &err);
    if (rc == 0)
        rc = api_params_encode(c, buf_text(&prompt.text), prompt.text.length, &ids, &n_ids, &err);
    if (rc == 0)
        api_call_answer(c, 200, json_pack("{s:I}", "input_tokens", (json_int_t)n_ids));
    else
        api_call_fail(c, &err);
    free(ids);
    api_prompt_clear(&prompt);
}
