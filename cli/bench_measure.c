#include "cli/bench_measure.h"

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { WARM_UP_TOKENS = 16 };

/* ---- the list of cases ---- */

static int plan_add(struct bench_plan *p, struct bench_case c, struct err *err)
{
    if (p->n_cases == BENCH_CASES_MAX)
        return err_set(err, ERR_USAGE, "more than %d cases to measure", BENCH_CASES_MAX);
    if (c.tokens + c.depth > BENCH_TOKENS_MAX)
        return err_set(err, ERR_USAGE, "%" PRId64 " tokens are more than a context can hold, %d",
                       c.tokens + c.depth, BENCH_TOKENS_MAX);
    p->cases[p->n_cases++] = c;
    return 0;
}

/* Numbers with commas between them, each within min..max; ret_list holds BENCH_CASES_MAX. */
static int list_read(const char *text, int64_t min, int64_t max, int64_t *ret_list, int *ret_count,
                     struct err *err)
{
    const char *p = text;
    int n = 0;
    for (;; p++) {
        char *end;
        errno = 0;
        const long long number = strtoll(p, &end, 10);
        if (end == p || !isdigit((unsigned char)*p) || errno || number < min || number > max ||
            (*end && *end != ','))
            return err_set(err, ERR_USAGE,
                           "\"%.80s\" is not a list of numbers from %" PRId64 " to %" PRId64
                           " with commas between them",
                           text, min, max);
        if (n == BENCH_CASES_MAX)
            return err_set(err, ERR_USAGE, "the list has more than %d numbers", BENCH_CASES_MAX);
        ret_list[n++] = number;
        p = end;
        if (!*p)
            break;
    }
    *ret_count = n;
    return 0;
}

int bench_plan_check_tokens(const char *text, struct err *err)
{
    int64_t list[BENCH_CASES_MAX];
    int n;
    return list_read(text, 0, BENCH_TOKENS_MAX, list, &n, err);
}

int bench_plan_check_streams(const char *text, struct err *err)
{
    int64_t list[BENCH_CASES_MAX];
    int n;
    return list_read(text, 1, BENCH_STREAMS_MAX, list, &n, err);
}

int bench_plan_init(struct bench_plan *p, const char *prompts, const char *depths,
                    const char *streams, int64_t generate, int64_t runs, struct err *err)
{
    int64_t list[3][BENCH_CASES_MAX];
    int count[3] = {0};
    *p = (struct bench_plan){.runs = runs};
    p->cases = calloc(BENCH_CASES_MAX, sizeof *p->cases);
    int rc = p->cases ? 0 : err_set(err, ERR_MEMORY, "no memory for a measurement");
    if (rc == 0)
        rc = list_read(prompts, 0, BENCH_TOKENS_MAX, list[0], &count[0], err);
    if (rc == 0)
        rc = list_read(depths, 0, BENCH_TOKENS_MAX, list[1], &count[1], err);
    if (rc == 0)
        rc = list_read(streams, 1, BENCH_STREAMS_MAX, list[2], &count[2], err);
    for (int i = 0; rc == 0 && i < count[0]; i++)
        if (list[0][i])
            rc = plan_add(p, (struct bench_case){true, list[0][i], 0, 1, {0}}, err);
    for (int i = 0; rc == 0 && i < count[2]; i++) {
        if (list[2][i] > 1)
            rc = plan_add(p, (struct bench_case){false, generate, 0, list[2][i], {0}}, err);
        for (int j = 0; rc == 0 && list[2][i] == 1 && j < count[1]; j++)
            rc = plan_add(p, (struct bench_case){false, generate, list[1][j], 1, {0}}, err);
    }
    if (rc < 0)
        bench_plan_clear(p);
    return rc;
}

void bench_plan_clear(struct bench_plan *p)
{
    free(p->cases);
    *p = (struct bench_plan){0};
}

/* A prompt and one token, or the tokens before the clock, one more and those that are counted. */
int64_t bench_plan_context(const struct bench_plan *p)
{
    int64_t most = 2 * WARM_UP_TOKENS;
    for (int i = 0; i < p->n_cases; i++) {
        const struct bench_case *c = &p->cases[i];
        const int64_t context = c->tokens + (c->is_prefill ? 1 : c->depth + 2);
        most = context > most ? context : most;
    }
    return most;
}

int64_t bench_plan_concurrency(const struct bench_plan *p)
{
    int64_t most = 1;
    for (int i = 0; i < p->n_cases; i++)
        most = p->cases[i].streams > most ? p->cases[i].streams : most;
    return most;
}

/* ---- measuring ---- */

struct bench_meter {
    struct local_cluster *cluster;
    uint64_t vocabulary, random;
};

static json_t *meter_prompt(struct bench_meter *m, int64_t tokens)
{
    json_t *ids = json_array();
    for (int64_t i = 0; i < tokens; i++) {
        m->random = m->random * 6364136223846793005u + 1442695040888963407u;
        json_array_append_new(ids, json_integer((json_int_t)((m->random >> 33) % m->vocabulary)));
    }
    return ids;
}

/* One call with `streams` prompts of random tokens; *ret_seconds is the field of its timings. */
static int meter_complete(struct bench_meter *m, int64_t prompt, int64_t generate, int64_t streams,
                          const char *field, double *ret_seconds, struct err *err)
{
    json_t *prompts = json_array(), *answer = NULL;
    for (int64_t i = 0; i < streams; i++)
        json_array_append_new(prompts, meter_prompt(m, prompt));
    json_t *request =
        json_pack("{s:o,s:I,s:b,s:f,s:b}", "prompt", prompts, "max_tokens", (json_int_t)generate,
                  "ignore_eos", 1, "temperature", 0.0, "cache_prompt", 0);
    if (!request)
        return err_set(err, ERR_MEMORY, "no memory for a prompt of %" PRId64 " tokens", prompt);
    int rc = http_client_post(local_cluster_client(m->cluster), "/v1/completions", request, &answer,
                              err);
    const json_t *ms = json_object_get(json_object_get(answer, "timings"), field);
    if (rc == 0 && (!json_is_number(ms) || !(json_number_value(ms) > 0)))
        rc = err_set(err, ERR_NETWORK, "the answer has no timings.%s", field);
    if (rc == 0)
        *ret_seconds = json_number_value(ms) / 1000;
    json_decref(answer);
    json_decref(request);
    return rc;
}

static int meter_measure(struct bench_meter *m, const struct bench_case *c, double *ret_rate,
                         struct err *err)
{
    double seconds = 1;
    /* The first token comes from the prompt; n more are n decode steps. The streams' prompts have
     * one token each, so that their first tokens come out of one step and the clock has one start.
     */
    int rc = c->is_prefill ? meter_complete(m, c->tokens, 1, 1, "prompt_ms", &seconds, err)
                           : meter_complete(m, c->depth ? c->depth : 1, c->tokens + 1, c->streams,
                                            "predicted_ms", &seconds, err);
    *ret_rate = (double)(c->tokens * c->streams) / seconds;
    return rc;
}

static void meter_say(struct bench_meter *m, const struct bench_case *c, int64_t run, int64_t runs)
{
    if (c->is_prefill)
        local_cluster_say(m->cluster, "prefill of %" PRId64 " tokens, run %" PRId64 " of %" PRId64,
                          c->tokens, run, runs);
    else
        local_cluster_say(m->cluster,
                          "decode of %" PRId64 " tokens at %" PRId64 ", streams: %" PRId64
                          ", run %" PRId64 " of %" PRId64,
                          c->tokens, c->depth, c->streams, run, runs);
}

int bench_plan_measure(struct bench_plan *p, struct local_cluster *cluster, int64_t start_us,
                       struct err *err)
{
    struct bench_meter m = {cluster, (uint64_t)p->vocabulary, 1};
    double ignored;
    local_cluster_say(cluster, "warming up");
    int rc = meter_complete(&m, 1, 1, 1, "prompt_ms", &ignored, err);
    p->load_seconds = (double)(clock_now_us() - start_us) * 1e-6;
    if (rc == 0)
        rc = meter_complete(&m, WARM_UP_TOKENS, 4, 1, "predicted_ms", &ignored, err);
    for (int64_t run = 0; run < p->runs; run++)
        for (int i = 0; i < p->n_cases && rc == 0; i++) {
            meter_say(&m, &p->cases[i], run + 1, p->runs);
            rc = meter_measure(&m, &p->cases[i], &p->cases[i].rates[run], err);
        }
    local_cluster_say(cluster, "%s", "");
    return rc;
}
