#include "coordinator/api_probe.h"

#include "coordinator/api_generation.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void api_probe_answer_scores(struct api_call *c)
{
    const struct request *r = c->generation->requests[0];
    json_t *list = json_array();
    double sum = 0;
    int rc = 0;
    for (int i = 0; rc == 0 && i < r->n_prompt - 1; i++) {
        sum -= (double)r->scores[i];
        rc = json_array_append_new(list, json_text_real((double)r->scores[i]));
    }
    if (rc != 0) {
        json_decref(list);
        list = NULL; /* answered as no memory */
    }
    api_call_answer(c, 200,
                    json_pack("{s:o, s:o, s:i}", "logprobs", list, "mean_nll",
                              json_text_real(sum / (r->n_prompt - 1)), "tokens", r->n_prompt));
}

/* The rows go to the client as they come: the two buffers change places. */
static void api_probe_stream_rows(struct api_call *c)
{
    struct request *r = c->generation->requests[0];
    if (api_call_pending(c) > 0)
        return;
    buf_reset(&c->out);
    c->out_taken = 0;
    struct buf rows = r->rows;
    r->rows = c->out;
    c->out = rows;
    if (buf_failed(&c->out))
        c->is_broken = true;
    if (c->is_broken || r->is_done)
        c->is_complete = true;
}

static void api_probe_news(struct api_call *c)
{
    struct api_generation *g = c->generation;
    const struct request *r = g->requests[0];
    const struct err *failure = api_generation_failure(g);
    bool is_done = api_generation_is_done(g);
    if (failure && c->is_stream) {
        c->is_broken = true; /* raw bytes leave no room for words */
        c->is_complete = true;
    } else if (failure) {
        api_call_fail(c, failure);
    } else if (r->kind == REQUEST_SCORE && is_done) {
        api_probe_answer_scores(c);
    } else if (r->kind == REQUEST_LOGITS && (r->n_rows || is_done)) {
        /* Not before the first row, so that a failure until then has a status of its own. */
        c->status = 200;
        c->is_stream = true;
        c->content_type = "application/octet-stream";
        api_probe_stream_rows(c);
    }
}

static int api_probe_read_kind(const json_t *body, enum request_kind *ret_kind, struct err *err)
{
    const char *output = "logprobs";
    int rc = json_body_string(body, "output", &output, NULL, err);
    if (rc != 0)
        return rc;
    *ret_kind = strcmp(output, "logits") == 0 ? REQUEST_LOGITS : REQUEST_SCORE;
    if (*ret_kind == REQUEST_SCORE && strcmp(output, "logprobs") != 0)
        return err_set_param(err, ERR_INPUT, "output",
                             "'output' is '%.40s'; it must be \"logits\" or \"logprobs\".", output);
    return 0;
}

static int api_probe_read_tokens(struct api_call *c, enum request_kind kind, uint32_t **ret_ids,
                                 size_t *ret_count, struct err *err)
{
    json_t *tokens = NULL;
    int context = coordinator_context(c->api->coordinator);
    size_t least = kind == REQUEST_SCORE ? 2 : 1, count;
    int rc = json_body_array(c->body, "tokens", &tokens, err);
    if (rc != 0)
        return rc;
    count = json_array_size(tokens);
    if (count < least)
        return err_set_param(err, ERR_INPUT, "tokens",
                             "'tokens' has %zu token ids; at least %zu are needed.", count, least);
    if (count > (size_t)context) {
        c->error_code = "context_length_exceeded";
        return err_set_param(err, ERR_INPUT, "tokens",
                             "'tokens' has %zu token ids, but the context is %d tokens.", count,
                             context);
    }
    return json_body_ids(tokens, "tokens", coordinator_model(c->api->coordinator)->vocabulary_size,
                         count, ret_ids, ret_count, err);
}

static int api_probe_add(struct api_call *c, enum request_kind kind, uint32_t *ids, size_t n_ids,
                         struct err *err)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r) {
        free(ids);
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    }
    r->kind = kind;
    r->prompt = ids;
    r->n_prompt = (int)n_ids;
    r->n_choices = 1;
    r->sampling.top_p = 1;
    r->sampling.repetition_penalty = 1;
    return api_generation_add(c, r, err);
}

void api_probe(struct api_call *c)
{
    struct api_params params = {.n_choices = 1};
    struct err err = {0};
    enum request_kind kind = REQUEST_SCORE;
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_probe_read_kind(c->body, &kind, &err);
    if (rc == 0)
        rc = api_probe_read_tokens(c, kind, &ids, &n_ids, &err);
    if (rc == 0)
        rc = api_generation_new(c, NULL, &params, &err);
    if (rc == 0) {
        c->generation->news = api_probe_news;
        rc = api_probe_add(c, kind, ids, n_ids, &err);
        ids = NULL;
    }
    free(ids);
    if (rc == 0)
        rc = api_generation_submit(c, &err);
    if (rc == 0 && kind == REQUEST_LOGITS) {
        api_call_header(c, "X-Paceline-Rows", "%zu", n_ids);
        api_call_header(c, "X-Paceline-Vocabulary", "%d",
                        coordinator_model(c->api->coordinator)->vocabulary_size);
    }
    api_generation_began(c, rc == 0 ? NULL : &err);
}
