#include "coordinator/api_embed.h"

#include <stdlib.h>

enum { API_EMBED_WINDOW = 32 }; /* of one call under way */

/* ---- one text ---- */

static bool api_embed_is_ended(const struct api_call *c, const uint32_t *ids, size_t n_ids)
{
    const struct weight_file *f = coordinator_weights(c->api->coordinator);
    const uint32_t *ends;
    bool adds_end = false;
    weight_file_boolean(f, "tokenizer.ggml.add_eos_token", &adds_end);
    size_t n_ends = tokenizer_end_ids(coordinator_tokenizer(c->api->coordinator), &ends);
    return !adds_end || n_ends == 0 || (n_ids && ids[n_ids - 1] == ends[0]);
}

int api_embed_encode(struct api_call *c, const char *text, size_t length, uint32_t **ret_ids,
                     size_t *ret_count, struct err *err)
{
    const uint32_t *ends;
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    int rc = api_params_encode(c, text, length, &ids, &n_ids, err);
    if (rc != 0)
        return rc;
    if (!api_embed_is_ended(c, ids, n_ids)) {
        uint32_t *more = realloc(ids, (n_ids + 1) * sizeof *more);
        if (!more) {
            free(ids);
            return err_set(err, ERR_MEMORY, "There is no memory for the text.");
        }
        ids = more;
        tokenizer_end_ids(coordinator_tokenizer(c->api->coordinator), &ends);
        ids[n_ids++] = ends[0];
    }
    *ret_ids = ids;
    *ret_count = n_ids;
    return 0;
}

static int api_embed_check(struct api_call *c, size_t n_ids, struct err *err)
{
    int context = coordinator_context(c->api->coordinator);
    if (n_ids == 0)
        return err_set(err, ERR_INPUT, "A text is empty: there is nothing to embed.");
    if (n_ids <= (size_t)context)
        return 0;
    c->error_code = "context_length_exceeded";
    return err_set(err, ERR_INPUT, "A text has %zu tokens, but the context is %d tokens.", n_ids,
                   context);
}

static int api_embed_add(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    int rc = g->texts.task->encode(c, g->n_requests, &ids, &n_ids, err);
    if (rc == 0)
        rc = api_embed_check(c, n_ids, err);
    struct request *r = rc == 0 ? calloc(1, sizeof *r) : NULL;
    if (rc == 0 && !r)
        rc = err_set(err, ERR_MEMORY, "There is no memory for the request.");
    if (rc != 0) {
        free(ids);
        return rc;
    }
    r->kind = REQUEST_EMBED;
    r->pooling = g->texts.task->pooling;
    r->prompt = ids;
    r->n_prompt = (int)n_ids;
    r->n_choices = 1;
    r->priority = (int)g->params.priority;
    r->cache_prompt = g->params.cache_prompt;
    return api_generation_add(c, r, err);
}

/* ---- all of them ---- */

static size_t api_embed_open(const struct api_generation *g)
{
    size_t n = 0;
    for (size_t i = g->texts.n_told; i < g->n_requests; i++)
        n += g->requests[i]->owner && !g->requests[i]->is_done;
    return n;
}

/* As many as may be under way. Where the queue is full, the next one waits here until another of
 * this call has ended. */
static int api_embed_fill(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    int rc = 0;
    for (size_t n_open = api_embed_open(g); n_open < API_EMBED_WINDOW; n_open++) {
        bool has_next = g->n_requests && !g->requests[g->n_requests - 1]->owner;
        if (!has_next && g->n_requests == g->texts.n)
            return 0;
        if (!has_next)
            rc = api_embed_add(c, err);
        struct request *r = rc == 0 ? g->requests[g->n_requests - 1] : NULL;
        if (rc == 0)
            rc = coordinator_submit(c->api->coordinator, &r, 1, err);
        if ((rc == ERR_LIMIT || rc == ERR_QUOTA) && n_open > 0)
            return 0;
        if (rc != 0)
            return rc;
        r->owner = c;
    }
    return 0;
}

static int api_embed_take(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    const struct err *failure = api_generation_failure(g);
    if (failure) {
        *err = *failure;
        return err->code;
    }
    for (; g->texts.n_told < g->n_requests && g->requests[g->texts.n_told]->is_done;
         g->texts.n_told++)
        if (g->texts.task->each)
            g->texts.task->each(c, g->texts.n_told);
    return api_embed_fill(c, err);
}

static void api_embed_news(struct api_call *c)
{
    struct api_generation *g = c->generation;
    struct err err = {0};
    int rc = api_embed_take(c, &err);
    if (rc != 0)
        api_call_fail(c, &err);
    else if (g->texts.n_told == g->texts.n)
        g->texts.task->done(c);
}

static int api_embed_start(struct api_call *c, const struct api_embed_task *task, size_t n_texts,
                           struct err *err)
{
    struct api_params params = {.n_choices = 1, .cache_prompt = true};
    int rc = api_params_read_turn(&params, c->body, err);
    if (rc == 0)
        rc = api_generation_new(c, task->format, &params, err);
    if (rc != 0)
        return rc;
    struct api_generation *g = c->generation;
    g->texts.task = task;
    g->texts.n = n_texts;
    g->news = api_embed_news;
    return api_embed_fill(c, err);
}

void api_embed_begin(struct api_call *c, const struct api_embed_task *task, size_t n_texts,
                     const struct err *err)
{
    struct err own = err ? *err : (struct err){0};
    int rc = err ? err->code : api_embed_start(c, task, n_texts, &own);
    api_generation_began(c, rc == 0 ? NULL : &own);
}

const char *api_embed_state(const struct api_call *c, size_t index)
{
    return buf_text(&c->generation->requests[index]->rows);
}

int64_t api_embed_tokens(const struct api_call *c)
{
    int64_t count = 0;
    for (size_t i = 0; i < c->generation->n_requests; i++)
        count += c->generation->requests[i]->n_prompt;
    return count;
}
