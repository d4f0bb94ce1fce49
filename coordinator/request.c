#include "coordinator/request.h"

#include "base/clock.h"
#include "kernels/attention.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static size_t request_records(const struct request *r)
{
    return (size_t)(r->kind == REQUEST_SCORE ? r->n_prompt : r->max_tokens) + 1;
}

#define CANNOT_FOLLOW "the answer cannot be kept to the form that was asked for"

int request_prepare(struct request *r, const struct tokenizer *t, struct err *err)
{
    r->choices = calloc((size_t)r->n_choices, sizeof *r->choices);
    if (!r->choices)
        return err_set(err, ERR_MEMORY, "no memory for %d choices", r->n_choices);
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *c = &r->choices[i];
        c->request = r;
        c->index = i;
        c->slot = -1;
        size_t room = (size_t)r->n_prompt + (size_t)r->max_tokens + 1;
        c->tokens = malloc(room * sizeof *c->tokens);
        if (r->keep_records)
            c->records = calloc(request_records(r), sizeof *c->records);
        c->blocks = calloc(room / KV_BLOCK_TOKENS + 1, sizeof *c->blocks);
        if (!c->tokens || !c->blocks || (r->keep_records && !c->records))
            return err_set(err, ERR_MEMORY, "no memory for %zu tokens", room);
        memcpy(c->tokens, r->prompt, (size_t)r->n_prompt * sizeof *c->tokens);
        c->n_tokens = r->n_prompt;
        detokenizer_init(&c->detokenizer, t, true);
        stop_strings_init(&c->stops, (const char *const *)r->stop, r->n_stop);
        buf_init(&c->text);
        buf_init(&c->mask);
        int rc = r->constraint ? constraint_run_new(&c->run, r->constraint, err) : 0;
        if (rc != 0)
            return rc;
    }
    if (r->kind == REQUEST_SCORE && r->n_prompt > 1) {
        r->scores = calloc((size_t)r->n_prompt - 1, sizeof *r->scores);
        if (!r->scores)
            return err_set(err, ERR_MEMORY, "no memory for %d scores", r->n_prompt - 1);
    }
    return 0;
}

static int request_copy_lists(struct request *r, const struct request *of, struct err *err)
{
    r->prompt = malloc((size_t)of->n_prompt * sizeof *r->prompt);
    if (of->n_stop)
        r->stop = calloc(of->n_stop, sizeof *r->stop);
    if (!r->prompt || (of->n_stop && !r->stop))
        return err_set(err, ERR_MEMORY, "no memory for the request");
    memcpy(r->prompt, of->prompt, (size_t)of->n_prompt * sizeof *r->prompt);
    for (; r->n_stop < of->n_stop; r->n_stop++) {
        r->stop[r->n_stop] = strdup(of->stop[r->n_stop]);
        if (!r->stop[r->n_stop])
            return err_set(err, ERR_MEMORY, "no memory for the request");
    }
    if (!of->sampling.n_bias)
        return 0;
    struct batch_bias *bias = malloc(of->sampling.n_bias * sizeof *bias);
    if (!bias)
        return err_set(err, ERR_MEMORY, "no memory for the request");
    memcpy(bias, of->sampling.bias, of->sampling.n_bias * sizeof *bias);
    r->sampling.bias = bias;
    r->sampling.n_bias = of->sampling.n_bias;
    return 0;
}

int request_copy(struct request **ret_request, const struct request *of, const struct tokenizer *t,
                 struct err *err)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_MEMORY, "no memory for the request");
    r->kind = of->kind;
    memcpy(r->id, of->id, sizeof r->id);
    memcpy(r->request_id, of->request_id, sizeof r->request_id);
    r->created_unix_s = of->created_unix_s;
    r->n_prompt = of->n_prompt;
    r->max_tokens = of->max_tokens;
    r->n_choices = of->n_choices;
    r->tenant = of->tenant;
    r->priority = of->priority;
    r->cache_prompt = of->cache_prompt;
    r->ignore_eos = of->ignore_eos;
    r->keep_records = of->keep_records;
    r->sampling = of->sampling;
    r->sampling.bias = NULL;
    r->sampling.n_bias = 0;
    r->constraint = of->constraint ? constraint_hold(of->constraint) : NULL;
    int rc = request_copy_lists(r, of, err);
    if (rc == 0)
        rc = request_prepare(r, t, err);
    if (rc == 0)
        *ret_request = r;
    else
        request_free(r);
    return rc;
}

static void request_keep_record(struct request *r, struct choice *c,
                                const struct batch_result *result)
{
    if (!r->keep_records)
        return;
    struct token_record *record = &c->records[c->n_records];
    *record = (struct token_record){.token = result->token, .logprob = result->logprob};
    if (result->n_top) {
        record->top = malloc(result->n_top * sizeof *record->top);
        if (record->top) {
            memcpy(record->top, result->top, result->n_top * sizeof *record->top);
            record->n_top = result->n_top;
        } else {
            c->text.failed = true;
        }
    }
    c->n_records++;
}

static bool request_ends_text(const struct tokenizer *t, uint32_t token)
{
    const uint32_t *ends;
    size_t n = tokenizer_end_ids(t, &ends);
    for (size_t i = 0; i < n; i++)
        if (ends[i] == token)
            return true;
    return false;
}

/* Takes the piece. What was lost for want of memory marks the text as failed, which is where the
 * coordinator looks. */
static bool choice_show(struct choice *c, struct buf *piece)
{
    bool stopped = stop_strings_push(&c->stops, buf_text(piece), piece->length, &c->text);
    c->text.failed |= buf_failed(piece);
    buf_clear(piece);
    return stopped;
}

static void choice_finish(struct choice *c, enum finish_reason reason)
{
    if (reason == FINISH_LENGTH || (reason == FINISH_STOP && c->stops.matched < 0)) {
        struct buf rest;
        buf_init(&rest);
        detokenizer_finish(&c->detokenizer, &rest);
        choice_show(c, &rest);
        if (c->stops.matched < 0)
            stop_strings_finish(&c->stops, &c->text);
    }
    c->finish = reason;
}

/* Follows the newest token. What is whole is over. */
static int choice_follow(struct choice *c, struct err *err)
{
    const struct request *r = c->request;
    if (constraint_run_follow(c->run, c->tokens + r->n_prompt, (size_t)(c->n_tokens - r->n_prompt),
                              err) != 0)
        return err_prefix(err, CANNOT_FOLLOW);
    if (c->finish == FINISH_NONE && constraint_run_is_over(c->run))
        choice_finish(c, FINISH_STOP);
    return 0;
}

int request_make_mask(struct choice *c, struct err *err)
{
    if (!c->run || c->finish != FINISH_NONE)
        return 0;
    buf_reset(&c->mask);
    int rc = constraint_run_mask(c->run, &c->mask, err);
    return rc == 0 ? 0 : err_prefix(err, CANNOT_FOLLOW);
}

int request_accept_token(struct request *r, struct choice *c, const struct batch_result *result,
                         const struct tokenizer *t, struct err *err)
{
    int rc = 0;
    assert(c->finish == FINISH_NONE && c->n_tokens < r->n_prompt + r->max_tokens);
    if (!r->first_token_us)
        r->first_token_us = clock_now_us();
    c->tokens[c->n_tokens++] = result->token;
    bool end = !r->ignore_eos && request_ends_text(t, result->token);
    if (!end) {
        struct buf piece;
        buf_init(&piece);
        detokenizer_push(&c->detokenizer, result->token, &piece);
        bool stopped = choice_show(c, &piece);
        request_keep_record(r, c, result);
        if (stopped)
            c->finish = FINISH_STOP;
        if (c->run)
            rc = choice_follow(c, err);
        if (c->finish == FINISH_NONE && c->n_tokens == r->n_prompt + r->max_tokens)
            choice_finish(c, FINISH_LENGTH);
    } else {
        choice_finish(c, FINISH_STOP);
        if (c->run)
            rc = choice_follow(c, err);
    }
    return rc;
}

void request_accept_score(struct request *r, struct choice *c, const struct batch_result *result)
{
    assert(r->n_scored < r->n_prompt - 1);
    r->scores[r->n_scored++] = result->logprob;
    request_keep_record(r, c, result);
}

static void request_add_row(struct request *r, const char *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sum, value;
        memcpy(&sum, r->rows.data + i * sizeof sum, sizeof sum);
        memcpy(&value, values + i * sizeof value, sizeof value);
        sum += value;
        memcpy(r->rows.data + i * sizeof sum, &sum, sizeof sum);
    }
}

void request_accept_row(struct request *r, const void *values, size_t n)
{
    if (r->kind == REQUEST_EMBED && r->n_rows)
        request_add_row(r, values, n);
    else
        buf_append(&r->rows, values, n * sizeof(float));
    r->n_rows++;
}

bool request_wants_every_row(const struct request *r)
{
    return r->kind == REQUEST_SCORE || r->kind == REQUEST_LOGITS ||
           (r->kind == REQUEST_EMBED && r->pooling == POOLING_MEAN);
}

void request_fail(struct request *r, const struct err *why)
{
    r->failure = *why;
    for (int i = 0; i < r->n_choices; i++)
        if (r->choices && r->choices[i].finish == FINISH_NONE)
            r->choices[i].finish = FINISH_ERROR;
}

void request_free(struct request *r)
{
    if (!r)
        return;
    for (int i = 0; r->choices && i < r->n_choices; i++) {
        struct choice *c = &r->choices[i];
        for (size_t k = 0; k < c->n_records; k++)
            free(c->records[k].top);
        free(c->records);
        free(c->tokens);
        free(c->blocks);
        choice_counts_clear(&c->counts);
        constraint_run_free(c->run);
        buf_clear(&c->mask);
        stop_strings_clear(&c->stops);
        buf_clear(&c->text);
    }
    free(r->choices);
    for (size_t i = 0; i < r->n_stop; i++)
        free(r->stop[i]);
    free(r->stop);
    constraint_release(r->constraint);
    free((void *)r->sampling.bias);
    free(r->prompt);
    free(r->scores);
    buf_clear(&r->rows);
    free(r);
}
