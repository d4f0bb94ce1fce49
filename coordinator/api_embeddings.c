#include "coordinator/api_embeddings.h"

#include "coordinator/api_embed.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- vectors ---- */

/* The first n of the state, of length 1. The mean's divisor goes with the length. */
static bool api_embeddings_normalise(const char *state, float *to, size_t n)
{
    double sum = 0;
    memcpy(to, state, n * sizeof *to);
    for (size_t i = 0; i < n; i++)
        sum += (double)to[i] * (double)to[i];
    double length = sqrt(sum);
    if (!(length > 0) || !isfinite(length))
        return false;
    for (size_t i = 0; i < n; i++)
        to[i] = (float)((double)to[i] / length);
    return true;
}

static void api_embeddings_write_numbers(struct buf *out, const float *vector, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%.9g", i ? "," : "[", (double)vector[i]);
    buf_putc(out, ']');
}

/* The bytes of little-endian float32. */
static void api_embeddings_write_base64(struct buf *out, const float *vector, size_t n)
{
    size_t bytes = n * sizeof *vector, length = (bytes + 2) / 3 * 4;
    buf_putc(out, '"');
    if (buf_reserve(out, length + 1)) {
        EVP_EncodeBlock((unsigned char *)out->data + out->length, (const unsigned char *)vector,
                        (int)bytes);
        out->length += length;
    }
    buf_putc(out, '"');
}

/* ---- the answer ---- */

/* The body has been checked. */
static size_t api_embeddings_width(const struct api_call *c)
{
    const json_t *dimensions = json_body_field(c->body, "dimensions");
    return dimensions ? (size_t)json_integer_value(dimensions)
                      : (size_t)coordinator_model(c->api->coordinator)->hidden_size;
}

static bool api_embeddings_wants_base64(const struct api_call *c)
{
    const char *format = json_string_value(json_body_field(c->body, "encoding_format"));
    return format && strcmp(format, "base64") == 0;
}

static void api_embeddings_each(struct api_call *c, size_t index)
{
    size_t n = api_embeddings_width(c);
    float *vector = malloc(n * sizeof *vector);
    bool is_sound = vector && api_embeddings_normalise(api_embed_state(c, index), vector, n);
    buf_printf(&c->out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
               index ? "," : "{\"object\":\"list\",\"data\":[", index);
    if (is_sound && api_embeddings_wants_base64(c))
        api_embeddings_write_base64(&c->out, vector, n);
    else if (is_sound)
        api_embeddings_write_numbers(&c->out, vector, n);
    buf_putc(&c->out, '}');
    c->generation->texts.n_unsound += vector && !is_sound;
    c->out.failed |= !vector;
    free(vector);
    buf_clear(&c->generation->requests[index]->rows);
}

static void api_embeddings_done(struct api_call *c)
{
    const char *alias = coordinator_model_alias(c->api->coordinator);
    int64_t tokens = api_embed_tokens(c);
    struct err err;
    if (c->generation->texts.n_unsound) {
        err_set(&err, ERR_INTERNAL,
                "The model's state of %d texts has no length: the weights or these texts overflow "
                "its arithmetic.",
                c->generation->texts.n_unsound);
        api_call_fail(c, &err);
        return;
    }
    buf_puts(&c->out, "],\"model\":");
    json_text_quote(&c->out, alias, strlen(alias));
    buf_printf(&c->out, ",\"usage\":{\"prompt_tokens\":%" PRId64 ",\"total_tokens\":%" PRId64 "}}",
               tokens, tokens);
    api_call_complete(c, 200);
}

/* ---- the question ---- */

/* 'input' is one text: a string, or token ids. */
static bool api_embeddings_is_one(const json_t *input)
{
    return json_is_string(input) || json_is_integer(json_array_get(input, 0));
}

static int api_embeddings_encode(struct api_call *c, size_t index, uint32_t **ret_ids,
                                 size_t *ret_count, struct err *err)
{
    const json_t *input = json_body_field(c->body, "input");
    const json_t *text = api_embeddings_is_one(input) ? input : json_array_get(input, index);
    int rc;
    if (json_is_string(text))
        rc = api_embed_encode(c, json_string_value(text), json_string_length(text), ret_ids,
                              ret_count, err);
    else
        rc = json_body_ids(text, "input", coordinator_model(c->api->coordinator)->vocabulary_size,
                           SIZE_MAX, ret_ids, ret_count, err);
    if (rc != 0 && !err->param[0])
        snprintf(err->param, sizeof err->param, "input");
    return rc;
}

static const struct api_generation_format api_embeddings_format = {.id_prefix = "embd-"};

static const struct api_embed_task api_embeddings_tasks[] = {
    [POOLING_LAST] = {.format = &api_embeddings_format,
                      .pooling = POOLING_LAST,
                      .encode = api_embeddings_encode,
                      .each = api_embeddings_each,
                      .done = api_embeddings_done},
    [POOLING_MEAN] = {.format = &api_embeddings_format,
                      .pooling = POOLING_MEAN,
                      .encode = api_embeddings_encode,
                      .each = api_embeddings_each,
                      .done = api_embeddings_done},
};

/* As the model's file says, by llama.cpp's numbers; the last token's state where it says nothing.
 */
static int api_embeddings_pooling(const struct api_call *c, enum request_pooling *ret_pooling,
                                  struct err *err)
{
    static const char *const names[] = {"none", "mean", "cls", "last", "rank"};
    const struct coordinator *owner = c->api->coordinator;
    bool is_qwen3 = coordinator_model(owner)->architecture == MODEL_QWEN3;
    int64_t type = 3;
    weight_file_integer(coordinator_weights(owner),
                        is_qwen3 ? "qwen3.pooling_type" : "qwen2.pooling_type", &type);
    if (type == 2 || type < 0 || type > 3)
        return err_set(err, ERR_INPUT,
                       "This model makes no embeddings: the pooling type in its file is '%s'.%s",
                       type >= 0 && type <= 4 ? names[type] : "unknown",
                       type == 4 ? " It ranks documents: POST /v1/rerank." : "");
    *ret_pooling = type == 1 ? POOLING_MEAN : POOLING_LAST;
    return 0;
}

static int api_embeddings_check_input(const json_t *input, size_t *ret_texts, struct err *err)
{
    size_t count = json_array_size(input), i;
    const json_t *item;
    if (!json_is_string(input) && !(json_is_array(input) && count))
        return err_set_param(err, ERR_INPUT, "input",
                             "'input' must be a string, token ids, or an array of either, not %s.",
                             !input                 ? "absent"
                             : json_is_array(input) ? "empty"
                                                    : json_text_type(input));
    *ret_texts = 1;
    if (api_embeddings_is_one(input))
        return 0;
    *ret_texts = count;
    if (count > API_EMBED_TEXTS)
        return err_set_param(err, ERR_INPUT, "input",
                             "'input' has %zu texts; at most %d are possible.", count,
                             API_EMBED_TEXTS);
    json_array_foreach(input, i, item)
    {
        if (!json_is_string(item) && !json_is_array(item))
            return err_set_param(err, ERR_INPUT, "input",
                                 "Element %zu of 'input' must be a string or token ids, not %s.", i,
                                 json_text_type(item));
    }
    return 0;
}

static int api_embeddings_check_form(const struct api_call *c, struct err *err)
{
    const char *format = "float", *user = NULL;
    int64_t dimensions = 1, hidden = coordinator_model(c->api->coordinator)->hidden_size;
    int rc = json_body_string(c->body, "encoding_format", &format, NULL, err);
    if (rc == 0 && strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        rc = err_set_param(err, ERR_INPUT, "encoding_format",
                           "'encoding_format' is '%.40s'; it must be float or base64.", format);
    if (rc == 0)
        rc = json_body_integer(c->body, "dimensions", 1, hidden, &dimensions, err);
    if (rc == 0)
        rc = json_body_string(c->body, "user", &user, NULL, err);
    return rc;
}

void api_embeddings(struct api_call *c)
{
    enum request_pooling pooling = POOLING_LAST;
    size_t n_texts = 0;
    struct err err = {0};
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_embeddings_pooling(c, &pooling, &err);
    if (rc == 0)
        rc = api_embeddings_check_input(json_body_field(c->body, "input"), &n_texts, &err);
    if (rc == 0)
        rc = api_embeddings_check_form(c, &err);
    api_embed_begin(c, &api_embeddings_tasks[pooling], n_texts, rc == 0 ? NULL : &err);
}
