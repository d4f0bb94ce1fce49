#include "cli/cli.h"

#include "cli/cluster_options.h"
#include "cli/model_fetch.h"
#include "cli/paths.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"
#include "model/model_config.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKENS_LIMIT = 1 << 28 };

struct logits_settings {
    struct cluster_options cluster;
    char *tokens, *tokens_file, *output;
};

#define FIELD(name) offsetof(struct logits_settings, name)

static const struct conf_option logits_options[] = {
    {.name = "tokens",
     .type = CONF_STRING,
     .offset = FIELD(tokens),
     .value = "LIST",
     .help = "token ids apart by commas",
     .command_line_only = true},
    {.name = "tokens-file",
     .type = CONF_STRING,
     .offset = FIELD(tokens_file),
     .value = "FILE",
     .help = "the same from a file; -: standard input",
     .command_line_only = true},
    {.name = "output",
     .letter = 'o',
     .type = CONF_STRING,
     .offset = FIELD(output),
     .value = "FILE",
     .help = "where the logits go (required)",
     .command_line_only = true},
    CLUSTER_OPTIONS(struct logits_settings, "0"),
};

static const struct conf_program logits_program = {
    .name = "paceline logits",
    .synopsis = "[OPTION...] MODEL --tokens LIST --output FILE",
    .summary = "Runs the tokens through real workers and writes the logits of every position: "
               "float32, little\nendian, row-major [tokens x vocabulary].",
    .epilogue =
        "Example:\n  paceline logits model.gguf --tokens 1,2,3 --cuts 3,5 --output logits.bin",
    .file = VERB_CONFIG_FILE,
    .group = "logits",
    .groups = verb_groups,
    .options = logits_options,
    .n_options = sizeof logits_options / sizeof *logits_options,
    .min_positionals = 1,
    .max_positionals = 1,
};

/* The file appears under its name only when it is whole; until then it is beside it. */
struct logits_sink {
    FILE *out;
    const char *path; /* as the user gave it */
    char *part;
    uint64_t bytes;
};

static int logits_open(struct logits_sink *sink, const char *path, struct err *err)
{
    struct stat st;
    sink->path = path;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(err, ERR_USAGE, "--output %.300s: this is not a regular file", path);
    int rc = paths_format(&sink->part, err, "%s.part", path);
    if (rc < 0)
        return rc;
    sink->out = fopen(sink->part, "we");
    if (!sink->out)
        return err_set(err, ERR_IO, "--output %.300s: %s", path, strerror(errno));
    return 0;
}

/* Gives the file its name, or removes what there is of it. */
static int logits_close(struct logits_sink *sink, int rc, struct err *err)
{
    if (sink->out) {
        if (fclose(sink->out) != 0 && rc == 0)
            rc = err_set(err, ERR_IO, "%.300s: %s", sink->path, strerror(errno));
        if (rc == 0 && rename(sink->part, sink->path) < 0)
            rc = err_set(err, ERR_IO, "%.300s: %s", sink->path, strerror(errno));
        if (rc < 0)
            unlink(sink->part);
    }
    free(sink->part);
    return rc;
}

static int logits_write(void *context, const char *bytes, size_t length, struct err *err)
{
    struct logits_sink *sink = context;
    if (fwrite(bytes, 1, length, sink->out) != length)
        return err_set(err, ERR_IO, "%.300s: %s", sink->path, strerror(errno));
    sink->bytes += length;
    return 0;
}

static int logits_read_tokens(const struct logits_settings *s, uint32_t **ret_ids,
                              size_t *ret_count, struct err *err)
{
    if (!s->tokens == !s->tokens_file)
        return err_set(err, ERR_USAGE, "give either --tokens or --tokens-file");
    if (s->tokens)
        return verb_read_ids(s->tokens, "--tokens", ret_ids, ret_count, err);
    char *text = NULL;
    size_t length = 0;
    int rc = verb_read_file(s->tokens_file, TOKENS_LIMIT, &text, &length, err);
    if (rc == 0)
        rc = verb_read_ids(text, s->tokens_file, ret_ids, ret_count, err);
    free(text);
    return rc;
}

/* Every id must be a row of the embedding. */
static int logits_check_tokens(const struct logits_settings *s, const char *model, const char *path,
                               const uint32_t *ids, size_t count, struct err *err)
{
    struct weight_file *file = NULL;
    struct model_config config;
    int rc = weight_file_open(&file, path, err);
    if (rc == 0)
        rc = model_config_read(&config, file, err);
    for (size_t i = 0; i < count && rc == 0; i++)
        if (ids[i] >= (uint32_t)config.vocabulary_size)
            rc = err_set(err, ERR_INPUT,
                         "%.150s: number %zu is %" PRIu32 ", but the tokens of %.150s are 0 to %d",
                         s->tokens ? "--tokens" : s->tokens_file, i + 1, ids[i], model,
                         config.vocabulary_size - 1);
    weight_file_close(file);
    return rc;
}

static int logits_fetch(struct local_cluster *cluster, const json_t *request,
                        struct logits_sink *sink, size_t count, struct err *err)
{
    local_cluster_say(cluster, "computing the logits of %zu tokens", count);
    int rc = http_client_post_raw(local_cluster_client(cluster), "/v1/probe", request, logits_write,
                                  sink, err);
    local_cluster_say(cluster, "%s", "");
    uint64_t row = sink->bytes / count;
    if (rc == 0 && (row == 0 || row * count != sink->bytes || row % sizeof(float)))
        rc = err_set(err, ERR_NETWORK, "%" PRIu64 " bytes came, not %zu rows of float32",
                     sink->bytes, count);
    return rc;
}

static int logits_request(const uint32_t *ids, size_t count, json_t **ret_request, struct err *err)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(tokens, json_integer(ids[i]));
    bool whole = json_array_size(tokens) == count;
    *ret_request = json_pack("{s:o,s:s}", "tokens", tokens, "output", "logits");
    if (!*ret_request || !whole) {
        json_decref(*ret_request);
        *ret_request = NULL;
        return err_set(err, ERR_MEMORY, "no memory for %zu tokens", count);
    }
    return 0;
}

static int logits_run(const struct logits_settings *s, const char *model, struct err *err)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    char *path = NULL;
    json_t *request = NULL;
    struct local_cluster *cluster = NULL;
    struct logits_sink sink = {0};
    if (!s->output)
        return err_set(err, ERR_USAGE, "--output FILE is missing; see paceline logits --help");
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = logits_read_tokens(s, &ids, &count, err);
    if (rc == 0)
        rc = logits_request(ids, count, &request, err);
    if (rc == 0)
        rc = logits_open(&sink, s->output, err);
    if (rc == 0)
        rc = model_fetch_resolve(model, s->cluster.models_file, &path, err);
    if (rc == 0)
        rc = logits_check_tokens(s, model, path, ids, count, err);
    if (rc == 0) {
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        settings.context = (int64_t)count;
        settings.concurrency = 1;
        rc = local_cluster_start(&cluster, &settings, err);
    }
    if (rc == 0)
        rc = logits_fetch(cluster, request, &sink, count, err);
    local_cluster_stop(cluster);
    rc = logits_close(&sink, rc, err);
    if (rc == 0)
        fprintf(stderr, "%s: %zu tokens x %" PRIu64 " logits\n", s->output, count,
                sink.bytes / count / sizeof(float));
    json_decref(request);
    free(path);
    free(ids);
    return rc;
}

int cli_logits(int argc, char **argv)
{
    struct logits_settings s = {0};
    struct err err = {0};
    const char *model = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&logits_program, &s, argc, argv, &model, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = logits_run(&s, model, &err);
        curl_global_cleanup();
    }
    conf_clear(&logits_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
