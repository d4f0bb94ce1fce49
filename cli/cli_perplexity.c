#include "cli/cli.h"

#include "cli/cluster_options.h"
#include "cli/model_fetch.h"
#include "cli/model_text.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 1 << 30 };

struct perplexity_settings {
    struct cluster_options cluster;
    int64_t context, stride, windows;
    bool all, json;
};

#define FIELD(name) offsetof(struct perplexity_settings, name)

static const struct conf_option perplexity_options[] = {
    {.name = "context",
     .letter = 'c',
     .type = CONF_INT,
     .offset = FIELD(context),
     .value = "N",
     .initial = "512",
     .min = 4,
     .max = CLUSTER_CONTEXT_MAX,
     .help = "tokens of a window"},
    {.name = "stride",
     .type = CONF_INT,
     .offset = FIELD(stride),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_CONTEXT_MAX,
     .help = "tokens between windows; 0: the window's length"},
    {.name = "windows",
     .type = CONF_INT,
     .offset = FIELD(windows),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = 1 << 30,
     .help = "only the first N windows; 0: all"},
    {.name = "all",
     .type = CONF_FLAG,
     .offset = FIELD(all),
     .help = "score every position of a window, not only the second half"},
    {.name = "json", .type = CONF_FLAG, .offset = FIELD(json), .help = "print a JSON object"},
    CLUSTER_OPTIONS(struct perplexity_settings, "0"),
};

static const struct conf_program perplexity_program = {
    .name = "paceline perplexity",
    .synopsis = "[OPTION...] MODEL FILE",
    .summary = "Measures how well a model predicts a text: exp of the mean negative logarithm of "
               "the probability\nof each next token.",
    .epilogue =
        "Method: the text's tokens are cut into consecutive windows of --context tokens; what is\n"
        "left over at the end is not used. In each window the tokens of the second half are\n"
        "scored, each given everything before it in the window: position i scores token i + 1 for\n"
        "i from N/2 to N - 2. These are the positions that llama.cpp's perplexity tool scores, so\n"
        "numbers can be compared. With --stride S < N windows overlap, and from the second one on\n"
        "only the last S tokens are scored. The uncertainty is the standard error of the mean.",
    .file = VERB_CONFIG_FILE,
    .group = "perplexity",
    .groups = verb_groups,
    .options = perplexity_options,
    .n_options = sizeof perplexity_options / sizeof *perplexity_options,
    .min_positionals = 2,
    .max_positionals = 2,
};

struct tally {
    double sum, sum_squares; /* of negative log probabilities, in nats */
    int64_t count;
};

static int perplexity_tokens(const char *model_path, const char *text_path, uint32_t **ret_ids,
                             size_t *ret_count, struct err *err)
{
    struct tokenizer *t = NULL;
    char *text = NULL;
    size_t length = 0;
    int rc = verb_read_file(text_path, TEXT_LIMIT, &text, &length, err);
    if (rc == 0)
        rc = model_text_open(&t, model_path, err);
    if (rc == 0) {
        rc = tokenizer_encode(t, text, length, TOKENIZER_SPECIALS_AS_TEXT, ret_ids, ret_count, err);
        if (rc < 0)
            err_prefix(err, "%s", text_path);
    }
    tokenizer_free(t);
    free(text);
    return rc;
}

/* Adds the positions first … n - 2 of one window. */
static int perplexity_window(const struct http_client *client, const uint32_t *ids, size_t n,
                             size_t first, struct tally *tally, struct err *err)
{
    json_t *tokens = json_array(), *answer = NULL;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(tokens, json_integer(ids[i]));
    json_t *request = json_pack("{s:o,s:s}", "tokens", tokens, "output", "logprobs");
    if (!request || json_array_size(tokens) != n) {
        json_decref(request);
        return err_set(err, ERR_MEMORY, "no memory for a window of %zu tokens", n);
    }
    int rc = http_client_post(client, "/v1/probe", request, &answer, err);
    const json_t *logprobs = json_object_get(answer, "logprobs");
    if (rc == 0 && json_array_size(logprobs) != n - 1)
        rc = err_set(err, ERR_NETWORK, "%zu log probabilities came instead of %zu",
                     json_array_size(logprobs), n - 1);
    for (size_t i = first; i + 1 < n && rc == 0; i++) {
        const json_t *value = json_array_get(logprobs, i);
        double nll = -json_number_value(value);
        if (!json_is_number(value))
            rc = err_set(err, ERR_NETWORK, "log probability %zu is not a number", i);
        tally->sum += nll;
        tally->sum_squares += nll * nll;
        tally->count++;
    }
    json_decref(answer);
    json_decref(request);
    return rc;
}

static double tally_perplexity(const struct tally *t)
{
    return exp(t->sum / (double)t->count);
}

/* Standard error of the mean, carried through exp. */
static double tally_uncertainty(const struct tally *t)
{
    if (t->count < 2)
        return 0;
    double mean = t->sum / (double)t->count;
    double variance = t->sum_squares / (double)t->count - mean * mean;
    return variance > 0 ? sqrt(variance / (double)(t->count - 1)) * exp(mean) : 0;
}

static int perplexity_measure(const struct perplexity_settings *s, struct local_cluster *cluster,
                              const uint32_t *ids, size_t count, size_t context, struct err *err)
{
    size_t stride = s->stride && (size_t)s->stride < context ? (size_t)s->stride : context;
    size_t windows = (count - context) / stride + 1;
    if (s->windows && (size_t)s->windows < windows)
        windows = (size_t)s->windows;
    struct tally tally = {0};
    int rc = 0;
    for (size_t w = 0; w < windows && rc == 0; w++) {
        size_t first = s->all ? 0 : context / 2;
        if (w > 0 && stride < context)
            first = context - stride - 1;
        if (tally.count)
            local_cluster_say(cluster, "window %zu of %zu, perplexity so far %.4f", w + 1, windows,
                              tally_perplexity(&tally));
        else
            local_cluster_say(cluster, "window %zu of %zu", w + 1, windows);
        rc = perplexity_window(local_cluster_client(cluster), ids + w * stride, context, first,
                               &tally, err);
    }
    local_cluster_say(cluster, "%s", "");
    if (rc < 0)
        return rc;
    const char *format = s->json ? "{\"perplexity\": %.6f, \"uncertainty\": %.6f, \"scored\": "
                                   "%" PRId64 ", \"windows\": %zu, \"context\": %zu}\n"
                                 : "perplexity %.4f +/- %.4f (%" PRId64 " tokens scored in %zu "
                                   "windows of %zu)\n";
    printf(format, tally_perplexity(&tally), tally_uncertainty(&tally), tally.count, windows,
           context);
    return 0;
}

static int perplexity_run(const struct perplexity_settings *s, const char *const *arguments,
                          struct err *err)
{
    uint32_t *ids = NULL;
    size_t count = 0, context = (size_t)s->context;
    char *path = NULL;
    struct local_cluster *cluster = NULL;
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = model_fetch_resolve(arguments[0], s->cluster.models_file, &path, err);
    if (rc == 0)
        rc = perplexity_tokens(path, arguments[1], &ids, &count, err);
    if (rc == 0 && count < 4)
        rc = err_set(err, ERR_INPUT, "%s: %zu tokens are too few", arguments[1], count);
    if (rc == 0 && count < context) {
        fprintf(stderr, "%s has only %zu tokens: one window of that length\n", arguments[1], count);
        context = count;
    }
    if (rc == 0) {
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        settings.context = (int64_t)context;
        settings.concurrency = 1;
        rc = local_cluster_start(&cluster, &settings, err);
    }
    if (rc == 0)
        rc = perplexity_measure(s, cluster, ids, count, context, err);
    local_cluster_stop(cluster);
    free(path);
    free(ids);
    return rc;
}

int cli_perplexity(int argc, char **argv)
{
    struct perplexity_settings s = {0};
    struct err err = {0};
    const char *arguments[2] = {NULL, NULL};
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&perplexity_program, &s, argc, argv, arguments, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = perplexity_run(&s, arguments, &err);
        curl_global_cleanup();
    }
    conf_clear(&perplexity_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
