#include "coordinator/api_usage.h"

#include "coordinator/json_text.h"

#include <math.h>

/* ---- counts and times ---- */

static int64_t api_usage_prompt_tokens(const struct api_generation *g)
{
    int64_t count = 0;
    for (size_t i = g->n_scores; i < g->n_requests; i++)
        count += g->requests[i]->n_prompt;
    return count;
}

static int64_t api_usage_completion_tokens(const struct api_generation *g)
{
    int64_t count = 0;
    for (size_t i = g->n_scores; i < g->n_requests; i++) {
        const struct request *r = g->requests[i];
        for (int k = 0; k < r->n_choices; k++)
            count += r->choices[k].n_tokens - r->n_prompt;
    }
    return count;
}

/* Choices that have a token. */
static int64_t api_usage_begun(const struct api_generation *g)
{
    int64_t count = 0;
    for (size_t i = g->n_scores; i < g->n_requests; i++) {
        const struct request *r = g->requests[i];
        for (int k = 0; k < r->n_choices; k++)
            count += r->choices[k].n_tokens > r->n_prompt;
    }
    return count;
}

static int64_t api_usage_cached_tokens(const struct api_generation *g)
{
    int64_t count = 0;
    for (size_t i = 0; !g->n_scores && i < g->n_requests; i++)
        count += g->requests[i]->n_cached; /* what is scored is not found, but computed */
    return count;
}

/* Up to and with the one that ends the reasoning; all of them while nothing has. */
static int api_usage_choice_reasoning(const struct api_generation *g, const struct choice *choice)
{
    static const char tag[] = REPLY_THINK_END;
    const struct tokenizer *t = choice->detokenizer.tokenizer;
    int first = choice->request->n_prompt;
    size_t matched = 0, length;
    if (!g->replies[choice->index].has_reasoning)
        return 0;
    for (int i = first; i < choice->n_tokens; i++) {
        const char *piece = tokenizer_piece(t, choice->tokens[i], &length);
        for (size_t k = 0; k < length; k++) {
            matched = piece[k] == tag[matched] ? matched + 1 : piece[k] == tag[0];
            if (!tag[matched])
                return i + 1 - first;
        }
    }
    return choice->n_tokens - first;
}

int64_t api_usage_reasoning_tokens(const struct api_generation *g)
{
    const struct request *r = g->requests[0];
    int64_t count = 0;
    for (int k = 0; k < g->n_replies; k++)
        count += api_usage_choice_reasoning(g, &r->choices[k]);
    return count;
}

struct api_usage api_usage_count(const struct api_generation *g)
{
    return (struct api_usage){.prompt = api_usage_prompt_tokens(g),
                              .cached = api_usage_cached_tokens(g),
                              .completion = api_usage_completion_tokens(g),
                              .reasoning = api_usage_reasoning_tokens(g)};
}

json_t *api_usage_json(const struct api_generation *g)
{
    struct api_usage u = api_usage_count(g);
    json_t *usage = json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)u.prompt,
                              "completion_tokens", (json_int_t)u.completion, "total_tokens",
                              (json_int_t)(u.prompt + u.completion), "prompt_tokens_details",
                              "cached_tokens", (json_int_t)u.cached);
    if (g->replies &&
        json_object_set_new(usage, "completion_tokens_details",
                            json_pack("{s:I}", "reasoning_tokens", (json_int_t)u.reasoning)) != 0) {
        json_decref(usage);
        return NULL;
    }
    return usage;
}

static double api_usage_rate(double count, double ms)
{
    return count > 0 && ms > 0 ? count * 1000 / ms : 0;
}

json_t *api_usage_timings_json(const struct api_generation *g)
{
    int64_t scheduled = INT64_MAX, first = INT64_MAX, finished = 0;
    for (size_t i = 0; i < g->n_requests; i++) {
        const struct request *r = g->requests[i];
        if (r->scheduled_us && r->scheduled_us < scheduled)
            scheduled = r->scheduled_us;
        if (r->first_token_us && r->first_token_us < first)
            first = r->first_token_us;
        if (r->finished_us > finished)
            finished = r->finished_us;
    }
    int64_t cached = api_usage_cached_tokens(g), prompt = api_usage_prompt_tokens(g) - cached;
    int64_t predicted = api_usage_completion_tokens(g);
    bool has_first = first != INT64_MAX;
    double prompt_ms = has_first && first > scheduled ? (double)(first - scheduled) / 1000 : 0;
    double predicted_ms = has_first && finished > first ? (double)(finished - first) / 1000 : 0;
    /* First tokens are the prompt's work; the clock of the others starts with them. */
    return json_pack("{s:I, s:I, s:f, s:f, s:I, s:f, s:f}", "cache_n", (json_int_t)cached,
                     "prompt_n", (json_int_t)prompt, "prompt_ms", prompt_ms, "prompt_per_second",
                     api_usage_rate((double)prompt, prompt_ms), "predicted_n",
                     (json_int_t)predicted, "predicted_ms", predicted_ms, "predicted_per_second",
                     api_usage_rate((double)(predicted - api_usage_begun(g)), predicted_ms));
}

/* ---- log-probabilities ---- */

/* OpenAI's number for "next to impossible", where the true one would be -inf. */
json_t *api_usage_logprob(float logprob)
{
    return json_real(isfinite(logprob) ? (double)logprob : -9999.0);
}

static const char *api_usage_piece(const struct api_call *c, uint32_t token, size_t *ret_length)
{
    return tokenizer_piece(coordinator_tokenizer(c->api->coordinator), token, ret_length);
}

size_t api_usage_characters(const struct api_call *c, uint32_t token)
{
    size_t length, count = 0;
    const char *piece = api_usage_piece(c, token, &length);
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)piece[i] & 0xc0) != 0x80;
    return count;
}

static json_t *api_usage_chat_token(const struct api_call *c, uint32_t token, float logprob)
{
    size_t length;
    const char *piece = api_usage_piece(c, token, &length);
    json_t *bytes = json_array();
    for (size_t i = 0; i < length; i++)
        if (json_array_append_new(bytes, json_integer((unsigned char)piece[i])) != 0) {
            json_decref(bytes);
            return NULL;
        }
    return json_pack("{s:o, s:o, s:o}", "token", json_text_string(piece, length), "logprob",
                     api_usage_logprob(logprob), "bytes", bytes);
}

json_t *api_usage_chat_logprobs(const struct api_generation_piece *p)
{
    json_t *content = json_array();
    int rc = content ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < p->n_records; i++) {
        const struct token_record *record = &p->records[i];
        json_t *top = json_array();
        rc = top ? 0 : -1;
        for (uint32_t k = 0; rc == 0 && k < record->n_top; k++)
            rc = json_array_append_new(
                top, api_usage_chat_token(p->call, record->top[k].token, record->top[k].logprob));
        json_t *entry = api_usage_chat_token(p->call, record->token, record->logprob);
        if (json_object_set_new(entry, "top_logprobs", top) != 0)
            rc = -1;
        if (json_array_append_new(content, entry) != 0)
            rc = -1;
    }
    if (rc != 0) {
        json_decref(content);
        return NULL;
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

/* A token that is not whole characters is written as its bytes, so that two of them differ. */
static void api_usage_text_name(const struct api_call *c, uint32_t token, struct buf *out)
{
    size_t length;
    const char *piece = api_usage_piece(c, token, &length);
    buf_reset(out);
    if (json_text_is_utf8(piece, length)) {
        buf_append(out, piece, length);
        return;
    }
    buf_puts(out, "bytes:");
    for (size_t i = 0; i < length; i++)
        buf_printf(out, "\\x%02x", (unsigned char)piece[i]);
}

/* {"token": logprob}: the top ones, and always the one that was chosen. */
static json_t *api_usage_text_top(const struct api_call *c, const struct token_record *record,
                                  struct buf *name)
{
    json_t *map = json_object();
    int rc = map ? 0 : -1;
    for (uint32_t k = 0; rc == 0 && k <= record->n_top; k++) {
        bool is_chosen = k == record->n_top;
        uint32_t token = is_chosen ? record->token : record->top[k].token;
        float logprob = is_chosen ? record->logprob : record->top[k].logprob;
        api_usage_text_name(c, token, name);
        if (buf_failed(name) || json_object_setn_new_nocheck(map, buf_text(name), name->length,
                                                             api_usage_logprob(logprob)) != 0)
            rc = -1;
    }
    if (rc == 0)
        return map;
    json_decref(map);
    return NULL;
}

struct api_usage_lists {
    json_t *tokens, *logprobs, *tops, *offsets;
    bool wants_top, has_failed;
    size_t offset;
    struct buf name;
};

/* is_first: of a prompt, which nothing can tell the probability of. */
static void api_usage_add_token(struct api_usage_lists *l, const struct api_call *c,
                                const struct token_record *record, bool is_first)
{
    api_usage_text_name(c, record->token, &l->name);
    l->has_failed |=
        buf_failed(&l->name) ||
        json_array_append_new(l->tokens,
                              json_stringn_nocheck(buf_text(&l->name), l->name.length)) ||
        json_array_append_new(l->logprobs,
                              is_first ? json_null() : api_usage_logprob(record->logprob)) ||
        json_array_append_new(l->offsets, json_integer((json_int_t)l->offset));
    if (l->wants_top)
        l->has_failed |=
            json_array_append_new(l->tops, is_first ? json_null()
                                                    : api_usage_text_top(c, record, &l->name)) != 0;
    l->offset += api_usage_characters(c, record->token);
}

static void api_usage_add_prompt(struct api_usage_lists *l, const struct api_call *c,
                                 const struct request *scored)
{
    for (int i = 0; i < scored->n_prompt; i++) {
        struct token_record record = {.token = scored->prompt[i]};
        if (i > 0 && scored->keep_records)
            record = scored->choices[0].records[i - 1];
        else if (i > 0)
            record.logprob = scored->scores[i - 1];
        api_usage_add_token(l, c, &record, i == 0);
    }
}

json_t *api_usage_text_logprobs(const struct api_generation_piece *p)
{
    struct api_usage_lists l = {.tokens = json_array(),
                                .logprobs = json_array(),
                                .tops = json_array(),
                                .offsets = json_array(),
                                .wants_top = p->request->sampling.top_logprobs > 0,
                                .offset = p->text_offset};
    buf_init(&l.name);
    if (p->scored)
        api_usage_add_prompt(&l, p->call, p->scored);
    for (size_t i = 0; i < p->n_records; i++)
        api_usage_add_token(&l, p->call, &p->records[i], false);
    buf_clear(&l.name);
    if (!l.wants_top) {
        json_decref(l.tops);
        l.tops = json_null();
    }
    if (l.has_failed) { /* json_pack() gives the others back when one of them is NULL */
        json_decref(l.tokens);
        l.tokens = NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", l.tokens, "token_logprobs", l.logprobs,
                     "top_logprobs", l.tops, "text_offset", l.offsets);
}

/* ---- ids ---- */

json_t *api_usage_token_ids(const struct api_generation_piece *p)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < p->n_records; i++)
        if (json_array_append_new(ids, json_integer(p->records[i].token)) != 0) {
            json_decref(ids);
            return NULL;
        }
    return ids;
}

json_t *api_usage_prompt_ids(const struct request *r)
{
    json_t *ids = json_array();
    for (int i = 0; i < r->n_prompt; i++)
        if (json_array_append_new(ids, json_integer(r->prompt[i])) != 0) {
            json_decref(ids);
            return NULL;
        }
    return ids;
}
