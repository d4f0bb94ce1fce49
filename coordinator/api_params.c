#include "coordinator/api_params.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Small enough that a client whose numbers are doubles can send it back unchanged. */
static int api_params_draw_seed(int64_t *ret_seed, struct err *err)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return err_set(err, ERR_INTERNAL, "No random seed could be drawn: %s.", strerror(errno));
    *ret_seed = (int64_t)(bits >> 11);
    return 0;
}

static int api_params_read_real(const json_t *body, const char *name, double low, double high,
                                float *value, struct err *err)
{
    double wide = *value;
    int rc = json_body_real(body, name, low, high, &wide, err);
    if (rc == 0)
        *value = (float)wide;
    return rc;
}

static int api_params_read_sampling(struct batch_sampling *s, const json_t *body, struct err *err)
{
    /* The API's own defaults: a GGUF file says nothing of how its model likes to be sampled. */
    *s = (struct batch_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    int64_t top_k = 0;
    int rc = api_params_read_real(body, "temperature", 0, 2, &s->temperature, err);
    if (rc == 0)
        rc = api_params_read_real(body, "top_p", 0, 1, &s->top_p, err);
    if (rc == 0)
        rc = api_params_read_real(body, "min_p", 0, 1, &s->min_p, err);
    if (rc == 0)
        rc = json_body_integer(body, "top_k", -1, INT32_MAX, &top_k, err);
    if (rc == 0)
        rc = api_params_read_real(body, "presence_penalty", -2, 2, &s->presence_penalty, err);
    if (rc == 0)
        rc = api_params_read_real(body, "frequency_penalty", -2, 2, &s->frequency_penalty, err);
    /* llama-server's name first, so that the other one wins. */
    if (rc == 0)
        rc = api_params_read_real(body, "repeat_penalty", 0.01, 10, &s->repetition_penalty, err);
    if (rc == 0)
        rc =
            api_params_read_real(body, "repetition_penalty", 0.01, 10, &s->repetition_penalty, err);
    s->top_k = top_k > 0 ? (uint32_t)top_k : 0;
    return rc;
}

static int api_params_read_seed(struct api_params *p, const json_t *body, struct err *err)
{
    int64_t seed = -1; /* llama-server's and vLLM's way to ask for any */
    int rc = json_body_integer(body, "seed", INT64_MIN, INT64_MAX, &seed, err);
    if (rc == 0 && seed == -1)
        rc = api_params_draw_seed(&seed, err);
    p->seed = seed;
    p->sampling.seed = (uint64_t)seed;
    return rc;
}

static int api_params_add_stop(struct api_params *p, const json_t *item, struct err *err)
{
    if (!json_is_string(item))
        return err_set_param(err, ERR_INPUT, "stop",
                             "'stop' must be a string or an array of strings, but holds %s.",
                             json_text_type(item));
    size_t length = json_string_length(item);
    if (length == 0 || length > API_PARAMS_STOP_BYTES)
        return err_set_param(err, ERR_INPUT, "stop",
                             "A stop string of %zu bytes is not possible; 1 to %d are.", length,
                             API_PARAMS_STOP_BYTES);
    p->stop[p->n_stop] = strdup(json_string_value(item));
    if (!p->stop[p->n_stop])
        return err_set(err, ERR_MEMORY, "There is no memory for the stop strings.");
    p->n_stop++;
    return 0;
}

static int api_params_read_stop(struct api_params *p, const json_t *body, struct err *err)
{
    const json_t *field = json_body_field(body, "stop");
    if (!field)
        return 0;
    size_t count = json_is_array(field) ? json_array_size(field) : 1;
    if (count > API_PARAMS_STOPS)
        return err_set_param(err, ERR_INPUT, "stop",
                             "'stop' has %zu strings; at most %d are possible.", count,
                             API_PARAMS_STOPS);
    if (!json_is_array(field) && !json_is_string(field))
        return err_set_param(err, ERR_INPUT, "stop",
                             "'stop' must be a string or an array of strings, not %s.",
                             json_text_type(field));
    p->stop = calloc(count ? count : 1, sizeof *p->stop);
    if (!p->stop)
        return err_set(err, ERR_MEMORY, "There is no memory for the stop strings.");
    if (!json_is_array(field))
        return api_params_add_stop(p, field, err);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = api_params_add_stop(p, json_array_get(field, i), err);
    return rc;
}

static int api_params_compare_bias(const void *a, const void *b)
{
    const struct batch_bias *x = a, *y = b;
    return (x->token > y->token) - (x->token < y->token);
}

/* Keys are decimal ids in their one spelling, so that no two of them mean the same token. */
static bool api_params_token(const char *key, int64_t vocabulary, uint32_t *ret_token)
{
    size_t length = strlen(key);
    if (length == 0 || length > 9 || strspn(key, "0123456789") != length ||
        (key[0] == '0' && length > 1))
        return false;
    long token = strtol(key, NULL, 10);
    *ret_token = (uint32_t)token;
    return token < vocabulary;
}

static int api_params_read_bias(struct api_params *p, const json_t *body, int64_t vocabulary,
                                struct err *err)
{
    json_t *map = NULL, *value;
    const char *key;
    int rc = json_body_object(body, "logit_bias", &map, err);
    size_t count = json_object_size(map);
    if (rc != 0 || count == 0)
        return rc;
    if (count > API_PARAMS_BIASES)
        return err_set_param(err, ERR_INPUT, "logit_bias",
                             "'logit_bias' has %zu tokens; at most %d are possible.", count,
                             API_PARAMS_BIASES);
    struct batch_bias *bias = calloc(count, sizeof *bias);
    if (!bias)
        return err_set(err, ERR_MEMORY, "There is no memory for 'logit_bias'.");
    p->sampling.bias = bias;
    json_object_foreach(map, key, value)
    {
        struct batch_bias *b = &bias[p->sampling.n_bias++];
        if (!api_params_token(key, vocabulary, &b->token))
            return err_set_param(err, ERR_INPUT, "logit_bias",
                                 "'logit_bias' has the key '%.40s'; keys are token ids from 0 to "
                                 "%lld.",
                                 key, (long long)vocabulary - 1);
        double amount = json_number_value(value);
        if (!json_is_number(value))
            return err_set_param(err, ERR_INPUT, "logit_bias",
                                 "'logit_bias' of token %s must be a number from -100 to 100, not "
                                 "%s.",
                                 key, json_text_type(value));
        if (!(amount >= -100 && amount <= 100))
            return err_set_param(err, ERR_INPUT, "logit_bias",
                                 "'logit_bias' of token %s is %g; it must be from -100 to 100.",
                                 key, amount);
        b->bias = (float)amount;
    }
    qsort(bias, count, sizeof *bias, api_params_compare_bias);
    return 0;
}

static int api_params_check_user(const json_t *body, struct err *err)
{
    const char *user = NULL;
    return json_body_string(body, "user", &user, NULL, err);
}

int api_params_read_turn(struct api_params *p, const json_t *body, struct err *err)
{
    int rc = json_body_integer(body, "priority", INT32_MIN, INT32_MAX, &p->priority, err);
    if (rc == 0)
        rc = json_body_flag(body, "cache_prompt", &p->cache_prompt, err);
    return rc;
}

static int api_params_read_length(struct api_params *p, const json_t *body, struct err *err)
{
    /* The newer name last, so that it wins. */
    int rc = json_body_integer(body, "max_tokens", 1, INT32_MAX, &p->max_tokens, err);
    if (rc == 0)
        rc = json_body_integer(body, "max_completion_tokens", 1, INT32_MAX, &p->max_tokens, err);
    if (rc == 0)
        rc = json_body_integer(body, "n", 1, API_PARAMS_CHOICES, &p->n_choices, err);
    if (rc == 0)
        rc = json_body_flag(body, "ignore_eos", &p->ignore_eos, err);
    if (rc == 0)
        rc = api_params_read_turn(p, body, err);
    return rc;
}

static int api_params_read_form(struct api_params *p, const json_t *body, struct err *err)
{
    json_t *options = NULL;
    int rc = json_body_flag(body, "stream", &p->is_stream, err);
    if (rc == 0)
        rc = json_body_object(body, "stream_options", &options, err);
    if (rc == 0 && options)
        rc = json_body_flag(options, "include_usage", &p->include_usage, err);
    if (rc == 0 && options && !p->is_stream)
        rc = err_set_param(err, ERR_INPUT, "stream_options",
                           "'stream_options' needs 'stream' to be true.");
    if (rc == 0)
        rc = json_body_flag(body, "return_tokens", &p->return_token_ids, err);
    if (rc == 0)
        rc = json_body_flag(body, "return_token_ids", &p->return_token_ids, err);
    return rc;
}

int api_params_read(struct api_params *p, const struct api_call *c, struct err *err)
{
    *p = (struct api_params){.n_choices = 1, .cache_prompt = true};
    int rc = api_params_read_sampling(&p->sampling, c->body, err);
    if (rc == 0)
        rc = api_params_read_seed(p, c->body, err);
    if (rc == 0)
        rc = api_params_read_length(p, c->body, err);
    if (rc == 0)
        rc = api_params_read_form(p, c->body, err);
    if (rc == 0)
        rc = api_params_read_stop(p, c->body, err);
    if (rc == 0)
        rc = api_params_read_bias(p, c->body,
                                  coordinator_model(c->api->coordinator)->vocabulary_size, err);
    if (rc == 0)
        rc = api_params_check_user(c->body, err);
    return rc;
}

void api_params_clear(struct api_params *p)
{
    for (size_t i = 0; i < p->n_stop; i++)
        free(p->stop[i]);
    free(p->stop);
    free((void *)p->sampling.bias);
    constraint_release(p->constraint);
    *p = (struct api_params){0};
}

static int api_params_check_form(const struct api_params *p, struct err *err)
{
    return p->constraint && p->ignore_eos
               ? err_set_param(err, ERR_INPUT, "ignore_eos",
                               "'ignore_eos' is not possible for a text that must be of a form: it "
                               "ends when it is whole.")
               : 0;
}

int api_params_require(struct api_params *p, struct constraint *form, struct err *err)
{
    p->constraint = form;
    return api_params_check_form(p, err);
}

int api_params_constrain(struct api_params *p, const struct api_call *c,
                         const struct api_constraint_how *how, struct err *err)
{
    int rc = api_constraint_read(c, how, &p->constraint, err);
    return rc == 0 ? api_params_check_form(p, err) : rc;
}

/* A model's name without what a '-' sets apart: "…-instruct-q4_k_m". */
static bool api_params_begins(const char *alias, const char *name)
{
    size_t length = strlen(name);
    return length > 0 && strncmp(alias, name, length) == 0 && alias[length] == '-';
}

bool api_params_names_model(const struct api *api, const char *name)
{
    const char *path = weight_file_path(coordinator_weights(api->coordinator));
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    size_t length = strlen(file);
    bool has_suffix = length > 5 && strcmp(file + length - 5, ".gguf") == 0;
    const char *alias = coordinator_model_alias(api->coordinator);
    return strcmp(name, alias) == 0 || api_params_begins(alias, name) || strcmp(name, file) == 0 ||
           (has_suffix && strlen(name) == length - 5 && memcmp(name, file, length - 5) == 0);
}

int api_params_check_model(struct api_call *c, struct err *err)
{
    const char *name = NULL;
    int rc = json_body_string(c->body, "model", &name, NULL, err);
    if (rc != 0 || !name || api_params_names_model(c->api, name))
        return rc;
    c->error_code = "model_not_found";
    return err_set_param(err, ERR_NOT_FOUND, "model",
                         "There is no model '%.100s' here; this server has '%.100s'.", name,
                         coordinator_model_alias(c->api->coordinator));
}

static int api_params_copy_lists(const struct api_params *p, struct request *r, struct err *err)
{
    if (p->sampling.n_bias) {
        struct batch_bias *bias = calloc(p->sampling.n_bias, sizeof *bias);
        if (!bias)
            return err_set(err, ERR_MEMORY, "There is no memory for the request.");
        memcpy(bias, p->sampling.bias, p->sampling.n_bias * sizeof *bias);
        r->sampling.bias = bias;
        r->sampling.n_bias = p->sampling.n_bias;
    }
    if (!p->n_stop)
        return 0;
    r->stop = calloc(p->n_stop, sizeof *r->stop);
    for (; r->stop && r->n_stop < p->n_stop; r->n_stop++) {
        r->stop[r->n_stop] = strdup(p->stop[r->n_stop]);
        if (!r->stop[r->n_stop])
            break;
    }
    if (r->n_stop < p->n_stop)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    return 0;
}

int api_params_encode(struct api_call *c, const char *text, size_t length, uint32_t **ret_ids,
                      size_t *ret_count, struct err *err)
{
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    size_t context = (size_t)coordinator_context(c->api->coordinator);
    if (tokenizer_fewest_tokens(t, text, length) <= context)
        return tokenizer_encode(t, text, length, 0, ret_ids, ret_count, err);
    c->error_code = "context_length_exceeded";
    return err_set(err, ERR_INPUT,
                   "The prompt has %zu bytes, but the context is %zu tokens, which can never hold "
                   "more than %zu bytes.",
                   length, context, context * tokenizer_longest_token(t));
}

int api_params_request(const struct api_params *p, struct api_call *c, uint32_t *ids, size_t n_ids,
                       struct request **ret_request, struct err *err)
{
    size_t context = (size_t)coordinator_context(c->api->coordinator);
    if (n_ids == 0)
        return err_set(err, ERR_INPUT, "The prompt is empty: there is nothing to continue.");
    if (n_ids >= context) {
        c->error_code = "context_length_exceeded";
        return err_set(err, ERR_INPUT,
                       "The prompt has %zu tokens, but the context is %zu tokens, of which at "
                       "least one must be left for the answer.",
                       n_ids, context);
    }
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    int64_t left = (int64_t)(context - n_ids);
    r->kind = REQUEST_GENERATE;
    r->max_tokens = (int)(p->max_tokens && p->max_tokens < left ? p->max_tokens : left);
    r->n_choices = (int)p->n_choices;
    r->sampling = p->sampling;
    r->sampling.bias = NULL;
    r->sampling.n_bias = 0;
    r->ignore_eos = p->ignore_eos;
    r->priority = (int)p->priority;
    r->cache_prompt = p->cache_prompt;
    r->keep_records = p->return_token_ids || p->sampling.logprobs;
    r->constraint = p->constraint ? constraint_hold(p->constraint) : NULL;
    int rc = api_params_copy_lists(p, r, err);
    if (rc != 0) {
        request_free(r);
        return rc;
    }
    r->prompt = ids;
    r->n_prompt = (int)n_ids;
    *ret_request = r;
    return 0;
}
