/* sampler.c - see sampler.h. */
#include "worker/sampler.h"

#include "kernels/fmath.h"
#include "kernels/philox.h"
#include "kernels/softmax.h"
#include "proto/token_mask.h"
#include "worker/candidates.h"
#include "worker/token_counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* From so many logits on, their exponentials are worth waking the threads. */
#define PARALLEL_VOCABULARY 32768

/* How the last token was chosen. */
enum choice_kind { CHOICE_GREEDY, CHOICE_WHOLE, CHOICE_CANDIDATES };

struct sampler {
    const struct kernels *k;
    int vocabulary;
    uint32_t max_sequences;
    struct token_counts *counts; /* [max_sequences] */
    float *masked;               /* [vocabulary]: logits of a row with a mask */
    float *scaled, *weights;     /* [vocabulary], valid in blocks that were weighed */
    /* Of blocks of SOFTMAX_BLOCK ids: sums of weights; maxima of the raw logits, and of the scaled
     * ones, by which most blocks are passed over without a look at their elements. */
    float *block_sums, *raw_maxima, *maxima;
    bool *is_touched_block;
    double *adjusted;  /* [vocabulary], valid where touched */
    bool *is_touched;  /* [vocabulary] */
    uint32_t *touched; /* [vocabulary], the first n_touched */
    int n_touched;
    struct candidates candidates;
    enum choice_kind last;
    uint32_t last_token;
    double last_sum; /* of the weights that could be chosen */
};

static int block_count(int vocabulary)
{
    return (vocabulary + SOFTMAX_BLOCK - 1) / SOFTMAX_BLOCK;
}

/* No sequence has more different tokens than positions, nor than the vocabulary. */
static uint32_t most_tokens(int vocabulary, uint32_t max_context)
{
    return max_context < (uint32_t)vocabulary ? max_context : (uint32_t)vocabulary;
}

size_t sampler_memory(int vocabulary, uint32_t max_sequences, uint32_t max_context)
{
    size_t of_token = 3 * sizeof(float) + sizeof(double) + sizeof(bool) + sizeof(uint32_t);
    size_t of_sequence =
        sizeof(struct token_counts) + token_counts_memory(most_tokens(vocabulary, max_context));
    return sizeof(struct sampler) + (size_t)vocabulary * of_token +
           (size_t)block_count(vocabulary) * (3 * sizeof(float) + sizeof(bool)) +
           candidates_memory(vocabulary) + max_sequences * of_sequence;
}

static bool sampler_claim(struct sampler *s, uint32_t max_context)
{
    size_t n = (size_t)s->vocabulary, blocks = (size_t)block_count(s->vocabulary);
    s->counts = calloc(s->max_sequences ? s->max_sequences : 1, sizeof *s->counts);
    s->masked = calloc(n, sizeof *s->masked);
    s->scaled = calloc(n, sizeof *s->scaled);
    s->weights = calloc(n, sizeof *s->weights);
    s->block_sums = calloc(blocks, sizeof *s->block_sums);
    s->raw_maxima = calloc(blocks, sizeof *s->raw_maxima);
    s->maxima = calloc(blocks, sizeof *s->maxima);
    s->is_touched_block = calloc(blocks, sizeof *s->is_touched_block);
    s->adjusted = calloc(n, sizeof *s->adjusted);
    s->is_touched = calloc(n, sizeof *s->is_touched);
    s->touched = calloc(n, sizeof *s->touched);
    bool ok = s->counts && s->masked && s->scaled && s->weights && s->block_sums && s->raw_maxima &&
              s->maxima && s->is_touched_block && s->adjusted && s->is_touched && s->touched &&
              candidates_init(&s->candidates, s->vocabulary);
    for (uint32_t i = 0; ok && i < s->max_sequences; i++)
        ok = token_counts_init(&s->counts[i], most_tokens(s->vocabulary, max_context));
    return ok;
}

int sampler_new(struct sampler **ret_sampler, const struct kernels *k, int vocabulary,
                uint32_t max_sequences, uint32_t max_context, struct err *err)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->k = k;
        s->vocabulary = vocabulary;
        s->max_sequences = max_sequences;
    }
    if (!s || !sampler_claim(s, max_context)) {
        sampler_free(s);
        return err_set(err, ERR_MEMORY,
                       "no memory for the sampler: %zu bytes for a vocabulary of %d and %u "
                       "sequences of %u tokens",
                       sampler_memory(vocabulary, max_sequences, max_context), vocabulary,
                       max_sequences, max_context);
    }
    *ret_sampler = s;
    return 0;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->counts && i < s->max_sequences; i++)
        token_counts_clear(&s->counts[i]);
    candidates_clear(&s->candidates);
    free(s->counts);
    free(s->masked);
    free(s->scaled);
    free(s->weights);
    free(s->block_sums);
    free(s->raw_maxima);
    free(s->maxima);
    free(s->is_touched_block);
    free(s->adjusted);
    free(s->is_touched);
    free(s->touched);
    free(s);
}

/* ---- blocks of the vocabulary ---- */

/* How many ids block b has: all, but the last may be shorter. */
static size_t block_length(const struct sampler *s, int b)
{
    int n = s->vocabulary - b * SOFTMAX_BLOCK;
    return (size_t)(n < SOFTMAX_BLOCK ? n : SOFTMAX_BLOCK);
}

static double block_sums_fold(const struct sampler *s)
{
    double sum = 0.0;
    for (int b = 0; b < block_count(s->vocabulary); b++)
        sum += (double)s->block_sums[b];
    return sum;
}

/* ---- log-probabilities of the raw logits ---- */

struct raw {
    float maximum;
    int argmax;
    double log_sum; /* of exp(logit - maximum) */
};

/* Maxima of the blocks and of all, in one reading. false: there is a NaN. */
static bool raw_maximum(struct sampler *s, const float *logits, struct raw *raw)
{
    for (int b = 0; b < block_count(s->vocabulary); b++) {
        const int first = b * SOFTMAX_BLOCK;
        size_t index;
        if (!s->k->vec.maximum(logits + first, block_length(s, b), &s->raw_maxima[b], &index))
            return false;
        if (b == 0 || s->raw_maxima[b] > raw->maximum) {
            raw->maximum = s->raw_maxima[b];
            raw->argmax = first + (int)index;
        }
    }
    return true;
}

static void raw_log_sum(struct sampler *s, const float *logits, struct raw *raw)
{
#pragma omp parallel for schedule(dynamic, 32) if (s->vocabulary >= PARALLEL_VOCABULARY)
    for (int b = 0; b < block_count(s->vocabulary); b++)
        s->block_sums[b] =
            s->k->vec.exp_sum(NULL, logits + b * SOFTMAX_BLOCK, raw->maximum, block_length(s, b));
    raw->log_sum = fmath_log(block_sums_fold(s));
}

static float raw_logprob(const struct raw *raw, float logit)
{
    return (float)(((double)logit - (double)raw->maximum) - raw->log_sum);
}

/* The n largest raw logits, ties to the lower id. */
static void top_logprobs(const struct sampler *s, const float *logits, const struct raw *raw,
                         uint32_t n, struct batch_result *result)
{
    struct batch_token_logprob *top = result->top;
    n = n < BATCH_TOP_LOGPROBS ? n : BATCH_TOP_LOGPROBS;
    n = n < (uint32_t)s->vocabulary ? n : (uint32_t)s->vocabulary;
    if (n == 0)
        return;
    for (int i = 0; i < s->vocabulary; i++) {
        if (i % SOFTMAX_BLOCK == 0 && result->n_top == n &&
            !(s->raw_maxima[i / SOFTMAX_BLOCK] > top[n - 1].logprob)) {
            i += SOFTMAX_BLOCK - 1; /* none of the block is larger */
            continue;
        }
        if (result->n_top == n && !(logits[i] > top[n - 1].logprob))
            continue;
        uint32_t at = result->n_top < n ? result->n_top++ : n - 1;
        for (; at > 0 && logits[i] > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (struct batch_token_logprob){(uint32_t)i, logits[i]};
    }
    for (uint32_t i = 0; i < n; i++)
        top[i].logprob = raw_logprob(raw, top[i].logprob);
}

/* ---- bias, penalties, forbidden tokens ---- */

/* The token's logit so far, to be changed; NULL when there is no such token. */
static double *touch(struct sampler *s, const float *logits, uint32_t token)
{
    if (token >= (uint32_t)s->vocabulary)
        return NULL;
    if (!s->is_touched[token]) {
        s->is_touched[token] = true;
        s->is_touched_block[token / SOFTMAX_BLOCK] = true;
        s->touched[s->n_touched++] = token;
        s->adjusted[token] = (double)logits[token];
    }
    return &s->adjusted[token];
}

static void penalise(double *logit, const struct batch_sampling *p, const struct token_count *c)
{
    double repetition = p->repetition_penalty > 0.0f ? (double)p->repetition_penalty : 1.0;
    if (c->generated > 0 || c->in_prompt)
        *logit = *logit > 0.0 ? *logit / repetition : *logit * repetition;
    if (c->generated > 0) {
        *logit -= (double)p->frequency_penalty * c->generated;
        *logit -= (double)p->presence_penalty;
    }
}

static bool has_penalties(const struct batch_sampling *p)
{
    return (p->repetition_penalty > 0.0f && p->repetition_penalty != 1.0f) ||
           p->frequency_penalty != 0.0f || p->presence_penalty != 0.0f;
}

static void adjust(struct sampler *s, const struct batch_output *o, const float *logits)
{
    const struct batch_sampling *p = &o->sampling;
    double *logit;
    for (uint32_t i = 0; i < p->n_bias; i++)
        if ((logit = touch(s, logits, p->bias[i].token)))
            *logit += (double)p->bias[i].bias;
    if (has_penalties(p) && o->sequence < s->max_sequences) {
        const struct token_counts *counts = &s->counts[o->sequence];
        for (uint32_t i = 0; i < counts->n; i++)
            if ((logit = touch(s, logits, counts->entries[i].token)))
                penalise(logit, p, &counts->entries[i]);
    }
    for (uint32_t i = 0; i < p->n_forbidden; i++)
        if ((logit = touch(s, logits, p->forbidden[i])))
            *logit = -INFINITY;
}

static void forget_touched(struct sampler *s)
{
    for (int i = 0; i < s->n_touched; i++) {
        s->is_touched[s->touched[i]] = false;
        s->is_touched_block[s->touched[i] / SOFTMAX_BLOCK] = false;
    }
    s->n_touched = 0;
}

/* The largest of a block's untouched logits, and its lowest id. */
static float untouched_maximum(const struct sampler *s, const float *logits, int b, int *ret_token)
{
    const int first = b * SOFTMAX_BLOCK;
    const size_t n = block_length(s, b);
    float untouched[SOFTMAX_BLOCK], maximum;
    size_t index;
    for (size_t i = 0; i < n; i++)
        untouched[i] = s->is_touched[(size_t)first + i] ? -INFINITY : logits[(size_t)first + i];
    s->k->vec.maximum(untouched, n, &maximum, &index); /* a NaN was found before */
    *ret_token = first + (int)index;
    return maximum;
}

/* The largest adjusted logit and its lowest token; s->maxima: of the untouched ones of a block. */
static double adjusted_maximum(struct sampler *s, const float *logits, const struct raw *raw,
                               uint32_t *ret_token)
{
    const int blocks = block_count(s->vocabulary);
    memcpy(s->maxima, s->raw_maxima, (size_t)blocks * sizeof *s->maxima);
    *ret_token = (uint32_t)raw->argmax;
    if (s->n_touched == 0)
        return (double)raw->maximum;
    int best_block = 0, token;
    for (int b = 0; b < blocks; b++) {
        if (s->is_touched_block[b])
            s->maxima[b] = untouched_maximum(s, logits, b, &token);
        if (s->maxima[b] > s->maxima[best_block])
            best_block = b;
    }
    double maximum = (double)untouched_maximum(s, logits, best_block, &token);
    uint32_t best = (uint32_t)token;
    for (int i = 0; i < s->n_touched; i++) {
        double logit = s->adjusted[s->touched[i]];
        /* A NaN (infinite bias or penalty) becomes the maximum, and is then reported. */
        if (!(logit <= maximum) || (logit == maximum && s->touched[i] < best)) {
            maximum = logit;
            best = s->touched[i];
        }
        if (logit != logit)
            break;
    }
    *ret_token = best;
    return maximum;
}

/* ---- the choice ---- */

/* z = float32((a - maximum) · factor) */
struct scaling {
    const float *logits;
    double maximum, factor;
};

static float scaling_of_touched(const struct sampler *s, const struct scaling *z, uint32_t token)
{
    return (float)((s->adjusted[token] - z->maximum) * z->factor);
}

/* From largest logits to largest z: scaling keeps their order. */
static void scale_maxima(struct sampler *s, const struct scaling *z)
{
    s->k->vec.scale_logits(s->maxima, s->maxima, z->maximum, z->factor,
                           (size_t)block_count(s->vocabulary));
    for (int i = 0; i < s->n_touched; i++) {
        float *of_block = &s->maxima[s->touched[i] / SOFTMAX_BLOCK];
        float scaled = scaling_of_touched(s, z, s->touched[i]);
        *of_block = scaled > *of_block ? scaled : *of_block;
    }
}

/* Scaled logits of a block, their exponentials, and the sum of these. */
static void weigh_block(struct sampler *s, const struct scaling *z, int b)
{
    const struct vec_kernels *v = &s->k->vec;
    const size_t n = block_length(s, b), first = (size_t)b * SOFTMAX_BLOCK;
    v->scale_logits(s->scaled + first, z->logits + first, z->maximum, z->factor, n);
    for (size_t i = first; s->is_touched_block[b] && i < first + n; i++)
        if (s->is_touched[i])
            s->scaled[i] = scaling_of_touched(s, z, (uint32_t)i);
    s->block_sums[b] = v->exp_sum(s->weights + first, s->scaled + first, 0.0f, n);
}

/* All blocks; returns W. */
static double weigh(struct sampler *s, const struct scaling *z)
{
#pragma omp parallel for schedule(dynamic, 32) if (s->vocabulary >= PARALLEL_VOCABULARY)
    for (int b = 0; b < block_count(s->vocabulary); b++)
        weigh_block(s, z, b);
    return block_sums_fold(s);
}

/* The first token of ascending id whose cumulated weight exceeds `mark`, which is less than the sum
 * of all. Blocks are stepped over by their sums; where such a sum and that of its elements differ
 * by a rounding, the last token of the block that has a weight is taken. */
static uint32_t walk_whole(const struct sampler *s, double mark)
{
    int blocks = block_count(s->vocabulary), b = 0;
    double sum = 0.0;
    while (b < blocks - 1 && !(mark < sum + (double)s->block_sums[b]))
        sum += (double)s->block_sums[b++];
    int end = (b + 1) * SOFTMAX_BLOCK < s->vocabulary ? (b + 1) * SOFTMAX_BLOCK : s->vocabulary;
    uint32_t chosen = 0;
    for (int i = b * SOFTMAX_BLOCK; i < end; i++) {
        if (!(s->weights[i] > 0.0f))
            continue;
        chosen = (uint32_t)i;
        sum += (double)s->weights[i];
        if (mark < sum)
            break;
    }
    return chosen;
}

static uint32_t walk_candidates(const struct sampler *s, double mark)
{
    const struct candidates *c = &s->candidates;
    uint32_t chosen = c->list[0].token;
    double sum = 0.0;
    for (int i = 0; i < c->n; i++) {
        if (!(s->weights[c->list[i].token] > 0.0f))
            break;
        chosen = c->list[i].token;
        sum += (double)s->weights[chosen];
        if (mark < sum)
            break;
    }
    return chosen;
}

static uint32_t draw(struct sampler *s, const struct batch_output *o, const float *logits,
                     double maximum)
{
    const struct batch_sampling *p = &o->sampling;
    struct candidates_limits limits = {.min_p = p->min_p > 0.0f ? p->min_p : 0.0f, .top_p = 1.0f};
    if (p->top_k > 0 && p->top_k < (uint32_t)s->vocabulary)
        limits.top_k = (int)p->top_k;
    if (p->top_p < 1.0f)
        limits.top_p = p->top_p > 0.0f ? p->top_p : 0.0f;

    double uniform = philox_uniform(p->seed, p->choice, o->position);
    const struct scaling z = {logits, maximum, 1.0 / (double)p->temperature};
    if (!(limits.min_p > 0.0f) && limits.top_k == 0 && limits.top_p == 1.0f) {
        s->last = CHOICE_WHOLE;
        s->last_sum = weigh(s, &z);
        return walk_whole(s, uniform * s->last_sum);
    }
    s->last = CHOICE_CANDIDATES;
    scale_maxima(s, &z);
    float least = candidates_least(&s->candidates, s->maxima, &limits);
    double total = 0.0;
    if (least == -INFINITY)
        total = weigh(s, &z);
    else
        for (int b = 0; b < block_count(s->vocabulary); b++)
            if (s->maxima[b] >= least)
                weigh_block(s, &z, b);
    s->last_sum =
        candidates_select(&s->candidates, s->scaled, s->weights, s->maxima, least, total, &limits);
    return walk_candidates(s, uniform * s->last_sum);
}

static void update_counts(struct sampler *s, const struct batch_output *o)
{
    const struct batch_sampling *p = &o->sampling;
    if (o->sequence >= s->max_sequences)
        return;
    struct token_counts *counts = &s->counts[o->sequence];
    if (p->counts_reset)
        token_counts_reset(counts);
    for (uint32_t i = 0; i < p->n_counts; i++)
        token_counts_set(counts, p->counts[i].token, p->counts[i].generated,
                         p->counts[i].in_prompt);
}

/* What may be chosen from: the logits, or a copy in which those that the mask forbids are -inf. */
static const float *masked_logits(struct sampler *s, const struct batch_sampling *p,
                                  const float *logits, struct raw *raw)
{
    if (!p->n_mask)
        return logits;
    token_mask_apply(p->mask, p->n_mask, logits, s->masked, (uint32_t)s->vocabulary);
    raw_maximum(s, s->masked, raw); /* a NaN was found before */
    return s->masked;
}

void sampler_choose(struct sampler *s, const struct batch_output *o, const float *logits,
                    struct batch_result *ret_result)
{
    const struct batch_sampling *p = &o->sampling;
    struct raw raw;
    *ret_result = (struct batch_result){.row = o->row, .sequence = o->sequence, .kind = o->kind};
    s->last = CHOICE_GREEDY;
    update_counts(s, o); /* also when the row fails: the next one builds on them */
    if (!raw_maximum(s, logits, &raw)) {
        ret_result->not_a_number = true;
        return;
    }
    const float *judged = masked_logits(s, p, logits, &raw);
    adjust(s, o, judged);
    bool greedy = !(p->temperature > 0.0f);
    double maximum = (double)raw.maximum;
    uint32_t token = (uint32_t)raw.argmax;
    if (!greedy || s->n_touched > 0)
        maximum = adjusted_maximum(s, judged, &raw, &token);
    if (!isfinite(maximum))
        ret_result->not_a_number = true;
    else if (!greedy)
        token = draw(s, o, judged, maximum);
    forget_touched(s);
    s->last_token = token;
    if (ret_result->not_a_number)
        return;
    ret_result->token = token;
    if (p->logprobs && p->n_mask)
        raw_maximum(s, logits, &raw);
    if (p->logprobs && isfinite(raw.maximum)) {
        raw_log_sum(s, logits, &raw);
        ret_result->logprob = raw_logprob(&raw, logits[token]);
        top_logprobs(s, logits, &raw, p->top_logprobs, ret_result);
    }
}

void sampler_score(struct sampler *s, const struct batch_output *o, const float *logits,
                   struct batch_result *ret_result)
{
    struct raw raw;
    *ret_result = (struct batch_result){
        .row = o->row, .sequence = o->sequence, .kind = o->kind, .token = o->target};
    if (o->target >= (uint32_t)s->vocabulary || !raw_maximum(s, logits, &raw) ||
        !isfinite(raw.maximum)) {
        ret_result->not_a_number = true;
        return;
    }
    raw_log_sum(s, logits, &raw);
    ret_result->logprob = raw_logprob(&raw, logits[o->target]);
    top_logprobs(s, logits, &raw, o->sampling.top_logprobs, ret_result);
}

int sampler_kept(const struct sampler *s)
{
    return s->last == CHOICE_GREEDY ? 1 : s->last == CHOICE_WHOLE ? s->vocabulary : s->candidates.n;
}

double sampler_probability(const struct sampler *s, uint32_t token)
{
    if (token >= (uint32_t)s->vocabulary)
        return 0.0;
    if (s->last == CHOICE_GREEDY)
        return token == s->last_token ? 1.0 : 0.0;
    double probability = (double)s->weights[token] / s->last_sum;
    if (s->last == CHOICE_WHOLE)
        return probability;
    for (int i = 0; i < s->candidates.n; i++)
        if (s->candidates.list[i].token == token)
            return probability;
    return 0.0;
}
