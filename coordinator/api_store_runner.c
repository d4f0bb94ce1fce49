#include "coordinator/api_generation.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_store_parts.h"
#include "coordinator/token_log.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a runner brings ---- */

static void api_store_log(struct api_store *s, struct api_stored *d, int at,
                          const struct request *r, struct choice *choice)
{
    struct api_stored_choice *c = &d->choices[at];
    size_t before = c->log.length;
    for (int n = choice->n_tokens - r->n_prompt; c->n_tokens < n; c->n_tokens++) {
        const struct token_record *record =
            (size_t)c->n_tokens < choice->n_records ? &choice->records[c->n_tokens] : NULL;
        token_log_append(&c->log, choice->tokens[r->n_prompt + c->n_tokens], d->with_records,
                         record);
    }
    d->bytes += c->log.length - before;
    s->bytes += c->log.length - before;
    buf_reset(&choice->text); /* nobody's: followers make their own */
}

static void api_store_time(struct api_stored *d, const struct request *r)
{
    d->n_cached += r->n_cached;
    if (r->scheduled_us && (!d->scheduled_us || r->scheduled_us < d->scheduled_us))
        d->scheduled_us = r->scheduled_us;
    if (r->first_token_us && (!d->first_token_us || r->first_token_us < d->first_token_us))
        d->first_token_us = r->first_token_us;
    if (r->finished_us > d->finished_us)
        d->finished_us = r->finished_us;
}

void api_store_log_all(struct api_store *s, struct api_stored *d)
{
    const struct api_generation *g = d->runner->generation;
    d->n_cached = 0;
    for (int i = 0; i < d->n_prompts; i++) {
        struct request *r = g->requests[i];
        api_store_time(d, r);
        for (int k = 0; k < d->n_choices; k++)
            api_store_log(s, d, i * d->n_choices + k, r, &r->choices[k]);
    }
}

static bool api_store_log_failed(const struct api_stored *d)
{
    for (int i = 0; i < d->n_prompts * d->n_choices; i++)
        if (buf_failed(&d->choices[i].log))
            return true;
    return false;
}

void api_store_news(struct api_call *c)
{
    static const struct err no_memory = {.code = ERR_MEMORY,
                                         .text = "There is no memory for the answer."};
    struct api_stored *d = c->stored;
    struct api_store *s = c->api->store;
    if (d->outcome != API_RUNS)
        return;
    api_store_log_all(s, d);
    const struct err *why = api_generation_failure(c->generation);
    if (!why && api_store_log_failed(d))
        why = &no_memory;
    if (why || api_generation_is_done(c->generation))
        api_store_finish(s, d, why ? API_FAILED : API_DONE, why);
    else
        api_store_tell_followers(s, d);
}

/* ---- beginning ---- */

static int api_store_copy_prompts(struct api_stored *d, const struct api_generation *g,
                                  struct err *err)
{
    for (int i = 0; i < d->n_prompts; i++) {
        const struct request *r = g->requests[i];
        size_t bytes = (size_t)r->n_prompt * sizeof *r->prompt;
        d->prompts[i].ids = malloc(bytes);
        if (!d->prompts[i].ids)
            return err_set(err, ERR_MEMORY, "There is no memory for the request.");
        memcpy(d->prompts[i].ids, r->prompt, bytes);
        d->prompts[i].n = r->n_prompt;
    }
    return 0;
}

void api_store_bits(const struct api *api, char to[64])
{
    const char *kv_type = api->store->spec.kv_type;
    snprintf(to, 64, "%s %s", coordinator_fingerprint(api->coordinator), kv_type ? kv_type : "");
}

/* c: the call that asks. */
static int api_store_describe(struct api_stored *d, const struct api_call *c, struct err *err)
{
    const struct api_generation *g = c->generation;
    snprintf(d->id, sizeof d->id, "%s", g->id);
    snprintf(d->request_id, sizeof d->request_id, "%s", c->request_id);
    api_store_bits(c->api, d->bits);
    d->route = c->route;
    d->tenant = c->tenant;
    d->seed = g->params.seed;
    d->created_unix_s = g->created_unix_s;
    d->with_records = g->requests[0]->keep_records;
    d->body = malloc(c->text_length + 1);
    if (!d->body)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    memcpy(d->body, c->text, c->text_length);
    d->body[c->text_length] = '\0';
    d->body_length = c->text_length;
    return api_store_copy_prompts(d, g, err);
}

/* A call of nobody's, with copies of c's requests. */
static int api_store_make_runner(struct api_call **ret_runner, const struct api_call *c,
                                 struct err *err)
{
    const struct api_generation *of = c->generation;
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    struct api_params params = {.n_choices = of->params.n_choices, .seed = of->params.seed};
    struct api_call *run = calloc(1, sizeof *run);
    if (!run)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    api_call_init(run, c->api, "POST", c->route->path);
    run->route = c->route;
    run->tenant = c->tenant;
    snprintf(run->request_id, sizeof run->request_id, "%s", c->request_id);
    int rc = api_generation_new(run, of->format, &params, err);
    for (size_t i = 0; rc == 0 && i < of->n_requests; i++) {
        struct request *r = NULL;
        rc = request_copy(&r, of->requests[i], t, err);
        if (rc == 0)
            rc = api_generation_take(run, r, err);
    }
    if (rc == 0) {
        snprintf(run->generation->id, sizeof run->generation->id, "%s", of->id);
        run->generation->news = api_replay_silence;
        *ret_runner = run;
        return 0;
    }
    api_call_clear(run);
    free(run);
    return rc;
}

int api_store_begin(struct api_call *c, bool is_kept, bool is_background, struct err *err)
{
    struct api_store *s = c->api->store;
    struct api_generation *g = c->generation;
    struct api_call *run = NULL;
    if (s->is_closed)
        return err_set(err, ERR_UNAVAILABLE, "The server is shutting down.");
    struct api_stored *d = api_store_new_call((int)g->n_requests, (int)g->params.n_choices);
    int rc = d ? api_store_describe(d, c, err)
               : err_set(err, ERR_MEMORY, "There is no memory for the request.");
    if (rc == 0)
        rc = api_store_make_runner(&run, c, err);
    if (rc == 0)
        rc = api_generation_submit_all(run, err);
    if (rc != 0) {
        if (run)
            api_call_clear(run);
        free(run);
        if (d)
            api_store_free_call(d);
        return rc;
    }
    d->is_kept = is_kept;
    d->is_background = is_background;
    api_store_own(d, run);
    api_store_insert(s, d);
    /* Whoever waits for a whole answer has no name to ask for it by: it is noted when it is done.
     */
    if (g->params.is_stream || is_background) {
        api_store_note(s, d);
        api_store_await(c);
    }
    c->role = API_FOLLOWS;
    c->carries = true;
    api_store_follow(d, c);
    return 0;
}

/* ---- who comes and goes ---- */

void api_store_own(struct api_stored *d, struct api_call *runner)
{
    d->runner = runner;
    runner->stored = d;
}

void api_store_follow(struct api_stored *d, struct api_call *c)
{
    c->stored = d;
    c->next_follower = d->followers;
    d->followers = c;
}

void api_store_leave(struct api_call *c)
{
    struct api_stored *d = c->stored;
    struct api_store *s = c->api->store;
    if (!d)
        return;
    if (c->is_woken)
        api_store_unwake(s, c);
    c->is_woken = false;
    c->stored = NULL;
    struct api_call **at = &d->followers;
    while (*at && *at != c)
        at = &(*at)->next_follower;
    if (*at)
        *at = c->next_follower;
    if (s->is_closed && !d->is_removed)
        return;
    if (d->outcome == API_RUNS && c->carries && !d->followers && !d->is_background)
        api_store_cancel(s, d);
    bool is_over = d->outcome != API_RUNS && !d->is_kept;
    bool is_sent = c->is_delivered && d->outcome != API_CANCELLED;
    if (is_over && is_sent && c->is_stream && !d->is_removed)
        api_store_sent(s, d);
    else if (d->is_removed || (is_over && (c->is_delivered || d->outcome == API_CANCELLED)))
        api_store_remove(s, d);
}
