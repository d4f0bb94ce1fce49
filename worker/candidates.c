/* candidates.c - see candidates.h. */
#include "worker/candidates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t candidates_memory(int vocabulary)
{
    return 2 * (size_t)vocabulary * sizeof(struct candidate);
}

bool candidates_init(struct candidates *c, int vocabulary)
{
    *c = (struct candidates){.vocabulary = vocabulary};
    c->list = calloc((size_t)vocabulary, sizeof *c->list);
    c->scratch = calloc((size_t)vocabulary, sizeof *c->scratch);
    if (c->list && c->scratch)
        return true;
    candidates_clear(c);
    return false;
}

void candidates_clear(struct candidates *c)
{
    free(c->list);
    free(c->scratch);
    c->list = c->scratch = NULL;
}

static int level_of(float scaled)
{
    float level = scaled * -8.0f;
    return level < CANDIDATES_LEVELS - 1 ? (int)level : CANDIDATES_LEVELS - 1;
}

static void count_levels(struct candidates *c)
{
    memset(c->counts, 0, sizeof c->counts);
    memset(c->masses, 0, sizeof c->masses);
    for (int i = 0; i < c->vocabulary; i++) {
        int level = level_of(c->scaled[i]);
        c->counts[level]++;
        c->masses[level] += (double)c->weights[i];
    }
}

/* Tokens of levels up to `deepest` that pass min_p, in ascending order. */
static void collect(struct candidates *c, int deepest, float least_weight)
{
    c->n = 0;
    for (int i = 0; i < c->vocabulary; i++) {
        float scaled = c->scaled[i];
        if (level_of(scaled) > deepest || c->weights[i] < least_weight || scaled == -INFINITY)
            continue;
        scaled = fabsf(scaled);
        memcpy(&c->list[c->n].depth, &scaled, sizeof scaled);
        c->list[c->n++].token = (uint32_t)i;
    }
}

/* Stable, by depth: equal ones stay in ascending order of token. */
static void sort_few(struct candidate *list, int n)
{
    for (int i = 1; i < n; i++) {
        struct candidate moved = list[i];
        int at = i;
        for (; at > 0 && list[at - 1].depth > moved.depth; at--)
            list[at] = list[at - 1];
        list[at] = moved;
    }
}

static void sort(struct candidates *c)
{
    if (c->n <= 64) {
        sort_few(c->list, c->n);
        return;
    }
    for (int shift = 0; shift < 32; shift += 8) {
        uint32_t start[257] = {0};
        for (int i = 0; i < c->n; i++)
            start[(c->list[i].depth >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++)
            start[i + 1] += start[i];
        for (int i = 0; i < c->n; i++)
            c->scratch[start[c->list[i].depth >> shift & 255]++] = c->list[i];
        struct candidate *sorted = c->scratch;
        c->scratch = c->list;
        c->list = sorted;
    }
}

static double sum_in_order(const struct candidates *c)
{
    double sum = 0.0;
    for (int i = 0; i < c->n; i++)
        sum += (double)c->weights[c->list[i].token];
    return sum;
}

/* Cuts the list behind the first prefix whose weights reach `enough`. false: there is none. */
static bool cut_at_mass(struct candidates *c, double enough, double *ret_sum)
{
    double sum = 0.0;
    for (int i = 0; i < c->n; i++) {
        sum += (double)c->weights[c->list[i].token];
        if (sum >= enough) {
            c->n = i + 1;
            *ret_sum = sum;
            return true;
        }
    }
    *ret_sum = sum;
    return false;
}

/* top_p alone: looks as deep as the levels' masses suggest, and deeper until it is enough. */
static double select_by_mass(struct candidates *c, double enough)
{
    int deepest = 0;
    double mass = c->masses[0], sum;
    while (mass < enough && deepest < CANDIDATES_LEVELS - 1)
        mass += c->masses[++deepest];
    for (;;) {
        collect(c, deepest, 0.0f);
        sort(c);
        if (cut_at_mass(c, enough, &sum) || deepest == CANDIDATES_LEVELS - 1)
            return sum;
        deepest = deepest + 4 < CANDIDATES_LEVELS ? deepest + 4 : CANDIDATES_LEVELS - 1;
    }
}

double candidates_select(struct candidates *c, const float *scaled, const float *weights,
                         double total, const struct candidates_limits *limits)
{
    c->scaled = scaled;
    c->weights = weights;
    /* The largest has weight 1 and always stays. */
    float least_weight = limits->min_p < 1.0f ? limits->min_p : 1.0f;
    bool top_k = limits->top_k > 0 && limits->top_k < c->vocabulary;
    bool top_p = limits->top_p < 1.0f;
    count_levels(c);
    if (!top_k && !(least_weight > 0.0f))
        return select_by_mass(c, (double)limits->top_p * total);

    int deepest = CANDIDATES_LEVELS - 1;
    if (top_k && !(least_weight > 0.0f)) {
        uint32_t seen = c->counts[0];
        for (deepest = 0; deepest < CANDIDATES_LEVELS - 1 && seen < (uint32_t)limits->top_k;)
            seen += c->counts[++deepest];
    }
    collect(c, deepest, least_weight);
    sort(c);
    if (top_k && c->n > limits->top_k)
        c->n = limits->top_k;
    double sum = sum_in_order(c);
    if (top_p)
        cut_at_mass(c, (double)limits->top_p * sum, &sum);
    return sum;
}
