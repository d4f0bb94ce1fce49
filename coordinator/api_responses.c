#include "coordinator/api_responses.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_responses_input.h"
#include "coordinator/api_responses_object.h"
#include "coordinator/api_responses_stream.h"
#include "coordinator/api_responses_talk.h"
#include "coordinator/api_store.h"
#include "coordinator/json_body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RESPONSES_PATH "/v1/responses/"

static const struct api_generation_format api_responses_format = {.id_prefix = "resp_"};

/* ---- the answer ---- */

/* `news` of a call that follows. */
static void api_responses_tell(struct api_call *c)
{
    if (c->generation->params.is_stream) {
        api_responses_stream(c);
        return;
    }
    while (api_replay_token(c, 0, 0))
        api_responses_read(c);
    bool waits = c->carries && !c->stored->is_background;
    if (waits && c->stored->outcome == API_RUNS)
        return;
    api_replay_end(c);
    if (waits && c->stored->is_kept) /* whoever has its name can ask for it again */
        api_store_await(c);
    if (waits && c->stored->outcome == API_FAILED)
        api_call_fail(c, &c->stored->failure);
    else if (reply_failed(&c->generation->replies[0]))
        api_call_answer(c, 500, NULL);
    else
        api_call_answer(c, 200, api_responses_object(c, NULL));
}

/* ---- the question ---- */

/* c->body is the question; afterwards it is in the words of chat completions. */
static int api_responses_question(struct api_call *c, struct api_responses_how *ret_how,
                                  struct api_params *ret_params, json_t **ret_question,
                                  struct err *err)
{
    json_t *body = NULL;
    int rc = api_responses_input_how(c->body, ret_how, err);
    if (rc == 0)
        rc = api_params_check_model(c, err);
    if (rc == 0)
        rc = api_responses_input_body(c->body, &body, err);
    if (rc != 0)
        return rc;
    *ret_question = c->body;
    c->body = body;
    rc = api_params_read(ret_params, c, err);
    ret_params->sampling.logprobs = ret_how->wants_logprobs;
    ret_params->sampling.top_logprobs =
        ret_how->wants_logprobs ? (uint32_t)ret_how->top_logprobs : 0;
    return rc;
}

static int api_responses_encode(struct api_call *c, struct api_prompt *prompt, uint32_t **ret_ids,
                                size_t *ret_n, struct err *err)
{
    if (c->stored) { /* its prompt is known */
        const struct api_stored_prompt *p = &c->stored->prompts[0];
        *ret_ids = malloc((size_t)p->n * sizeof **ret_ids);
        if (!*ret_ids)
            return err_set(err, ERR_MEMORY, "There is no memory for the request.");
        memcpy(*ret_ids, p->ids, (size_t)p->n * sizeof **ret_ids);
        *ret_n = (size_t)p->n;
        return api_prompt_again(prompt, c->api, c->body, p->ids, (size_t)p->n, err);
    }
    int rc = api_responses_talk_messages(c, c->generation->response.question, c->body, err);
    if (rc == 0)
        rc = api_prompt_make(prompt, c, err);
    if (rc == 0)
        rc =
            api_params_encode(c, buf_text(&prompt->text), prompt->text.length, ret_ids, ret_n, err);
    return rc;
}

static int api_responses_add_request(struct api_call *c, struct api_prompt *prompt, struct err *err)
{
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct request *r = NULL;
    int rc = api_responses_encode(c, prompt, &ids, &n_ids, err);
    if (rc == 0)
        rc = api_prompt_constrain(prompt, c, err);
    if (rc == 0)
        rc = api_params_request(&c->generation->params, c, ids, n_ids, &r, err);
    if (rc != 0) {
        free(ids);
        return rc;
    }
    return api_generation_add(c, r, err);
}

static int api_responses_add_prompt(struct api_call *c, struct err *err)
{
    struct api_prompt prompt = {0};
    int rc = api_responses_add_request(c, &prompt, err);
    if (rc == 0)
        rc = api_generation_read_replies(c->generation, &prompt.rules, &prompt.begin, err);
    api_prompt_clear(&prompt);
    return rc;
}

/* A new response, or, where c->stored is one, a call that follows it or runs it on. */
static int api_responses_start(struct api_call *c, struct err *err)
{
    struct api_params params = {0};
    struct api_responses_how how = {0};
    json_t *question = NULL;
    int rc = api_responses_question(c, &how, &params, &question, err);
    if (rc == 0)
        rc = api_generation_new(c, &api_responses_format, &params, err);
    api_params_clear(&params);
    if (rc != 0) {
        json_decref(question);
        return rc;
    }
    struct api_generation *g = c->generation;
    g->response.question = question;
    g->wants_logprobs = how.wants_logprobs;
    g->news = c->role == API_BEGINS_AGAIN ? api_replay_silence : api_responses_tell;
    if (c->stored && c->last_event_id)
        g->response.had_sequence = g->n_had[0];
    rc = api_responses_add_prompt(c, err);
    if (rc != 0)
        return rc;
    return c->stored ? api_replay_submit(c, err)
                     : api_store_begin(c, how.is_kept, how.is_background, err);
}

void api_responses_create(struct api_call *c)
{
    struct err err = {0};
    int rc = api_responses_start(c, &err);
    api_generation_began(c, rc == 0 ? NULL : &err);
}

/* ---- what is stored ---- */

/* The response that the path names, before `suffix`. NULL: the call is answered. */
static struct api_stored *api_responses_find(struct api_call *c, const char *suffix)
{
    struct err err;
    const char *name = c->path + strlen(RESPONSES_PATH);
    size_t length = strlen(name), tail = strlen(suffix);
    char id[sizeof((struct api_stored *)0)->id] = "";
    if (length > tail && length - tail < sizeof id && strcmp(name + length - tail, suffix) == 0)
        snprintf(id, sizeof id, "%.*s", (int)(length - tail), name);
    struct api_stored *d = api_store_find(c->api->store, id, c->tenant);
    if (d && d->route->begin == api_responses_create)
        return d;
    err_set(&err, ERR_NOT_FOUND,
            "There is no response '%.60s' here: it was deleted, not stored, or kept no longer.",
            name);
    api_call_fail(c, &err);
    return NULL;
}

static int api_responses_read_query(struct api_call *c, int64_t *ret_after, bool *ret_is_stream,
                                    struct err *err)
{
    char *end = "";
    *ret_is_stream = c->stream && strcmp(c->stream, "true") == 0;
    *ret_after = -1;
    errno = 0;
    if (c->starting_after)
        *ret_after = strtoll(c->starting_after, &end, 10);
    if (errno || *end || *ret_after < -1 || (c->starting_after && !*c->starting_after))
        return err_set_param(err, ERR_INPUT, "starting_after",
                             "'starting_after' is the sequence_number of an event, not '%.40s'.",
                             c->starting_after);
    return 0;
}

/* c tells the response as it is, and, as a stream, goes on with it. */
static void api_responses_tell_stored(struct api_call *c, struct api_stored *d, bool is_stream,
                                      int64_t after)
{
    struct err err = {0};
    int rc = api_replay_follow(c, d, &err);
    if (rc == 0)
        json_object_set_new(c->body, "stream", json_boolean(is_stream));
    if (rc == 0)
        rc = api_responses_start(c, &err);
    if (rc == 0 && !c->last_event_id)
        c->generation->response.had_sequence = after;
    api_generation_began(c, rc == 0 ? NULL : &err);
}

void api_responses_retrieve(struct api_call *c)
{
    struct err err = {0};
    bool is_stream;
    int64_t after;
    struct api_stored *d = api_responses_find(c, "");
    if (!d)
        return;
    if (api_responses_read_query(c, &after, &is_stream, &err) != 0)
        api_call_fail(c, &err);
    else
        api_responses_tell_stored(c, d, is_stream, after);
}

void api_responses_cancel(struct api_call *c)
{
    struct api_stored *d = api_responses_find(c, "/cancel");
    if (!d)
        return;
    api_store_cancel(c->api->store, d);
    api_store_await(c);
    api_responses_tell_stored(c, d, false, -1);
}

void api_responses_delete(struct api_call *c)
{
    struct api_stored *d = api_responses_find(c, "");
    if (!d)
        return;
    json_t *answer =
        json_pack("{s:s, s:s, s:b}", "id", d->id, "object", "response.deleted", "deleted", true);
    api_store_remove(c->api->store, d);
    api_store_await(c);
    api_call_answer(c, 200, answer);
}
