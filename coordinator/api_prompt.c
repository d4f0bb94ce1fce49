#include "coordinator/api_prompt.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_messages.h"
#include "coordinator/api_params.h"
#include "coordinator/api_tools.h"

#include <stdlib.h>
#include <string.h>

bool api_prompt_ends_with(const struct buf *text, const char *tag)
{
    size_t length = text->length, n = strlen(tag);
    while (length && strchr(" \r\n", text->data[length - 1]))
        length--;
    return length >= n && memcmp(text->data + length - n, tag, n) == 0;
}

/* What the reply has to begin with goes to the end of the text: no model can then do otherwise. */
static void api_prompt_force_call(struct api_prompt *p, const struct api_call *c,
                                  const struct api_tools *tools)
{
    if (p->rules.is_thinking)
        buf_puts(&p->text, REPLY_THINK_END "\n\n");
    p->rules.is_thinking = false;
    tool_calls_begin(c->api->tool_format, tools->forced, &p->begin);
    buf_append(&p->text, buf_text(&p->begin), p->begin.length);
    p->text.failed |= buf_failed(&p->begin);
}

int api_prompt_make(struct api_prompt *p, struct api_call *c, struct err *err)
{
    struct api_tools tools;
    *p = (struct api_prompt){0};
    int rc = api_tools_read(&tools, c, err);
    if (rc == 0)
        rc = api_messages_render(c, &tools, &p->text, err);
    if (rc != 0)
        return rc;
    p->rules = (struct reply_rules){
        .thinks = c->api->thinks,
        /* Templates open the reasoning, or leave that to the model. */
        .is_thinking = c->api->thinks && api_prompt_ends_with(&p->text, REPLY_THINK_BEGIN),
        .has_thought = c->api->thinks && api_prompt_ends_with(&p->text, REPLY_THINK_END),
        .format = tools.offered ? c->api->tool_format : TOOL_FORMAT_NONE,
        .tools = tools.offered,
        .is_single = tools.is_single || tools.forced,
    };
    if (tools.is_required)
        api_prompt_force_call(p, c, &tools);
    return buf_failed(&p->text) ? err_set(err, ERR_MEMORY, "There is no memory for the prompt.")
                                : 0;
}

int api_prompt_constrain(struct api_call *c, const struct reply_rules *rules, bool has_begun_call,
                         struct err *err)
{
    struct constraint_manner manner = {0};
    if (has_begun_call)
        return 0;
    if (rules->thinks && !rules->has_thought) {
        manner.think_begin = REPLY_THINK_BEGIN;
        manner.think_end = REPLY_THINK_END;
        manner.thinks_at_once = rules->is_thinking;
    }
    if (rules->format != TOOL_FORMAT_NONE) {
        manner.call_begin = TOOL_CALLS_BEGIN;
        manner.call_end = TOOL_CALLS_END;
    }
    return api_params_constrain(&c->generation->params, c, &manner, err);
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
