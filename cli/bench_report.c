#include "cli/bench_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int report_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* To three decimals; no clock tells more. */
static double report_round(double value)
{
    return round(value * 1000) / 1000;
}

/* {"median", "min", "max", "runs": [in the order measured]} */
static json_t *report_summary(const double *rates, int64_t n)
{
    double sorted[BENCH_RUNS_MAX];
    memcpy(sorted, rates, (size_t)n * sizeof *rates);
    qsort(sorted, (size_t)n, sizeof *sorted, report_compare);
    double median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    json_t *runs = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(runs, json_real(report_round(rates[i])));
    return json_pack("{s:f,s:f,s:f,s:o}", "median", report_round(median), "min",
                     report_round(sorted[0]), "max", report_round(sorted[n - 1]), "runs", runs);
}

static json_t *report_cases(const struct bench_plan *p)
{
    json_t *list = json_array();
    for (int i = 0; i < p->n_cases; i++) {
        const struct bench_case *c = &p->cases[i];
        json_array_append_new(
            list, json_pack("{s:s,s:I,s:I,s:I,s:o}", "what", c->is_prefill ? "prefill" : "decode",
                            "tokens", (json_int_t)c->tokens, "depth", (json_int_t)c->depth,
                            "streams", (json_int_t)c->streams, "tokens_per_second",
                            report_summary(c->rates, p->runs)));
    }
    return list;
}

/* What the workers report under a key, each value once: "avx512" or "avx2,avx512". */
static void report_join(const json_t *workers, const char *key, char *ret_text, size_t size)
{
    size_t i, used = 0;
    json_t *worker;
    ret_text[0] = '\0';
    json_array_foreach(workers, i, worker)
    {
        const char *value = json_string_value(json_object_get(worker, key));
        if (value && !strstr(ret_text, value) && used + strlen(value) + 2 < size)
            used += (size_t)snprintf(ret_text + used, size - used, "%s%s", used ? "," : "", value);
    }
}

static void report_print_worker(const json_t *worker)
{
    const char *name = json_string_value(json_object_get(worker, "name"));
    const char *kernels = json_string_value(json_object_get(worker, "kernels"));
    const json_t *layers = json_object_get(worker, "layers"); /* [first, end) */
    printf("%s: layers %lld to %lld, kernels ", name ? name : "worker",
           (long long)json_integer_value(json_array_get(layers, 0)),
           (long long)json_integer_value(json_array_get(layers, 1)) - 1);
    for (const char *p = kernels ? kernels : "unknown"; *p; p++)
        if (*p != '\n' || p[1]) /* one "kernel=isa" a line */
            putchar(*p == '\n' ? ' ' : *p);
    putchar('\n');
}

static void report_print_case(const struct bench_case *c, const json_t *rates, int64_t runs)
{
    char where[64] = "";
    if (c->streams > 1)
        snprintf(where, sizeof where, " of each of %" PRId64, c->streams);
    else if (c->depth)
        snprintf(where, sizeof where, " at %" PRId64, c->depth);
    printf("%-8s %5" PRId64 " tokens%-14s %9.2f tokens/s  (%.2f to %.2f in %" PRId64 " runs)\n",
           c->is_prefill ? "prefill" : "decode", c->tokens, where,
           json_real_value(json_object_get(rates, "median")),
           json_real_value(json_object_get(rates, "min")),
           json_real_value(json_object_get(rates, "max")), runs);
}

static void report_print_text(const struct bench_plan *p, const json_t *report)
{
    const int workers = (int)json_integer_value(json_object_get(report, "workers"));
    const int threads = (int)json_integer_value(json_object_get(report, "threads"));
    printf("%s, %d worker%s of %d thread%s, %s, first token after %.2f s\n",
           json_string_value(json_object_get(report, "model")), workers, workers == 1 ? "" : "s",
           threads, threads == 1 ? "" : "s", json_string_value(json_object_get(report, "isa")),
           p->load_seconds);
    const json_t *cases = json_object_get(report, "measurements");
    for (int i = 0; i < p->n_cases; i++)
        report_print_case(&p->cases[i],
                          json_object_get(json_array_get(cases, (size_t)i), "tokens_per_second"),
                          p->runs);
    size_t i;
    json_t *worker;
    json_array_foreach(json_object_get(report, "stages"), i, worker) report_print_worker(worker);
}

int bench_report_print(const struct bench_plan *p, const struct local_cluster *cluster,
                       const char *model, bool is_json, struct err *err)
{
    json_t *state = NULL;
    int rc = http_client_get(local_cluster_client(cluster), "/cluster", 0, &state, err);
    if (rc < 0)
        return rc;
    json_t *workers = json_object_get(state, "workers");
    const char *slash = strrchr(model, '/');
    char isa[128];
    report_join(workers, "isa", isa, sizeof isa);
    json_t *report =
        json_pack("{s:s,s:i,s:i,s:s,s:f,s:o,s:O?}", "model", slash ? slash + 1 : model, "workers",
                  local_cluster_workers(cluster), "threads", local_cluster_threads(cluster), "isa",
                  isa, "load_seconds", report_round(p->load_seconds), "measurements",
                  report_cases(p), "stages", workers);
    if (!report)
        rc = err_set(err, ERR_MEMORY, "no memory for the report");
    else if (!is_json)
        report_print_text(p, report);
    else if (json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) < 0)
        rc = err_set(err, ERR_IO, "the report could not be written");
    else
        putchar('\n');
    json_decref(report);
    json_decref(state);
    return rc;
}
