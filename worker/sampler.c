/* sampler.c - see sampler.h. */
#include "worker/sampler.h"

#include "kernels/fmath.h"
#include "kernels/philox.h"
#include "kernels/softmax.h"
#include "worker/candidates.h"
#include "worker/token_counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How the last token was chosen. */
enum choice_kind { CHOICE_GREEDY, CHOICE_WHOLE, CHOICE_CANDIDATES };

struct sampler {
    const struct kernels *k;
    int vocabulary;
    uint32_t max_sequences;
    struct token_counts *counts; /* [max_sequences] */
    float *scaled, *weights;     /* [vocabulary] */
    float *block_sums;           /* of weights, [blocks of SOFTMAX_BLOCK] */
    double *adjusted;            /* [vocabulary], valid where touched */
    bool *is_touched;            /* [vocabulary] */
    uint32_t *touched;           /* [vocabulary], the first n_touched */
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
    size_t of_token = 2 * sizeof(float) + sizeof(double) + sizeof(bool) + sizeof(uint32_t);
    size_t of_sequence =
        sizeof(struct token_counts) + token_counts_memory(most_tokens(vocabulary, max_context));
    return sizeof(struct sampler) + (size_t)vocabulary * of_token +
           (size_t)block_count(vocabulary) * sizeof(float) + candidates_memory(vocabulary) +
           max_sequences * of_sequence;
}

static bool sampler_claim(struct sampler *s, uint32_t max_context)
{
    size_t n = (size_t)s->vocabulary;
    s->counts = calloc(s->max_sequences ? s->max_sequences : 1, sizeof *s->counts);
    s->scaled = calloc(n, sizeof *s->scaled);
    s->weights = calloc(n, sizeof *s->weights);
    s->block_sums = calloc((size_t)block_count(s->vocabulary), sizeof *s->block_sums);
    s->adjusted = calloc(n, sizeof *s->adjusted);
    s->is_touched = calloc(n, sizeof *s->is_touched);
    s->touched = calloc(n, sizeof *s->touched);
    bool ok = s->counts && s->scaled && s->weights && s->block_sums && s->adjusted &&
              s->is_touched && s->touched && candidates_init(&s->candidates, s->vocabulary);
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
    free(s->scaled);
    free(s->weights);
    free(s->block_sums);
    free(s->adjusted);
    free(s->is_touched);
    free(s->touched);
    free(s);
}

/* ---- log-probabilities of the raw logits ---- */

struct raw {
    float maximum;
    int argmax;
    double log_sum; /* of exp(logit - maximum) */
};

static void raw_log_sum(const struct sampler *s, const float *logits, struct raw *raw)
{
    raw->log_sum = fmath_log(softmax_exponentials(s->k, NULL, logits, s->vocabulary, raw->maximum));
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
    for (int i = 0; i < s->n_touched; i++)
        s->is_touched[s->touched[i]] = false;
    s->n_touched = 0;
}

/* Copies the logits to s->scaled, touched ones as -inf, and finds the largest adjusted one and its
 * lowest token. */
static double adjusted_maximum(struct sampler *s, const float *logits, const struct raw *raw,
                               uint32_t *ret_token)
{
    double maximum = (double)raw->maximum;
    uint32_t best = (uint32_t)raw->argmax;
    memcpy(s->scaled, logits, (size_t)s->vocabulary * sizeof *logits);
    if (s->n_touched > 0) {
        float untouched;
        int index;
        for (int i = 0; i < s->n_touched; i++)
            s->scaled[s->touched[i]] = -INFINITY;
        softmax_maximum(s->k, s->scaled, s->vocabulary, &untouched, &index);
        maximum = (double)untouched;
        best = (uint32_t)index;
        for (int i = 0; i < s->n_touched; i++) {
            uint32_t token = s->touched[i];
            double logit = s->adjusted[token];
            /* A NaN (infinite bias or penalty) becomes the maximum, and is then reported. */
            if (!(logit <= maximum) || (logit == maximum && token < best)) {
                maximum = logit;
                best = token;
            }
            if (logit != logit)
                break;
        }
    }
    *ret_token = best;
    return maximum;
}

/* ---- the choice ---- */

/* Scaled logits, their exponentials, and the sums of these. */
static double weigh(struct sampler *s, double maximum, float temperature)
{
    const struct vec_kernels *v = &s->k->vec;
    double factor = 1.0 / (double)temperature, total = 0.0;
    v->scale_logits(s->scaled, s->scaled, maximum, factor, (size_t)s->vocabulary);
    for (int i = 0; i < s->n_touched; i++)
        s->scaled[s->touched[i]] = (float)((s->adjusted[s->touched[i]] - maximum) * factor);
    for (int b = 0, i = 0; i < s->vocabulary; b++, i += SOFTMAX_BLOCK) {
        int n = s->vocabulary - i < SOFTMAX_BLOCK ? s->vocabulary - i : SOFTMAX_BLOCK;
        s->block_sums[b] = v->exp_sum(s->weights + i, s->scaled + i, 0.0f, (size_t)n);
        total += (double)s->block_sums[b];
    }
    return total;
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

static uint32_t draw(struct sampler *s, const struct batch_output *o, double maximum)
{
    const struct batch_sampling *p = &o->sampling;
    struct candidates_limits limits = {.min_p = p->min_p > 0.0f ? p->min_p : 0.0f, .top_p = 1.0f};
    if (p->top_k > 0 && p->top_k < (uint32_t)s->vocabulary)
        limits.top_k = (int)p->top_k;
    if (p->top_p < 1.0f)
        limits.top_p = p->top_p > 0.0f ? p->top_p : 0.0f;

    double uniform = philox_uniform(p->seed, p->choice, o->position);
    s->last_sum = weigh(s, maximum, p->temperature);
    if (!(limits.min_p > 0.0f) && limits.top_k == 0 && limits.top_p == 1.0f) {
        s->last = CHOICE_WHOLE;
        return walk_whole(s, uniform * s->last_sum);
    }
    s->last = CHOICE_CANDIDATES;
    s->last_sum = candidates_select(&s->candidates, s->scaled, s->weights, s->last_sum, &limits);
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

void sampler_choose(struct sampler *s, const struct batch_output *o, const float *logits,
                    struct batch_result *ret_result)
{
    const struct batch_sampling *p = &o->sampling;
    struct raw raw;
    *ret_result = (struct batch_result){.row = o->row, .sequence = o->sequence, .kind = o->kind};
    s->last = CHOICE_GREEDY;
    update_counts(s, o); /* also when the row fails: the next one builds on them */
    if (!softmax_maximum(s->k, logits, s->vocabulary, &raw.maximum, &raw.argmax)) {
        ret_result->not_a_number = true;
        return;
    }
    adjust(s, o, logits);
    bool greedy = !(p->temperature > 0.0f);
    double maximum = (double)raw.maximum;
    uint32_t token = (uint32_t)raw.argmax;
    if (!greedy || s->n_touched > 0)
        maximum = adjusted_maximum(s, logits, &raw, &token);
    if (!isfinite(maximum))
        ret_result->not_a_number = true;
    else if (!greedy)
        token = draw(s, o, maximum);
    forget_touched(s);
    s->last_token = token;
    if (ret_result->not_a_number)
        return;
    ret_result->token = token;
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
    if (o->target >= (uint32_t)s->vocabulary ||
        !softmax_maximum(s->k, logits, s->vocabulary, &raw.maximum, &raw.argmax) ||
        !isfinite(raw.maximum)) {
        ret_result->not_a_number = true;
        return;
    }
    raw_log_sum(s, logits, &raw);
    ret_result->logprob = raw_logprob(&raw, logits[o->target]);
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
