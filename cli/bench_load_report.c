#include "cli/bench_load_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static double report_round(double value)
{
    return round(value * 1000) / 1000;
}

static double report_rate(int64_t count, double seconds)
{
    return seconds > 0 ? report_round((double)count / seconds) : 0;
}

static json_t *report_summary(const struct bench_summary *s)
{
    if (!s->n) /* 0 would be a measured time */
        return json_pack("{s:i,s:n,s:n,s:n,s:n,s:n,s:n}", "count", 0, "mean", "min", "p50", "p95",
                         "p99", "max");
    return json_pack("{s:I,s:f,s:f,s:f,s:f,s:f,s:f}", "count", (json_int_t)s->n, "mean",
                     report_round(s->mean), "min", report_round(s->min), "p50",
                     report_round(s->p50), "p95", report_round(s->p95), "p99", report_round(s->p99),
                     "max", report_round(s->max));
}

static json_t *report_workload(const struct bench_load_plan *p)
{
    const struct bench_workload *w = &p->work;
    return json_pack("{s:s,s:s,s:I,s:I,s:f,s:[I,I],s:[I,I],s:I,s:I,s:I}", "loop",
                     w->rate > 0 ? "open" : "closed", "prompts",
                     p->is_chat   ? "chat"
                     : w->is_text ? "text"
                                  : "ids",
                     "clients", (json_int_t)p->clients, "requests", (json_int_t)p->requests,
                     "arrivals_per_second", w->rate, "input_len", (json_int_t)w->input.min,
                     (json_int_t)w->input.max, "output_len", (json_int_t)w->output.min,
                     (json_int_t)w->output.max, "shared_prefix", (json_int_t)w->shared_prefix,
                     "prefixes", (json_int_t)w->prefixes, "seed", (json_int_t)w->seed);
}

static int report_json(const struct bench_load_plan *p, const struct bench_load_result *r,
                       const struct bench_summary *ms, struct err *err)
{
    json_t *report = json_pack(
        "{s:o,s:b,s:f,s:I,s:I,s:I,s:O,s:s?,s:I,s:o,s:I,s:f,s:f,s:f,s:o,s:o,s:o}", "workload",
        report_workload(p), "interrupted", (int)r->interrupted, "duration_seconds",
        report_round(r->seconds), "completed", (json_int_t)r->completed, "failed",
        (json_int_t)r->failed, "unfinished", (json_int_t)r->unfinished, "failures", r->failures,
        "first_error", *r->first_error ? r->first_error : NULL, "prompt_tokens",
        (json_int_t)r->prompt_tokens, "cached_prompt_tokens",
        r->cached_tokens < 0 ? json_null() : json_integer((json_int_t)r->cached_tokens),
        "output_tokens", (json_int_t)r->output_tokens, "output_tokens_per_second",
        report_rate(r->output_tokens, r->seconds), "total_tokens_per_second",
        report_rate(r->output_tokens + r->prompt_tokens, r->seconds), "requests_per_second",
        report_rate(r->completed, r->seconds), "time_to_first_token_ms", report_summary(&ms[0]),
        "inter_token_latency_ms", report_summary(&ms[1]), "end_to_end_latency_ms",
        report_summary(&ms[2]));
    int rc = 0;
    if (!report)
        rc = err_set(err, ERR_MEMORY, "no memory for the report");
    else if (json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) < 0)
        rc = err_set(err, ERR_IO, "the report could not be written");
    else
        putchar('\n');
    json_decref(report);
    return rc;
}

static void report_text(const struct bench_load_plan *p, const struct bench_load_result *r,
                        const struct bench_summary *ms)
{
    static const char *const names[] = {"time to first token", "inter-token latency",
                                        "end-to-end latency"};
    const int64_t total = r->prompt_tokens + r->output_tokens;
    if (r->interrupted)
        printf("interrupted: %" PRId64 " of %" PRId64 " requests had ended, %" PRId64
               " were under way\n",
               r->completed + r->failed, p->requests, r->unfinished);
    printf("%" PRId64 " requests completed, %" PRId64 " failed, in %.2f s\n", r->completed,
           r->failed, r->seconds);
    const char *kind;
    json_t *count;
    json_object_foreach(r->failures, kind, count)
        printf("  %s: %lld\n", kind, (long long)json_integer_value(count));
    if (*r->first_error)
        printf("  the first: %s\n", r->first_error);
    printf("tokens: %" PRId64 " of prompts", r->prompt_tokens);
    if (r->cached_tokens >= 0)
        printf(" (%" PRId64 " cached)", r->cached_tokens);
    printf(", %" PRId64 " of answers\n", r->output_tokens);
    printf("prompts, lengths and arrivals are those of --seed %" PRIu64 "\n", p->work.seed);
    printf("%.2f output tokens/s, %.2f total tokens/s, %.3f requests/s\n",
           report_rate(r->output_tokens, r->seconds), report_rate(total, r->seconds),
           report_rate(r->completed, r->seconds));
    printf("%-22s %10s %10s %10s %10s\n", "milliseconds", "mean", "p50", "p95", "p99");
    for (int i = 0; i < 3; i++)
        if (!ms[i].n)
            printf("%-22s %10s %10s %10s %10s\n", names[i], "-", "-", "-", "-");
        else
            printf("%-22s %10.2f %10.2f %10.2f %10.2f\n", names[i], ms[i].mean, ms[i].p50,
                   ms[i].p95, ms[i].p99);
}

int bench_load_report_print(const struct bench_load_plan *p, struct bench_load_result *r,
                            bool is_json, struct err *err)
{
    const struct bench_summary ms[] = {bench_samples_summary(&r->first_ms),
                                       bench_samples_summary(&r->gap_ms),
                                       bench_samples_summary(&r->whole_ms)};
    if (is_json)
        return report_json(p, r, ms, err);
    report_text(p, r, ms);
    return 0;
}
