#include "coordinator/api_rerank.h"

#include "coordinator/api_embed.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "kernels/fmath.h"
#include "kernels/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- scores ---- */

struct api_rerank_result {
    size_t index;
    double score;
};

/* The one token that the word is, or -1. */
static int64_t api_rerank_token(const struct api_call *c, const char *word)
{
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct err ignored;
    int64_t id = -1;
    if (tokenizer_encode(coordinator_tokenizer(c->api->coordinator), word, strlen(word), 0, &ids,
                         &n_ids, &ignored) == 0 &&
        n_ids == 1)
        id = ids[0];
    free(ids);
    return id;
}

/* The head's row for the word; malloc'd, [hidden]. */
static float *api_rerank_row(const struct api_call *c, const char *word)
{
    const struct model_config *m = coordinator_model(c->api->coordinator);
    const struct weight_file *f = coordinator_weights(c->api->coordinator);
    const struct tensor *head =
        model_tensor(m, f, m->tied_head ? MODEL_TOKEN_EMBEDDING : MODEL_OUTPUT, -1);
    size_t row_bytes = quant_row_bytes(head->type, m->hidden_size);
    float *row = malloc((size_t)m->hidden_size * sizeof *row);
    if (row)
        quant_unpack_row(head->type,
                         (const char *)head->data + (size_t)api_rerank_token(c, word) * row_bytes,
                         row, m->hidden_size);
    return row;
}

static double api_rerank_logit(const float *row, const char *state, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        float x;
        memcpy(&x, state + (size_t)i * sizeof x, sizeof x);
        sum += (double)row[i] * (double)x;
    }
    return sum;
}

/* The better one first; equal ones as they came. */
static int api_rerank_compare(const void *a, const void *b)
{
    const struct api_rerank_result *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Of all documents, sorted; malloc'd. NULL: no memory. */
static struct api_rerank_result *api_rerank_results(const struct api_call *c)
{
    size_t n = c->generation->texts.n;
    int hidden = coordinator_model(c->api->coordinator)->hidden_size;
    struct api_rerank_result *results = calloc(n, sizeof *results);
    float *yes = api_rerank_row(c, "yes"), *no = api_rerank_row(c, "no");
    bool ok = results && yes && no;
    for (size_t i = 0; ok && i < n; i++) {
        const char *state = api_embed_state(c, i);
        double difference =
            api_rerank_logit(no, state, hidden) - api_rerank_logit(yes, state, hidden);
        results[i] = (struct api_rerank_result){i, 1 / (1 + (double)fmath_exp((float)difference))};
    }
    free(yes);
    free(no);
    if (ok)
        qsort(results, n, sizeof *results, api_rerank_compare);
    else
        free(results);
    return ok ? results : NULL;
}

/* ---- the answer ---- */

static const char *api_rerank_text(const json_t *document)
{
    return json_string_value(json_is_object(document) ? json_object_get(document, "text")
                                                      : document);
}

static json_t *api_rerank_result_json(const struct api_call *c, const struct api_rerank_result *r,
                                      bool with_document)
{
    const json_t *documents = json_body_field(c->body, "documents");
    json_t *value = json_pack("{s:I, s:o}", "index", (json_int_t)r->index, "relevance_score",
                              json_text_real(r->score));
    if (!with_document)
        return value;
    json_t *document =
        json_pack("{s:s}", "text", api_rerank_text(json_array_get(documents, r->index)));
    if (json_object_set_new(value, "document", document) == 0)
        return value;
    json_decref(value);
    return NULL;
}

static void api_rerank_done(struct api_call *c)
{
    struct api_generation *g = c->generation;
    const json_t *top = json_body_field(c->body, "top_n");
    bool with_documents = !json_is_false(json_object_get(c->body, "return_documents"));
    size_t n = top && (size_t)json_integer_value(top) < g->texts.n ? (size_t)json_integer_value(top)
                                                                   : g->texts.n;
    struct api_rerank_result *results = api_rerank_results(c);
    json_t *list = json_array();
    int rc = results ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = json_array_append_new(list, api_rerank_result_json(c, &results[i], with_documents));
    free(results);
    if (rc != 0) { /* answered as no memory */
        json_decref(list);
        list = NULL;
    }
    json_int_t tokens = (json_int_t)api_embed_tokens(c);
    api_call_answer(c, 200,
                    json_pack("{s:s, s:s, s:o, s:o, s:{s:I, s:I}}", "id", g->id, "object", "list",
                              "model", api_call_model_json(c), "results", list, "usage",
                              "prompt_tokens", tokens, "total_tokens", tokens));
}

/* ---- the question ---- */

/* The form in which Qwen3-Reranker has learnt it. */
static int api_rerank_encode(struct api_call *c, size_t index, uint32_t **ret_ids,
                             size_t *ret_count, struct err *err)
{
    const char *instruction =
        "Given a web search query, retrieve relevant passages that answer the query";
    const json_t *given = json_body_field(c->body, "instruction");
    struct buf text;
    buf_init(&text);
    buf_printf(&text,
               "<|im_start|>system\nJudge whether the Document meets the requirements based on the "
               "Query and the Instruct provided. Note that the answer can only be \"yes\" or "
               "\"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: %s\n<Query>: %s\n<Document>: "
               "%s<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
               given ? json_string_value(given) : instruction,
               json_string_value(json_object_get(c->body, "query")),
               api_rerank_text(json_array_get(json_object_get(c->body, "documents"), index)));
    int rc = buf_failed(&text)
                 ? err_set(err, ERR_MEMORY, "There is no memory for the text.")
                 : api_params_encode(c, buf_text(&text), text.length, ret_ids, ret_count, err);
    buf_clear(&text);
    if (rc != 0 && !err->param[0])
        snprintf(err->param, sizeof err->param, "documents[%zu]", index % 100000);
    return rc;
}

static const struct api_generation_format api_rerank_format = {.id_prefix = "rerank-"};

static const struct api_embed_task api_rerank_task = {.format = &api_rerank_format,
                                                      .pooling = POOLING_LAST,
                                                      .encode = api_rerank_encode,
                                                      .done = api_rerank_done};

static int api_rerank_check_documents(const json_t *documents, struct err *err)
{
    size_t count = json_array_size(documents), i;
    const json_t *document;
    if (count == 0 || count > API_EMBED_TEXTS)
        return err_set_param(err, ERR_INPUT, "documents",
                             "'documents' must be an array of 1 to %d texts.", API_EMBED_TEXTS);
    json_array_foreach(documents, i, document)
    {
        if (!api_rerank_text(document))
            return err_set_param(err, ERR_INPUT, "documents",
                                 "Element %zu of 'documents' must be a string or {\"text\":…}.", i);
    }
    return 0;
}

static int api_rerank_check(const struct api_call *c, struct err *err)
{
    const char *query = NULL, *instruction = NULL;
    json_t *documents = NULL;
    bool with_documents;
    int64_t top;
    int rc = json_body_string(c->body, "query", &query, NULL, err);
    if (rc == 0 && !query)
        rc = err_set_param(err, ERR_INPUT, "query", "'query' is missing: a string.");
    if (rc == 0)
        rc = json_body_array(c->body, "documents", &documents, err);
    if (rc == 0)
        rc = api_rerank_check_documents(documents, err);
    if (rc == 0)
        rc = json_body_string(c->body, "instruction", &instruction, NULL, err);
    if (rc == 0)
        rc = json_body_integer(c->body, "top_n", 1, INT32_MAX, &top, err);
    if (rc == 0)
        rc = json_body_flag(c->body, "return_documents", &with_documents, err);
    if (rc == 0 && (api_rerank_token(c, "yes") < 0 || api_rerank_token(c, "no") < 0))
        rc = err_set(err, ERR_INPUT,
                     "This model cannot rank: its vocabulary has no tokens \"yes\" and \"no\".");
    return rc;
}

void api_rerank(struct api_call *c)
{
    struct err err = {0};
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_rerank_check(c, &err);
    size_t n = json_array_size(json_object_get(c->body, "documents"));
    api_embed_begin(c, &api_rerank_task, n, rc == 0 ? NULL : &err);
}
