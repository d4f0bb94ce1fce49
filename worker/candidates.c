/* candidates.c - see candidates.h. */
#include "worker/candidates.h"

#include "kernels/fmath.h"
#include "kernels/softmax.h"

#include <float.h>
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

static float scaled_of(uint32_t depth)
{
    float scaled;
    memcpy(&scaled, &depth, sizeof scaled);
    return -scaled;
}

static uint32_t depth_of(float scaled)
{
    uint32_t depth;
    scaled = fabsf(scaled);
    memcpy(&depth, &scaled, sizeof depth);
    return depth;
}

static void count_levels(struct candidates *c)
{
    memset(c->counts, 0, sizeof c->counts);
    memset(c->masses, 0, sizeof c->masses);
    for (int i = 0; i < c->n; i++) {
        int level = level_of(scaled_of(c->list[i].depth));
        c->counts[level]++;
        c->masses[level] += (double)c->weights[c->list[i].token];
    }
}

/* Tokens from `least` (above -inf) on that pass min_p, in ascending order. Blocks without any are
 * passed over; in the others most tokens fail, at random places, so nothing branches on them. */
static void collect(struct candidates *c, float least, float least_weight)
{
    int n = 0;
    for (int first = 0; first < c->vocabulary; first += SOFTMAX_BLOCK) {
        if (!(c->maxima[first / SOFTMAX_BLOCK] >= least))
            continue;
        int end = c->vocabulary - first < SOFTMAX_BLOCK ? c->vocabulary : first + SOFTMAX_BLOCK;
        for (int i = first; i < end; i++) {
            c->list[n] = (struct candidate){depth_of(c->scaled[i]), (uint32_t)i};
            n += (c->scaled[i] >= least) & (c->weights[i] >= least_weight);
        }
    }
    c->n = n;
}

/* Drops what is deeper than a level, keeping the order. */
static void drop_below(struct candidates *c, int deepest)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        c->list[n] = c->list[i];
        n += level_of(scaled_of(c->list[i].depth)) <= deepest;
    }
    c->n = n;
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

/* Keeps as many levels of the list as have `enough` tokens. */
static void narrow_to_count(struct candidates *c, int enough)
{
    if (c->n <= 2 * enough)
        return;
    count_levels(c);
    int deepest = 0;
    uint32_t seen = c->counts[0];
    while (seen < (uint32_t)enough && deepest < CANDIDATES_LEVELS - 1)
        seen += c->counts[++deepest];
    drop_below(c, deepest);
}

/* Keeps as many levels of the list as seem to have `enough` mass, and one more, since sums in
 * another order differ by roundings. false: the list has not enough. */
static bool narrow_to_mass(struct candidates *c, double enough)
{
    count_levels(c);
    int deepest = 0;
    double mass = c->masses[0];
    while (mass < enough && deepest < CANDIDATES_LEVELS - 1)
        mass += c->masses[++deepest];
    if (mass < enough)
        return false;
    if (deepest + 1 < CANDIDATES_LEVELS)
        drop_below(c, deepest + 1);
    return true;
}

/* top_p alone: looks ever deeper until it is enough. */
static double select_by_mass(struct candidates *c, double enough)
{
    double sum;
    for (float least = -2.0f;; least *= 2.0f) {
        const bool is_all = least < -128.0f;
        collect(c, is_all ? -FLT_MAX : least, 0.0f);
        if (!narrow_to_mass(c, enough) && !is_all)
            continue;
        sort(c);
        if (cut_at_mass(c, enough, &sum))
            return sum;
        if (is_all)
            break;
    }
    /* No prefix has enough: all stay, in order. */
    collect(c, -FLT_MAX, 0.0f);
    sort(c);
    cut_at_mass(c, enough, &sum);
    return sum;
}

/* More tokens than blocks are wanted: looks ever deeper until it finds so many. */
static void collect_many(struct candidates *c, int wanted)
{
    c->n = 0;
    for (float least = -2.0f; c->n < wanted && least >= -128.0f; least *= 2.0f)
        collect(c, least, 0.0f);
    if (c->n < wanted)
        collect(c, -FLT_MAX, 0.0f);
}

/* The k-th largest of the blocks' maxima: at least k tokens are not below it. */
static float largest_maximum(struct candidates *c, const float *maxima, int blocks, int k)
{
    for (int b = 0; b < blocks; b++)
        c->list[b] = (struct candidate){depth_of(maxima[b]), (uint32_t)b};
    c->n = blocks;
    sort(c);
    return scaled_of(c->list[k - 1].depth);
}

float candidates_least(struct candidates *c, const float *maxima,
                       const struct candidates_limits *limits)
{
    int blocks = (c->vocabulary + SOFTMAX_BLOCK - 1) / SOFTMAX_BLOCK;
    float by_count = -INFINITY, by_weight = -INFINITY;
    if (limits->top_k > 0 && limits->top_k <= blocks)
        by_count = largest_maximum(c, maxima, blocks, limits->top_k);
    /* exp is accurate, but nothing says that it never falls: a margin of many ulp. */
    if (limits->min_p > 0.0f)
        by_weight = (float)fmath_log((double)fminf(limits->min_p, 1.0f)) - 0.001f;
    /* Where min_p may refuse some of the k, later ones may follow. */
    return by_count > by_weight + 0.002f ? by_count : by_weight;
}

double candidates_select(struct candidates *c, const float *scaled, const float *weights,
                         const float *maxima, float least, double total,
                         const struct candidates_limits *limits)
{
    c->scaled = scaled;
    c->weights = weights;
    c->maxima = maxima;
    /* The largest has weight 1 and always stays. */
    float least_weight = limits->min_p < 1.0f ? limits->min_p : 1.0f;
    bool top_k = limits->top_k > 0 && limits->top_k < c->vocabulary;
    bool top_p = limits->top_p < 1.0f;
    if (!top_k && !(least_weight > 0.0f))
        return select_by_mass(c, (double)limits->top_p * total);

    if (least > -INFINITY)
        collect(c, least, least_weight);
    else
        collect_many(c, limits->top_k);
    if (top_k)
        narrow_to_count(c, limits->top_k);
    sort(c);
    if (top_k && c->n > limits->top_k)
        c->n = limits->top_k;
    double sum = sum_in_order(c);
    if (top_p)
        cut_at_mass(c, (double)limits->top_p * sum, &sum);
    return sum;
}
