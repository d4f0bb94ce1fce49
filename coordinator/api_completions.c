#include "coordinator/api_completions.h"

#include "coordinator/api_chunks.h"
#include "coordinator/api_generation.h"
#include "coordinator/api_usage.h"
#include "coordinator/detokenizer.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the answer ---- */

/* The prompt's text again, for 'echo'. */
static void api_completions_echo(const struct api_generation_piece *p, struct buf *out)
{
    struct detokenizer d;
    detokenizer_init(&d, coordinator_tokenizer(p->call->api->coordinator), false);
    for (int i = 0; i < p->request->n_prompt; i++)
        detokenizer_push(&d, p->request->prompt[i], out);
    detokenizer_finish(&d, out);
}

static json_t *api_completions_text(const struct api_generation_piece *p)
{
    struct buf text;
    buf_init(&text);
    if (p->is_first && p->call->generation->is_echo)
        api_completions_echo(p, &text);
    buf_append(&text, p->text, p->text_length);
    json_t *value = buf_failed(&text) ? NULL : json_text_string(buf_text(&text), text.length);
    buf_clear(&text);
    return value;
}

static json_t *api_completions_choice(const struct api_generation_piece *p)
{
    const struct api_generation *g = p->call->generation;
    bool is_whole = !g->params.is_stream;
    json_t *choice = json_pack("{s:i, s:o, s:s?}", "index", p->index, "text",
                               api_completions_text(p), "finish_reason", p->finish);
    int rc = 0;
    if (g->wants_logprobs && (is_whole || p->n_records || p->scored))
        rc |= json_object_set_new(choice, "logprobs", api_usage_text_logprobs(p));
    else
        rc |= json_object_set_new(choice, "logprobs", json_null());
    if (g->params.return_token_ids && (is_whole || p->n_records))
        rc |= json_object_set_new(choice, "token_ids", api_usage_token_ids(p));
    if (g->params.return_token_ids && p->is_first)
        rc |= json_object_set_new(choice, "prompt_token_ids", api_usage_prompt_ids(p->request));
    return api_chunks_checked(choice, rc);
}

static void api_completions_text_chunk(const struct api_generation_piece *p, struct buf *out)
{
    buf_printf(out, "{\"index\":%d,\"text\":", p->index);
    json_text_quote(out, p->text, p->text_length);
    buf_puts(out, ",\"finish_reason\":null,\"logprobs\":null}");
}

static const struct api_chunks_form api_completions_form = {
    .object = "text_completion",
    .chunk_object = "text_completion",
    .choice = api_completions_choice,
    .text_chunk = api_completions_text_chunk,
};

static const struct api_generation_format api_completions_format = {
    .id_prefix = "cmpl-",
    .chunks = &api_completions_form,
    .answer = api_chunks_answer,
    .write = api_chunks_write,
    .end = api_chunks_end,
    .fail = api_chunks_fail,
};

/* ---- the question ---- */

/* 'logprobs' is a number here: how many alternatives each token comes with. */
static int api_completions_read_logprobs(struct api_params *p, const json_t *body, struct err *err)
{
    int64_t top = -1;
    if (json_is_false(json_object_get(body, "logprobs")))
        return 0;
    int rc = json_body_integer(body, "logprobs", 0, BATCH_TOP_LOGPROBS, &top, err);
    p->sampling.logprobs = top >= 0;
    p->sampling.top_logprobs = top > 0 ? (uint32_t)top : 0;
    return rc;
}

static int api_completions_read_rest(const struct api_params *p, const json_t *body, bool *is_echo,
                                     struct err *err)
{
    int64_t best_of = p->n_choices;
    int rc = json_body_flag(body, "echo", is_echo, err);
    if (rc == 0 && *is_echo && json_body_field(body, "suffix"))
        return err_set_param(err, ERR_INPUT, "echo",
                             "'echo' together with 'suffix' is not supported: what comes between "
                             "two texts is no text of its own.");
    if (rc == 0)
        rc = json_body_integer(body, "best_of", 1, API_PARAMS_CHOICES, &best_of, err);
    if (rc == 0 && best_of != p->n_choices)
        return err_set_param(err, ERR_INPUT, "best_of",
                             "'best_of' is %lld; only the value of 'n', %lld, is possible.",
                             (long long)best_of, (long long)p->n_choices);
    return rc;
}

/* item: a string or an array of token ids. */
static int api_completions_encode(struct api_call *c, const json_t *item, uint32_t **ret_ids,
                                  size_t *ret_count, struct err *err)
{
    if (json_is_string(item))
        return api_params_encode(c, json_string_value(item), json_string_length(item), ret_ids,
                                 ret_count, err);
    if (json_is_array(item)) /* the length is judged later, with both numbers */
        return json_body_ids(item, "prompt",
                             coordinator_model(c->api->coordinator)->vocabulary_size, SIZE_MAX,
                             ret_ids, ret_count, err);
    return err_set(err, ERR_INPUT,
                   "An element of 'prompt' must be a string or an array of token ids, not %s.",
                   json_text_type(item));
}

/* ids: replaced by what a model reads that is to fill in the text between them and the suffix. */
static int api_completions_surround(struct api_call *c, uint32_t **ids, size_t *n_ids,
                                    struct err *err)
{
    static const char *const names[] = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};
    int64_t marks[3];
    const char *suffix = NULL;
    size_t length = 0, n_suffix = 0;
    uint32_t *after = NULL;
    int rc = json_body_string(c->body, "suffix", &suffix, &length, err);
    if (rc != 0 || !suffix)
        return rc;
    for (int i = 0; i < 3; i++) {
        marks[i] = tokenizer_find(coordinator_tokenizer(c->api->coordinator), names[i]);
        if (marks[i] < 0)
            return err_set_param(err, ERR_INPUT, "suffix",
                                 "'suffix' cannot be used: this model's vocabulary has no %s.",
                                 names[i]);
    }
    rc = api_params_encode(c, suffix, length, &after, &n_suffix, err);
    uint32_t *all = rc == 0 ? malloc((*n_ids + n_suffix + 3) * sizeof *all) : NULL;
    if (rc == 0 && !all)
        rc = err_set(err, ERR_MEMORY, "There is no memory for the prompt.");
    if (rc == 0) {
        all[0] = (uint32_t)marks[0];
        memcpy(all + 1, *ids, *n_ids * sizeof *all);
        all[1 + *n_ids] = (uint32_t)marks[1];
        memcpy(all + 2 + *n_ids, after, n_suffix * sizeof *all);
        all[2 + *n_ids + n_suffix] = (uint32_t)marks[2];
        free(*ids);
        *ids = all;
        *n_ids += n_suffix + 3;
    }
    free(after);
    return rc;
}

static int api_completions_add_prompt(struct api_call *c, const json_t *item, struct err *err)
{
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct request *r = NULL;
    int rc = api_completions_encode(c, item, &ids, &n_ids, err);
    if (rc == 0)
        rc = api_completions_surround(c, &ids, &n_ids, err);
    if (rc == 0)
        rc = api_params_request(&c->generation->params, c, ids, n_ids, &r, err);
    if (rc != 0) {
        free(ids);
        if (!err->param[0])
            snprintf(err->param, sizeof err->param, "prompt");
        return rc;
    }
    return api_generation_add(c, r, err);
}

/* A string, an array of strings, of token ids, or of arrays of token ids. */
static int api_completions_add_prompts(struct api_call *c, struct err *err)
{
    const json_t *prompt = json_body_field(c->body, "prompt");
    if (!prompt)
        return err_set_param(err, ERR_INPUT, "prompt",
                             "'prompt' is missing: a string, an array of strings, or token ids.");
    bool is_list = json_is_array(prompt) && json_array_size(prompt) &&
                   !json_is_number(json_array_get(prompt, 0));
    if (!is_list)
        return api_completions_add_prompt(c, prompt, err);
    size_t count = json_array_size(prompt), i;
    size_t most = (size_t)(API_GENERATION_CHOICES / c->generation->params.n_choices);
    if (count > most)
        return err_set_param(err, ERR_INPUT, "prompt",
                             "'prompt' has %zu prompts; at most %zu are possible with n = %lld.",
                             count, most, (long long)c->generation->params.n_choices);
    int rc = 0;
    for (i = 0; rc == 0 && i < count; i++)
        rc = api_completions_add_prompt(c, json_array_get(prompt, i), err);
    return rc;
}

void api_completions(struct api_call *c)
{
    struct api_params params = {0};
    struct err err = {0};
    bool is_echo = false;
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_params_read(&params, c, &err);
    if (rc == 0)
        rc = api_completions_read_logprobs(&params, c->body, &err);
    if (rc == 0)
        rc = api_completions_read_rest(&params, c->body, &is_echo, &err);
    if (rc == 0)
        rc = api_generation_new(c, &api_completions_format, &params, &err);
    api_params_clear(&params);
    if (rc == 0) {
        c->generation->is_echo = is_echo;
        rc = api_params_constrain(&c->generation->params, c, NULL, &err);
    }
    if (rc == 0)
        rc = api_completions_add_prompts(c, &err);
    if (rc == 0 && is_echo && c->generation->params.sampling.logprobs)
        rc = api_generation_score_prompts(c, &err);
    if (rc == 0)
        rc = api_generation_submit(c, &err);
    api_generation_began(c, rc == 0 ? NULL : &err);
}
