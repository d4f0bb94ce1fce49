#include "cli/cli.h"

#include "cli/plan_machines.h"
#include "cli/plan_print.h"
#include "cli/verb.h"
#include "model/known_models.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { CONTEXT_MAX = 1 << 20 };

struct plan_settings {
    char *workers_file, *quant;
    int objective; /* enum planner_objective */
    int64_t context, concurrency;
    bool json;
};

#define FIELD(name) offsetof(struct plan_settings, name)

static const struct conf_option plan_options[] = {
    {.name = "workers-file",
     .type = CONF_STRING,
     .offset = FIELD(workers_file),
     .value = "FILE",
     .help =
         "machines, those that do not exist yet among them (deploy/what-if.cfg shows the form); "
         "default: this one, measured"},
    {.name = "objective",
     .type = CONF_CHOICE,
     .offset = FIELD(objective),
     .value = "balanced|latency|throughput",
     .initial = "balanced",
     .choices = planner_objectives,
     .help = "latency: one user; throughput: many; balanced: the most throughput with at most a "
             "tenth more latency than the least"},
    {.name = "context",
     .letter = 'c',
     .type = CONF_INT,
     .offset = FIELD(context),
     .value = "N",
     .min = 0,
     .max = CONTEXT_MAX,
     .help = "tokens of one conversation (default 0: 4096, or the model's if less)"},
    {.name = "concurrency",
     .type = CONF_INT,
     .offset = FIELD(concurrency),
     .value = "C",
     .initial = "4",
     .min = 1,
     .max = PLAN_CONCURRENCY,
     .help = "conversations at once, each with memory for its whole context"},
    {.name = "quant",
     .letter = 'q',
     .type = CONF_STRING,
     .offset = FIELD(quant),
     .value = "MIX",
     .initial = "Q4_K_M",
     .help = "quantization of a model that is named; a file has its own"},
    {.name = "json",
     .type = CONF_FLAG,
     .offset = FIELD(json),
     .help = "print a JSON object",
     .command_line_only = true},
};

static const struct conf_program plan_program = {
    .name = "paceline plan",
    .synopsis = "[OPTION...] MODEL",
    .summary = "Tells what machines would do with a model before anything is bought or loaded: who "
               "gets which layers,\nmemory, tokens per second, the bottleneck and what would help.",
    .epilogue =
        "MODEL is a GGUF file or a name, such as qwen2.5-7b or qwen1.5-110b.\n"
        "Example:\n"
        "  paceline plan qwen1.5-110b --workers-file deploy/what-if.cfg --objective latency",
    .file = VERB_CONFIG_FILE,
    .group = "plan",
    .groups = verb_groups,
    .options = plan_options,
    .n_options = sizeof plan_options / sizeof *plan_options,
    .min_positionals = 1,
    .max_positionals = 1,
};

static bool plan_is_file(const char *model)
{
    size_t n = strlen(model);
    return !known_model_exists(model) &&
           (strchr(model, '/') || (n > 5 && strcmp(model + n - 5, ".gguf") == 0) ||
            access(model, R_OK) == 0);
}

static int plan_read_file(struct model_shape *ret_shape, const char *path, struct err *err)
{
    struct weight_file *f = NULL;
    struct model_config c;
    int rc = weight_file_open(&f, path, err);
    if (rc == 0)
        rc = model_config_read(&c, f, err);
    if (rc == 0)
        rc = model_shape_of_file(ret_shape, &c, f, err);
    weight_file_close(f);
    return rc;
}

/* Columns of the terminal; for a pipe 80. */
static int plan_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return columns && atoi(columns) > 0 ? atoi(columns) : 80;
}

static int plan_print_json(const struct plan_report *r, struct err *err)
{
    json_t *report = plan_report_json(r);
    int rc = report ? json_dumpf(report, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : -1;
    json_decref(report);
    putchar('\n');
    return rc == 0 ? 0 : err_set(err, ERR_MEMORY, "no memory for the plan as JSON");
}

static int plan_ask(struct plan_question *q, const struct plan_settings *s,
                    const struct model_shape *shape, const char *model, struct err *err)
{
    int trained = shape->config.context_length;
    if (s->context > trained)
        return err_set(err, ERR_USAGE, "a context of %lld was asked for, %s was trained for %d",
                       (long long)s->context, model, trained);
    q->shape = shape;
    q->objective = (enum planner_objective)s->objective;
    q->concurrency = (int)s->concurrency;
    q->context = s->context ? (int)s->context : plan_question_context(shape);
    return s->workers_file ? plan_machines_read(&q->machines, s->workers_file, err)
                           : plan_machines_measure(&q->machines, model, s->quant, err);
}

static int plan_run(const struct plan_settings *s, const char *model, struct err *err)
{
    bool is_file = plan_is_file(model);
    struct model_shape shape = {.types = NULL};
    struct plan_report *r = calloc(1, sizeof *r);
    int rc = r ? 0 : err_set(err, ERR_MEMORY, "no memory to plan");
    if (rc == 0)
        rc = is_file ? plan_read_file(&shape, model, err)
                     : model_shape_of_name(&shape, model, s->quant, err);
    if (rc == 0) {
        r->model = model;
        r->mix = is_file ? "file" : s->quant;
        r->is_file = is_file;
        rc = plan_ask(&r->question, s, &shape, model, err);
    }
    if (rc == 0)
        rc = plan_report_fill(r, err);
    if (rc == 0 && s->json)
        rc = plan_print_json(r, err);
    else if (rc == 0)
        plan_print(r, plan_width(), strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
    model_shape_clear(&shape);
    free(r);
    return rc;
}

int cli_plan(int argc, char **argv)
{
    struct plan_settings s = {0};
    const char *model = NULL;
    struct err err = {0};
    enum conf_outcome outcome;
    int n;
    setlocale(LC_CTYPE, "");
    int rc = conf_read(&plan_program, &s, argc, argv, &model, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN)
        rc = plan_run(&s, model, &err);
    conf_clear(&plan_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
