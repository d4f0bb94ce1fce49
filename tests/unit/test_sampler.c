/* test_sampler.c - the sampler against probabilities computed in binary64 (tests/data/sampling),
 * its draws against those probabilities, and its corners. */
#include "worker/sampler.h"

#include "kernels/philox.h"
#include "proto/token_mask.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCABULARY = 1000, VECTORS = 8, SEQUENCES = 2 };

static const double tolerance = 1e-5; /* absolute, stated with the data */

struct fixture {
    json_t *json;
    float logits[VECTORS][VOCABULARY];
    struct kernels k;
    struct sampler *s;
};

static int setup(void **state)
{
    static struct fixture f;
    FILE *file = fopen(TEST_DATA "/sampling/logits.f32", "rb");
    assert_non_null(file);
    assert_int_equal(fread(f.logits, sizeof f.logits, 1, file), 1);
    fclose(file);
    f.json = json_load_file(TEST_DATA "/sampling/cases.json", 0, NULL);
    assert_non_null(f.json);
    assert_int_equal(kernels_select(&f.k, getenv("PACELINE_ISA"), NULL), 0);
    assert_int_equal(sampler_new(&f.s, &f.k, VOCABULARY, SEQUENCES, VOCABULARY, NULL), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    json_decref(f->json);
    sampler_free(f->s);
    return 0;
}

/* A batch_output and the arrays that it points at. */
struct request {
    struct batch_output o;
    struct batch_bias bias[64];
    struct batch_count counts[VOCABULARY];
};

static void request_init(struct request *r, float temperature)
{
    memset(r, 0, sizeof *r);
    r->o.kind = BATCH_SAMPLE;
    r->o.sampling = (struct batch_sampling){.temperature = temperature,
                                            .top_p = 1.0f,
                                            .repetition_penalty = 1.0f,
                                            .counts_reset = true,
                                            .bias = r->bias,
                                            .counts = r->counts};
}

static float number(const json_t *object, const char *key, float otherwise)
{
    const json_t *value = json_object_get(object, key);
    return value ? (float)json_number_value(value) : otherwise;
}

static void request_count(struct request *r, uint32_t token, bool in_prompt)
{
    struct batch_sampling *p = &r->o.sampling;
    uint32_t i = 0;
    while (i < p->n_counts && r->counts[i].token != token)
        i++;
    if (i == p->n_counts)
        r->counts[p->n_counts++] = (struct batch_count){.token = token};
    if (in_prompt)
        r->counts[i].in_prompt = true;
    else
        r->counts[i].generated++;
}

static void request_read(struct request *r, json_t *params)
{
    request_init(r, number(params, "temperature", 1.0f));
    struct batch_sampling *p = &r->o.sampling;
    p->top_p = number(params, "top_p", 1.0f);
    p->min_p = number(params, "min_p", 0.0f);
    p->top_k = (uint32_t)number(params, "top_k", 0.0f);
    p->repetition_penalty = number(params, "repetition_penalty", 1.0f);
    p->frequency_penalty = number(params, "frequency_penalty", 0.0f);
    p->presence_penalty = number(params, "presence_penalty", 0.0f);
    size_t i;
    json_t *value;
    const char *key;
    json_array_foreach(json_object_get(params, "prompt_ids"), i, value)
        request_count(r, (uint32_t)json_integer_value(value), true);
    json_array_foreach(json_object_get(params, "output_ids"), i, value)
        request_count(r, (uint32_t)json_integer_value(value), false);
    json_object_foreach(json_object_get(params, "logit_bias"), key, value) r->bias[p->n_bias++] =
        (struct batch_bias){(uint32_t)strtoul(key, NULL, 10), (float)json_number_value(value)};
}

static bool truncates(const struct batch_sampling *p)
{
    return p->top_p < 1.0f || p->min_p > 0.0f || (p->top_k > 0 && p->top_k < VOCABULARY);
}

static void test_distributions(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    size_t n;
    json_t *item;
    int checked = 0;
    json_array_foreach(json_object_get(f->json, "cases"), n, item)
    {
        const float *logits = f->logits[json_integer_value(json_object_get(item, "vector"))];
        struct batch_result result;
        request_read(&r, json_object_get(item, "params"));
        sampler_choose(f->s, &r.o, logits, &result);
        assert_false(result.not_a_number);

        /* Without truncation the data count what does not underflow in binary64; we keep all. */
        json_int_t kept = json_integer_value(json_object_get(item, "kept"));
        if (truncates(&r.o.sampling) || r.o.sampling.temperature == 0.0f)
            assert_int_equal(sampler_kept(f->s), kept);
        else
            assert_int_equal(sampler_kept(f->s), VOCABULARY);
        if (r.o.sampling.temperature == 0.0f)
            assert_int_equal(result.token, json_integer_value(json_object_get(item, "argmax")));
        assert_true(sampler_probability(f->s, result.token) > 0.0);

        size_t i;
        json_t *pair;
        double listed = 0.0;
        json_array_foreach(json_object_get(item, "probs"), i, pair)
        {
            uint32_t token = (uint32_t)json_integer_value(json_array_get(pair, 0));
            double want = json_number_value(json_array_get(pair, 1));
            double got = sampler_probability(f->s, token);
            listed += got;
            if (!(fabs(got - want) <= tolerance))
                fail_msg("case %zu: token %u has probability %g, not %g", n, token, got, want);
        }
        double want = json_number_value(json_object_get(item, "listed_sum"));
        assert_true(fabs(listed - want) <= 50 * tolerance);
        checked++;
    }
    assert_true(checked > 200);
}

static void test_logprobs(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    size_t n;
    json_t *item;
    json_array_foreach(json_object_get(f->json, "logprobs"), n, item)
    {
        const float *logits = f->logits[json_integer_value(json_object_get(item, "vector"))];
        struct batch_result result, score;
        request_init(&r, 0.0f);
        r.o.sampling.logprobs = true;
        r.o.sampling.top_logprobs = 5;
        r.o.sampling.n_bias = 1; /* of the raw logits: a bias makes no difference */
        r.bias[0] = (struct batch_bias){3, 100.0f};
        sampler_choose(f->s, &r.o, logits, &result);
        assert_int_equal(result.n_top, 5);
        assert_int_equal(result.token, 3);
        r.o.target = 3;
        sampler_score(f->s, &r.o, logits, &score);
        assert_true(score.logprob == result.logprob);
        assert_int_equal(score.n_top, 5);
        assert_memory_equal(score.top, result.top, 5 * sizeof *score.top);
        size_t i;
        json_t *pair;
        json_array_foreach(json_object_get(item, "top5"), i, pair)
        {
            double want = json_number_value(json_array_get(pair, 1));
            assert_int_equal(result.top[i].token, json_integer_value(json_array_get(pair, 0)));
            assert_true(fabs((double)result.top[i].logprob - want) <= tolerance);
            r.o.target = result.top[i].token;
            sampler_score(f->s, &r.o, logits, &score);
            assert_true(score.logprob == result.top[i].logprob);
            assert_int_equal(score.token, r.o.target);
        }
    }
}

/* Draws at positions 0, 1, 2 ... against the data's probabilities: chi-square over tokens that are
 * expected at least 20 times, the rest together. */
static void check_draws(struct fixture *f, size_t n)
{
    enum { DRAWS = 8000 };
    static struct request r;
    static int seen[VOCABULARY];
    json_t *item = json_array_get(json_object_get(f->json, "cases"), n), *pair;
    const float *logits = f->logits[json_integer_value(json_object_get(item, "vector"))];
    request_read(&r, json_object_get(item, "params"));
    r.o.sampling.seed = 1234567 + n;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < DRAWS; i++) {
        struct batch_result result;
        r.o.position = (uint64_t)i;
        sampler_choose(f->s, &r.o, logits, &result);
        seen[result.token]++;
        r.o.sampling.counts_reset = false; /* what was sent stays */
        r.o.sampling.n_counts = 0;
    }
    size_t i;
    double rest = DRAWS, chi_square = 0.0;
    int rest_seen = DRAWS, freedom = 0;
    json_array_foreach(json_object_get(item, "probs"), i, pair)
    {
        double expected = DRAWS * json_number_value(json_array_get(pair, 1));
        if (expected < 20.0)
            continue;
        int count = seen[json_integer_value(json_array_get(pair, 0))];
        chi_square += (count - expected) * (count - expected) / expected;
        rest -= expected;
        rest_seen -= count;
        freedom++;
    }
    if (rest >= 20.0)
        chi_square += (rest_seen - rest) * (rest_seen - rest) / rest;
    else
        freedom--;
    /* Mean = degrees of freedom, variance twice that; five deviations and more for the tail. The
     * seed is fixed: it passes for ever or never. */
    double limit = freedom + 5.0 * sqrt(2.0 * freedom) + 10.0;
    if (!(chi_square <= limit))
        fail_msg("case %zu: chi-square %g with %d degrees of freedom", n, chi_square, freedom);
}

static void test_draws(void **state)
{
    struct fixture *f = *state;
    static const char *const wanted[] = {"plain", "top_k", "top_p", "min_p", "penalties"};
    size_t n;
    json_t *item;
    int tested[5] = {0};
    json_array_foreach(json_object_get(f->json, "cases"), n, item)
    {
        json_t *p = json_object_get(item, "params");
        if (number(p, "temperature", 1.0f) == 0.0f ||
            json_integer_value(json_object_get(item, "kept")) < 2)
            continue;
        int kind = json_object_get(p, "repetition_penalty") ? 4
                   : json_object_get(p, "min_p")            ? 3
                   : json_object_get(p, "top_p")            ? 2
                   : json_object_get(p, "top_k")            ? 1
                                                            : 0;
        if (tested[kind]++ < 4)
            check_draws(f, n);
    }
    for (int i = 0; i < 5; i++)
        if (tested[i] < 4)
            fail_msg("no cases of %s", wanted[i]);
}

/* The draw is the one that section 7 of docs/numerics.md describes, from the generator's number. */
static void test_draw_follows_the_page(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    static float logits[VOCABULARY];
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = i % 4 == 0 ? 2.0f : -INFINITY; /* 250 tokens, equally likely */
    for (int truncated = 0; truncated < 2; truncated++) {
        request_init(&r, 1.0f);
        r.o.sampling.seed = 99;
        r.o.sampling.top_k = truncated ? 100 : 0;
        for (uint32_t i = 0; i < 500; i++) {
            struct batch_result result;
            r.o.position = 1000 + i;
            r.o.sampling.choice = i % 3;
            sampler_choose(f->s, &r.o, logits, &result);
            double u = philox_uniform(99, i % 3, 1000 + i);
            assert_int_equal(result.token, 4 * (int)(u * (truncated ? 100 : 250)));
        }
    }
}

static void test_ties_go_to_the_lower_id(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    static float logits[VOCABULARY];
    struct batch_result result;
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = i == 700 || i == 300 || i == 900 ? 5.0f : 1.0f;
    request_init(&r, 0.0f);
    r.o.sampling.logprobs = true;
    r.o.sampling.top_logprobs = 5;
    sampler_choose(f->s, &r.o, logits, &result);
    assert_int_equal(result.token, 300);
    const uint32_t top[] = {300, 700, 900, 0, 1};
    for (int i = 0; i < 5; i++)
        assert_int_equal(result.top[i].token, top[i]);

    /* A bias that makes another one equal: still the lowest, whichever was touched. */
    r.o.sampling.n_bias = 2;
    r.bias[0] = (struct batch_bias){200, 4.0f};
    r.bias[1] = (struct batch_bias){950, 4.0f};
    sampler_choose(f->s, &r.o, logits, &result);
    assert_int_equal(result.token, 200);

    /* Truncation keeps lower ids of equal ones. */
    request_init(&r, 1.0f);
    r.o.sampling.top_k = 5;
    sampler_choose(f->s, &r.o, logits, &result);
    assert_int_equal(sampler_kept(f->s), 5);
    for (int i = 0; i < 5; i++)
        assert_true(sampler_probability(f->s, top[i]) > 0.0);
    assert_true(sampler_probability(f->s, 2) == 0.0);
}

static void test_forbidden_tokens(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    static uint32_t forbidden[VOCABULARY];
    struct batch_result result;
    for (uint32_t i = 0; i < VOCABULARY; i++)
        forbidden[i] = i < 600 ? i : i + 1; /* all but 600, and one id that does not exist */
    for (int temperature = 0; temperature < 2; temperature++)
        for (int top_k = 0; top_k < 2; top_k++) {
            request_init(&r, (float)temperature);
            r.o.sampling.top_k = top_k ? 40 : 0;
            r.o.sampling.n_forbidden = VOCABULARY;
            r.o.sampling.forbidden = forbidden;
            r.o.sampling.n_bias = 1;
            r.bias[0] = (struct batch_bias){5, 100.0f}; /* forbidden stays forbidden */
            sampler_choose(f->s, &r.o, f->logits[0], &result);
            assert_false(result.not_a_number);
            assert_int_equal(result.token, 600);
            assert_true(sampler_probability(f->s, 600) == 1.0);
        }
    r.o.sampling.n_forbidden = VOCABULARY;
    forbidden[0] = 600;
    forbidden[999] = 0;
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_true(result.not_a_number); /* nothing is left */
    request_init(&r, 0.0f);
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 829); /* and nothing stays behind */
}

/* A masked row is one whose other logits are -inf, in each form, whatever else is asked for; and
 * log-probabilities stay those of the raw logits. */
static void check_masked(struct fixture *f, const struct request *given, const float *logits,
                         struct buf *mask, const float *expected)
{
    static struct request r;
    struct batch_result masked, plain, unmasked;
    r = *given;
    r.o.sampling.bias = r.bias;
    r.o.sampling.counts = r.counts;
    r.o.sampling.logprobs = true;
    r.o.sampling.top_logprobs = 5;
    sampler_choose(f->s, &r.o, expected, &plain);
    sampler_choose(f->s, &r.o, logits, &unmasked);
    r.o.sampling.mask = (const unsigned char *)mask->data;
    r.o.sampling.n_mask = (uint32_t)mask->length;
    sampler_choose(f->s, &r.o, logits, &masked);
    assert_int_equal(masked.token, plain.token);
    assert_memory_equal(masked.top, unmasked.top, sizeof masked.top);
    r.o.target = masked.token;
    sampler_score(f->s, &r.o, logits, &plain);
    assert_true(masked.logprob == plain.logprob);
}

static void test_masks(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    static float expected[VOCABULARY];
    uint32_t ids[VOCABULARY], n = 0;
    for (uint32_t i = 3; i < VOCABULARY; i += 1 + i % 7)
        ids[n++] = i;
    for (int form = TOKEN_MASK_ALLOWED; form <= TOKEN_MASK_FORBIDDEN; form++) {
        struct buf mask;
        buf_init(&mask);
        token_mask_write_ids(&mask, (enum token_mask_form)form, ids, n, VOCABULARY);
        for (uint32_t i = 0, at = 0; i < VOCABULARY; i++) {
            bool is_listed = at < n && ids[at] == i;
            at += is_listed;
            expected[i] = is_listed == (form == TOKEN_MASK_ALLOWED) ? f->logits[0][i] : -INFINITY;
        }
        for (uint32_t i = 0; i < 64; i++) {
            request_init(&r, i % 4 == 0 ? 0.0f : 0.5f + (float)(i % 5) / 4);
            r.o.position = i;
            r.o.sampling.top_k = i % 3 == 1 ? 40 : 0;
            r.o.sampling.top_p = i % 5 == 2 ? 0.9f : 1.0f;
            r.o.sampling.min_p = i % 7 == 3 ? 0.02f : 0.0f;
            r.o.sampling.n_bias = i % 2;
            r.bias[0] = (struct batch_bias){i, 100.0f}; /* forbidden stays forbidden */
            check_masked(f, &r, f->logits[0], &mask, expected);
        }
        buf_clear(&mask);
    }
    struct batch_result result;
    const unsigned char nothing[] = {TOKEN_MASK_ALLOWED};
    request_init(&r, 1.0f);
    r.o.sampling.mask = nothing;
    r.o.sampling.n_mask = sizeof nothing;
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_true(result.not_a_number); /* nothing is left */
}

static void test_numbers_that_are_none(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    static float logits[VOCABULARY];
    struct batch_result result;
    for (int i = 0; i < 4; i++)
        for (int at = 0; at < VOCABULARY; at += 333) {
            memcpy(logits, f->logits[0], sizeof logits);
            logits[at] = i == 3 ? INFINITY : NAN;
            request_init(&r, i == 1 ? 1.0f : 0.0f);
            r.o.sampling.n_bias = i == 2; /* of the token itself, too */
            r.bias[0] = (struct batch_bias){(uint32_t)at, 1.0f};
            sampler_choose(f->s, &r.o, logits, &result);
            assert_true(result.not_a_number);
            sampler_score(f->s, &r.o, logits, &result);
            assert_true(result.not_a_number);
        }
    request_init(&r, 1.0f);
    r.o.sampling.n_bias = 1;
    r.bias[0] = (struct batch_bias){7, NAN};
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_true(result.not_a_number);
}

/* A larger vocabulary, where few tokens are collected: what is kept is what sorting all of it
 * would keep. */
static void test_selection_equals_a_full_sort(void **state)
{
    enum { N = 10000 };
    struct fixture *f = *state;
    static struct request r;
    struct sampler *s;
    float *logits = malloc(N * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(sampler_new(&s, &f->k, N, 1, 64, NULL), 0);
    for (int i = 0; i < 24; i++) {
        float spread = (float[]){0.0f, 0.5f, 6.0f, 40.0f}[i % 4];
        for (uint32_t j = 0; j < N; j++)
            logits[j] = (float)((philox_uniform((uint64_t)i, 0, j) - 0.5) * (double)spread * 2.0);
        request_init(&r, 1.0f);
        r.o.sampling.top_k = i % 3 == 0 ? 50 + (uint32_t)i * 100 : 0;
        r.o.sampling.top_p = i % 3 == 1 ? 0.3f + 0.02f * (float)i : 1.0f;
        r.o.sampling.min_p = i % 3 == 2 ? 0.001f * (float)i : 0.0f;
        struct batch_result result;
        sampler_choose(s, &r.o, logits, &result);
        /* The least of the kept ranks before every one that is not kept. */
        int kept = 0, least = -1;
        double sum = 0.0, all = 0.0;
        float most = logits[0];
        for (int j = 0; j < N; j++)
            most = logits[j] > most ? logits[j] : most;
        for (int j = 0; j < N; j++) {
            double w = exp((double)logits[j] - (double)most);
            all += w;
            if (sampler_probability(s, (uint32_t)j) > 0.0) {
                kept++;
                sum += w;
                least = least < 0 || logits[j] <= logits[least] ? j : least;
            }
        }
        for (int j = 0; j < N; j++)
            if (sampler_probability(s, (uint32_t)j) == 0.0)
                assert_true(logits[j] < logits[least] || (logits[j] == logits[least] && j > least));
        assert_int_equal(kept, sampler_kept(s));
        if (i % 3 == 0)
            assert_int_equal(kept, 50 + i * 100);
        if (i % 3 == 1) { /* enough, and not one more than needed */
            double enough = (double)r.o.sampling.top_p * all;
            assert_true(sum >= enough - 1e-6 * all);
            assert_true(sum - exp((double)logits[least] - (double)most) < enough + 1e-6 * all);
        }
    }
    sampler_free(s);
    free(logits);
}

/* Every instruction set chooses the same tokens with the same bits. */
static void test_isas_agree(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"scalar", "avx2", "avx512"};
    static struct request r;
    for (int i = 1; i < 3; i++) {
        struct kernels scalar, isa;
        if (kernels_select(&isa, names[i], NULL) != 0)
            continue;
        struct sampler *s[2];
        assert_int_equal(kernels_select(&scalar, names[0], NULL), 0);
        assert_int_equal(sampler_new(&s[0], &scalar, VOCABULARY, SEQUENCES, 64, NULL), 0);
        assert_int_equal(sampler_new(&s[1], &isa, VOCABULARY, SEQUENCES, 64, NULL), 0);
        size_t n;
        json_t *item;
        json_array_foreach(json_object_get(f->json, "cases"), n, item)
        {
            struct batch_result result[2];
            request_read(&r, json_object_get(item, "params"));
            r.o.sampling.logprobs = true;
            r.o.sampling.top_logprobs = 20;
            r.o.position = n;
            for (int j = 0; j < 2; j++)
                sampler_choose(s[j], &r.o,
                               f->logits[json_integer_value(json_object_get(item, "vector"))],
                               &result[j]);
            assert_int_equal(result[0].token, result[1].token);
            assert_true(result[0].logprob == result[1].logprob);
            assert_int_equal(result[0].n_top, 20);
            assert_memory_equal(result[0].top, result[1].top, sizeof result[0].top);
            for (uint32_t token = 0; token < VOCABULARY; token++)
                assert_true(sampler_probability(s[0], token) == sampler_probability(s[1], token));
        }
        sampler_free(s[0]);
        sampler_free(s[1]);
    }
}

/* Counts belong to a sequence's slot, arrive as absolute values, and a reset forgets them. */
static void test_counts_of_a_slot(void **state)
{
    struct fixture *f = *state;
    static struct request r;
    struct batch_result result;
    request_init(&r, 0.0f);
    r.o.sampling.presence_penalty = 50.0f;
    r.o.sampling.n_counts = 1;
    r.counts[0] = (struct batch_count){829, 1, false};
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 751);
    r.o.sampling.counts_reset = false;
    r.counts[0] = (struct batch_count){751, 1, false}; /* a difference: 829 is remembered */
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 6);
    r.o.sampling.n_counts = 0;
    r.o.sequence = 1; /* another one knows nothing of it */
    r.o.sampling.counts_reset = true;
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 829);
    r.o.sequence = 0;
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 829);
    r.o.sequence = 77; /* no such slot: no penalties, no harm */
    sampler_choose(f->s, &r.o, f->logits[0], &result);
    assert_int_equal(result.token, 829);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_draw_follows_the_page),
        cmocka_unit_test(test_ties_go_to_the_lower_id),
        cmocka_unit_test(test_forbidden_tokens),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_numbers_that_are_none),
        cmocka_unit_test(test_selection_equals_a_full_sort),
        cmocka_unit_test(test_isas_agree),
        cmocka_unit_test(test_counts_of_a_slot),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
