#include "coordinator/api_replay.h"

#include "coordinator/json_body.h"
#include "coordinator/token_log.h"

#include <stdlib.h>
#include <string.h>

/* ---- the tokens ---- */

static int api_replay_index(const struct api_generation *g, size_t prompt, int choice)
{
    return (int)prompt * (int)g->params.n_choices + choice;
}

bool api_replay_token(struct api_call *c, size_t prompt, int choice_index)
{
    struct api_generation *g = c->generation;
    struct request *r = g->requests[prompt];
    struct choice *choice = &r->choices[choice_index];
    const int at = api_replay_index(g, prompt, choice_index);
    const struct buf *log = &c->stored->choices[at].log;
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    struct batch_result result;
    if (choice->finish != FINISH_NONE || choice->n_tokens >= r->n_prompt + r->max_tokens ||
        !token_log_next(log->data, log->length, &g->log_at[at], c->stored->with_records, &result))
        return false;
    if ((int64_t)result.token >= coordinator_model(c->api->coordinator)->vocabulary_size)
        return false;
    struct err err;
    return request_accept_token(r, choice, &result, t, &err) == 0;
}

static bool api_replay_is_over(const struct request *r)
{
    for (int k = 0; k < r->n_choices; k++)
        if (r->choices[k].finish == FINISH_NONE)
            return false;
    return true;
}

void api_replay_end(struct api_call *c)
{
    static const struct err damaged = {.code = ERR_INTERNAL,
                                       .text = "What is stored of the answer is damaged."};
    struct api_generation *g = c->generation;
    const struct api_stored *d = c->stored;
    for (size_t i = 0; i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        r->n_cached = i == 0 ? d->n_cached : 0;
        r->scheduled_us = d->scheduled_us;
        r->first_token_us = d->first_token_us;
        r->finished_us = d->finished_us;
        if (d->outcome == API_FAILED || d->outcome == API_CANCELLED)
            request_fail(r, &d->failure);
        else if (d->outcome == API_DONE && !api_replay_is_over(r))
            request_fail(r, &damaged);
        r->is_done = r->is_done || d->outcome != API_RUNS;
    }
}

/* The next token of each choice. false: there was none. */
static bool api_replay_round(struct api_call *c)
{
    struct api_generation *g = c->generation;
    bool was_any = false;
    for (size_t i = 0; i < g->n_requests; i++)
        for (int k = 0; k < g->requests[i]->n_choices; k++)
            was_any |= api_replay_token(c, i, k);
    return was_any;
}

static bool api_replay_has_all(const struct api_call *c)
{
    const struct api_generation *g = c->generation;
    const struct api_stored *d = c->stored;
    struct batch_result result;
    for (int i = 0; i < d->n_prompts * d->n_choices; i++) {
        size_t at = g->log_at[i];
        if (token_log_next(d->choices[i].log.data, d->choices[i].log.length, &at, d->with_records,
                           &result))
            return false;
    }
    return d->outcome != API_RUNS;
}

/* A slow reader's tokens wait in the log. */
void api_replay_tell(struct api_call *c)
{
    do {
        if (api_replay_has_all(c))
            api_replay_end(c);
        api_generation_stream(c);
    } while (!c->is_complete && api_call_pending(c) < API_GENERATION_PENDING &&
             api_replay_round(c));
}

void api_replay_silence(struct api_call *c)
{
}

/* ---- a call with the stored name and prompts ---- */

/* The numbers behind the name; what is no number counts as none. */
static void api_replay_read_had(const char *text, struct api_generation *g)
{
    const char *at = strchr(text, ':');
    for (int i = 0; at && i < API_GENERATION_CHOICES; i++) {
        char *end;
        unsigned long n = strtoul(at + 1, &end, 10);
        g->n_had[i] = n <= INT32_MAX ? (uint32_t)n : 0;
        at = *end == ',' ? end : NULL;
    }
}

void api_replay_name(const struct api_call *c, struct api_generation *g)
{
    snprintf(g->id, sizeof g->id, "%s", c->stored->id);
    g->created_unix_s = c->stored->created_unix_s;
    g->news = c->role == API_FOLLOWS ? api_replay_tell : api_replay_silence;
    if (c->role == API_FOLLOWS && c->last_event_id)
        api_replay_read_had(c->last_event_id, g);
}

int api_replay_prompt(const struct api_call *c, size_t number, struct err *err)
{
    struct request *r = c->generation->requests[number];
    const struct api_stored *d = c->stored;
    if (number >= (size_t)d->n_prompts)
        return err_set(err, ERR_INTERNAL, "%s is stored with other prompts.", d->id);
    const struct api_stored_prompt *p = &d->prompts[number];
    int64_t left = (int64_t)coordinator_context(c->api->coordinator) - p->n;
    if (left < 1)
        return err_set(err, ERR_INPUT, "The context is shorter now than the prompt of %d tokens.",
                       p->n);
    uint32_t *ids = malloc((size_t)p->n * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    memcpy(ids, p->ids, (size_t)p->n * sizeof *ids);
    free(r->prompt);
    r->prompt = ids;
    r->n_prompt = p->n;
    int64_t wanted = c->generation->params.max_tokens;
    r->max_tokens = (int)(wanted && wanted < left ? wanted : left);
    return 0;
}

static int api_replay_check(const struct api_call *c, struct err *err)
{
    const struct api_generation *g = c->generation;
    const struct api_stored *d = c->stored;
    if (g->n_requests == (size_t)d->n_prompts && g->params.n_choices == d->n_choices)
        return 0;
    return err_set(err, ERR_INTERNAL, "%s is stored with other choices.", d->id);
}

int api_replay_submit(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    struct request *open[API_GENERATION_CHOICES];
    size_t n_open = 0;
    int rc = api_replay_check(c, err);
    if (rc != 0 || c->role == API_FOLLOWS)
        return rc;
    while (api_replay_round(c))
        continue;
    for (size_t i = 0; i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        r->is_done = api_replay_is_over(r);
        if (!r->is_done)
            open[n_open++] = r;
    }
    if (n_open)
        rc = coordinator_submit(c->api->coordinator, open, n_open, err);
    for (size_t i = 0; rc == 0 && i < n_open; i++)
        open[i]->owner = c;
    return rc;
}

/* The stored question, with the seed that was drawn for it. */
static int api_replay_read_body(struct api_call *c, const struct api_stored *d, struct err *err)
{
    json_decref(c->body);
    c->body = NULL;
    int rc = json_body_read(&c->body, d->body, d->body_length, err);
    if (rc == 0 && json_object_set_new(c->body, "seed", json_integer(d->seed)) != 0)
        rc = err_set(err, ERR_MEMORY, "There is no memory for the request.");
    return rc;
}

/* ---- who follows ---- */

int api_replay_follow(struct api_call *c, struct api_stored *d, struct err *err)
{
    int rc = api_replay_read_body(c, d, err);
    if (rc != 0)
        return rc;
    c->role = API_FOLLOWS;
    api_store_follow(d, c);
    return 0;
}

void api_replay_resume(struct api_call *c)
{
    struct err err = {0};
    char id[sizeof((struct api_stored *)0)->id];
    snprintf(id, sizeof id, "%.*s", (int)strcspn(c->last_event_id, ":"), c->last_event_id);
    struct api_stored *d = api_store_find(c->api->store, id, c->tenant);
    int rc = 0;
    if (!d || d->route->begin != c->route->begin) {
        c->error_code = "stream_not_found";
        rc =
            err_set(&err, ERR_NOT_FOUND,
                    "There is no stream '%.39s' to go on with: it was delivered, cancelled or kept "
                    "no longer; send the request without Last-Event-ID.",
                    id);
    }
    if (rc == 0)
        rc = api_replay_follow(c, d, &err);
    if (rc != 0) {
        api_call_fail(c, &err);
        return;
    }
    c->carries = true;
    c->route->begin(c);
}

/* ---- who runs on ---- */

static int api_replay_check_bits(const struct api *api, const struct api_stored *d, struct err *err)
{
    char now[sizeof d->bits];
    api_store_bits(api, now);
    if (strcmp(now, d->bits) == 0)
        return 0;
    return err_set(err, ERR_INTERNAL,
                   "The coordinator was restarted with another model or another type of KV cache "
                   "(%s) than the answer was begun with (%s).",
                   now, d->bits);
}

int api_replay_begin(struct api *api, struct api_stored *d, struct err *err)
{
    struct api_call *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    api_call_init(c, api, "POST", d->route->path);
    c->route = d->route;
    c->tenant = d->tenant;
    snprintf(c->request_id, sizeof c->request_id, "%s", d->request_id);
    int rc = api_replay_check_bits(api, d, err);
    if (rc == 0)
        rc = api_replay_read_body(c, d, err);
    if (rc == 0) {
        c->role = API_BEGINS_AGAIN;
        c->stored = d;
        d->route->begin(c);
        rc = c->failure.code;
        *err = c->failure;
    }
    if (rc != 0) {
        c->stored = NULL;
        api_call_clear(c);
        free(c);
        return rc;
    }
    api_store_own(d, c);
    return 0;
}
