#include "cli/cli.h"

#include "base/buf.h"
#include "cli/model_fetch.h"
#include "cli/model_text.h"
#include "cli/verb.h"
#include "coordinator/detokenizer.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENIZE_LINE_LIMIT = 1 << 30 };

struct tokenize_settings {
    bool decode, plain, whole;
    char *models_file;
};

#define FIELD(name) offsetof(struct tokenize_settings, name)

static const struct conf_option tokenize_options[] = {
    {.name = "decode",
     .letter = 'd',
     .type = CONF_FLAG,
     .offset = FIELD(decode),
     .help = "the reverse: a line of ids to a line of text",
     .command_line_only = true},
    {.name = "plain",
     .type = CONF_FLAG,
     .offset = FIELD(plain),
     .help = "special tokens in the text are plain text"},
    {.name = "whole",
     .type = CONF_FLAG,
     .offset = FIELD(whole),
     .command_line_only = true,
     .help = "all of the input, line ends included, is one text"},
    {.name = "models-file",
     .type = CONF_STRING,
     .offset = FIELD(models_file),
     .value = "FILE",
     .help = "another catalogue than the shipped models.cfg"},
};

static const struct conf_program tokenize_program = {
    .name = "paceline tokenize",
    .synopsis = "[OPTION...] MODEL < TEXT",
    .summary = "Prints the token ids of each line of the standard input as a line of numbers "
               "apart by commas.\nThe line's end is not part of its text.",
    .file = VERB_CONFIG_FILE,
    .group = "tokenize",
    .groups = verb_groups,
    .options = tokenize_options,
    .n_options = sizeof tokenize_options / sizeof *tokenize_options,
    .min_positionals = 1,
    .max_positionals = 1,
};

static int tokenize_encode(const struct tokenizer *t, bool plain, const char *text, size_t length,
                           struct err *err)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    int rc = tokenizer_encode(t, text, length, plain ? TOKENIZER_SPECIALS_AS_TEXT : 0, &ids, &count,
                              err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        printf(i ? ",%" PRIu32 : "%" PRIu32, ids[i]);
    if (rc == 0)
        putchar('\n');
    free(ids);
    return rc;
}

static int tokenize_decode(const struct tokenizer *t, const char *text, size_t number,
                           struct err *err)
{
    char where[40];
    snprintf(where, sizeof where, "line %zu", number);
    uint32_t *ids = NULL;
    size_t count = 0;
    int rc = 0;
    if (text[strspn(text, " \t\r")]) /* an empty line is the text of no tokens */
        rc = verb_read_ids(text, where, &ids, &count, err);
    struct buf out;
    struct detokenizer d;
    buf_init(&out);
    detokenizer_init(&d, t, false);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (ids[i] >= tokenizer_size(t))
            rc = err_set(err, ERR_INPUT, "%s: %" PRIu32 " is beyond the vocabulary of %zu tokens",
                         where, ids[i], tokenizer_size(t));
        else
            detokenizer_push(&d, ids[i], &out);
    }
    if (rc == 0)
        detokenizer_finish(&d, &out);
    if (rc == 0 && buf_failed(&out))
        rc = err_set(err, ERR_MEMORY, "%s: no memory for its text", where);
    if (rc == 0) {
        fwrite(buf_text(&out), 1, out.length, stdout);
        putchar('\n');
    }
    buf_clear(&out);
    free(ids);
    return rc;
}

static int tokenize_whole(const struct tokenize_settings *s, const struct tokenizer *t,
                          struct err *err)
{
    char *text = NULL;
    size_t length = 0;
    int rc = verb_read_file("-", TOKENIZE_LINE_LIMIT, &text, &length, err);
    if (rc == 0)
        rc = s->decode ? tokenize_decode(t, text, 1, err)
                       : tokenize_encode(t, s->plain, text, length, err);
    free(text);
    return rc;
}

static int tokenize_lines(const struct tokenize_settings *s, const struct tokenizer *t,
                          struct err *err)
{
    char *line = NULL;
    size_t capacity = 0, number = 0;
    ssize_t length;
    int rc = 0;
    while (rc == 0 && (length = getline(&line, &capacity, stdin)) >= 0) {
        number++;
        if (length && line[length - 1] == '\n')
            line[--length] = '\0';
        rc = s->decode ? tokenize_decode(t, line, number, err)
                       : tokenize_encode(t, s->plain, line, (size_t)length, err);
        if (rc < 0 && !s->decode)
            err_prefix(err, "line %zu", number);
    }
    if (rc == 0 && ferror(stdin))
        rc = err_set(err, ERR_IO, "standard input: %s", strerror(errno));
    free(line);
    return rc;
}

static int tokenize_run(const struct tokenize_settings *s, const char *model, struct err *err)
{
    char *path = NULL;
    struct tokenizer *t = NULL;
    int rc = model_fetch_resolve(model, s->models_file, &path, err);
    if (rc == 0)
        rc = model_text_open(&t, path, err);
    if (rc == 0)
        rc = s->whole ? tokenize_whole(s, t, err) : tokenize_lines(s, t, err);
    if (rc == 0 && fflush(stdout) != 0)
        rc = err_set(err, ERR_IO, "standard output: %s", strerror(errno));
    tokenizer_free(t);
    free(path);
    return rc;
}

int cli_tokenize(int argc, char **argv)
{
    struct tokenize_settings s = {0};
    struct err err = {0};
    const char *model = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&tokenize_program, &s, argc, argv, &model, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = tokenize_run(&s, model, &err);
        curl_global_cleanup();
    }
    conf_clear(&tokenize_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
