#include "golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float *golden_floats(const char *json_path, const json_t *about, size_t count)
{
    const char *name = json_string_value(json_object_get(about, "file"));
    assert_non_null(name);
    char path[1024];
    const char *slash = strrchr(json_path, '/');
    snprintf(path, sizeof path, "%.*s/%s", (int)(slash - json_path), json_path, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s cannot be opened", path);
    float *values = malloc(count * sizeof *values + 1);
    assert_non_null(values);
    size_t got = fread(values, sizeof *values, count, f);
    if (got != count || fgetc(f) != EOF)
        fail_msg("%s does not hold %zu floats", path, count);
    fclose(f);
    return values;
}

static int golden_dim(const json_t *about, size_t index)
{
    return (int)json_integer_value(json_array_get(json_object_get(about, "shape"), index));
}

static uint32_t *golden_ids(const json_t *array, int *ret_n)
{
    *ret_n = (int)json_array_size(array);
    uint32_t *ids = calloc((size_t)*ret_n + 1, sizeof *ids);
    assert_non_null(ids);
    for (int i = 0; i < *ret_n; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}

struct golden_prompt *golden_read_prompts(const json_t *prompts, int *ret_n)
{
    *ret_n = (int)json_array_size(prompts);
    assert_true(*ret_n > 0);
    struct golden_prompt *to = calloc((size_t)*ret_n, sizeof *to);
    assert_non_null(to);
    for (int i = 0; i < *ret_n; i++) {
        const json_t *from = json_array_get(prompts, (size_t)i);
        const json_t *margins = json_object_get(from, "greedy_margin");
        to[i].ids = golden_ids(json_object_get(from, "ids"), &to[i].n);
        to[i].greedy = golden_ids(json_object_get(from, "greedy"), &to[i].n_greedy);
        to[i].logits_row = (size_t)json_integer_value(json_object_get(from, "logits_row"));
        to[i].margin = calloc((size_t)to[i].n_greedy + 1, sizeof *to[i].margin);
        assert_non_null(to[i].margin);
        assert_int_equal(json_array_size(margins), to[i].n_greedy);
        for (int j = 0; j < to[i].n_greedy; j++)
            to[i].margin[j] = json_number_value(json_array_get(margins, (size_t)j));
    }
    return to;
}

void golden_clear_prompts(struct golden_prompt *prompts, int n)
{
    for (int i = 0; i < n; i++) {
        free(prompts[i].ids);
        free(prompts[i].greedy);
        free(prompts[i].margin);
    }
    free(prompts);
}

void golden_read(struct golden *g, const char *path)
{
    memset(g, 0, sizeof *g);
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    const json_t *logits = json_object_get(root, "logits");
    g->rows = (size_t)golden_dim(logits, 0);
    g->vocabulary = golden_dim(logits, 1);
    g->logits = golden_floats(path, logits, g->rows * (size_t)g->vocabulary);
    g->prompts = golden_read_prompts(json_object_get(root, "prompts"), &g->n_prompts);
    const json_t *hidden = json_object_get(root, "hidden");
    if (hidden) {
        g->hidden_entries = golden_dim(hidden, 0);
        g->hidden_rows = golden_dim(hidden, 1);
        g->hidden_size = golden_dim(hidden, 2);
        g->hidden = golden_floats(path, hidden,
                                  (size_t)g->hidden_entries * (size_t)g->hidden_rows *
                                      (size_t)g->hidden_size);
    }
    json_decref(root);
}

void golden_clear(struct golden *g)
{
    golden_clear_prompts(g->prompts, g->n_prompts);
    free(g->logits);
    free(g->hidden);
    memset(g, 0, sizeof *g);
}

int golden_argmax(const float *row, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (row[i] > row[best])
            best = i;
    return best;
}

static double golden_log_sum(const float *row, int n, double maximum)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(row[i] - maximum);
    return maximum + log(sum);
}

static double golden_kl(const float *want, const float *got, int n)
{
    double want_log = golden_log_sum(want, n, want[golden_argmax(want, n)]);
    double got_log = golden_log_sum(got, n, got[golden_argmax(got, n)]);
    double kl = 0;
    for (int i = 0; i < n; i++) {
        double p = want[i] - want_log;
        kl += exp(p) * (p - (got[i] - got_log));
    }
    return kl;
}

void golden_measure(const struct golden *g, const float *logits, double margin,
                    struct golden_distance *d)
{
    memset(d, 0, sizeof *d);
    d->rows = g->rows;
    int n = g->vocabulary;
    for (size_t r = 0; r < g->rows; r++) {
        const float *want = g->logits + r * (size_t)n;
        const float *got = logits + r * (size_t)n;
        int best = golden_argmax(want, n);
        double lowest = want[best];
        double second = -INFINITY;
        double row_max = 0;
        for (int i = 0; i < n; i++) {
            double difference = fabs((double)want[i] - got[i]);
            row_max = difference <= row_max ? row_max : difference; /* a NaN stays */
            lowest = fmin(lowest, want[i]);
            if (i != best)
                second = fmax(second, want[i]);
        }
        double kl = golden_kl(want, got, n);
        d->max_abs = row_max <= d->max_abs ? d->max_abs : row_max;
        double relative = row_max / (want[best] - lowest);
        d->max_relative = relative <= d->max_relative ? d->max_relative : relative;
        d->mean_kl += kl / (double)g->rows;
        d->max_kl = kl <= d->max_kl ? d->max_kl : kl;
        if (golden_argmax(got, n) == best)
            d->same_argmax++;
        else if (want[best] - second > margin)
            d->wrong_argmax++;
    }
}
