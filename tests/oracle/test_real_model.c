/* A published model, where PACELINE_TEST_MODEL names its file: near values computed in float32 on
 * its dequantised weights, the same bits for every cut and instruction set; and how long a token
 * takes. */
#include "chain.h"
#include "golden.h"

#include "base/clock.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SKIPPED = 77 }; /* the exit code that ctest takes for it */

#define EXPECTED TEST_DATA "/real/qwen2.5-coder-0.5b.json"

struct real {
    struct chain_model model;
    json_t *expected;
    int n_prompts;
    struct golden_prompt *prompts;
};

static int set_up(void **state)
{
    const char *path = getenv("PACELINE_TEST_MODEL");
    struct real *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->expected = json_load_file(EXPECTED, 0, NULL);
    assert_non_null(r->expected);
    r->prompts = golden_read_prompts(json_object_get(r->expected, "prompts"), &r->n_prompts);
    chain_open_model(&r->model, path);
    assert_int_equal(weight_file_bytes(r->model.file),
                     json_integer_value(json_object_get(r->expected, "bytes")));
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct real *r = *state;
    golden_clear_prompts(r->prompts, r->n_prompts);
    json_decref(r->expected);
    chain_close_model(&r->model);
    free(r);
    return 0;
}

static const json_t *real_prompt(const struct real *r, int p)
{
    return json_array_get(json_object_get(r->expected, "prompts"), (size_t)p);
}

/* Sum of −log p(token | before) over a prompt, by SCORE outputs. */
static double real_nll(struct chain *c, const struct golden_prompt *p)
{
    double sum = 0;
    for (int at = 0; at + 1 < p->n; at += BATCH_LOGIT_ROWS) {
        struct batch_output outputs[BATCH_LOGIT_ROWS] = {0};
        uint32_t n = 0;
        for (int i = at; i + 1 < p->n && n < BATCH_LOGIT_ROWS; i++, n++)
            outputs[n] = (struct batch_output){
                .row = n, .sequence = 1, .kind = BATCH_SCORE, .target = p->ids[i + 1]};
        struct chain_part part = {1, (uint32_t)at, n, p->ids + at};
        struct stage_output o;
        chain_step(c, &part, 1, outputs, n, &o);
        for (uint32_t i = 0; i < n; i++)
            sum -= o.results[i].logprob;
    }
    return sum;
}

/* Largest |Δlogit| of the 20 best of the last position; the best must be the same where it leads
 * by more than twice that. */
static double real_check_top(const json_t *expected, const float *row, size_t vocabulary)
{
    const json_t *top = json_object_get(expected, "top20");
    double worst = 0;
    double values[2];
    size_t index;
    json_t *pair;
    json_array_foreach(top, index, pair)
    {
        size_t token = (size_t)json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        assert_true(token < vocabulary);
        worst = fmax(worst, fabs(want - row[token]));
        if (index < 2)
            values[index] = want;
    }
    size_t best = (size_t)json_integer_value(json_array_get(json_array_get(top, 0), 0));
    if (values[0] - values[1] > 2 * worst)
        assert_int_equal(golden_argmax(row, (int)vocabulary), best);
    return worst;
}

/* Greedy continuation fed with the golden tokens; returns how many choices differ. */
static int real_check_greedy(struct chain *c, const struct golden_prompt *g, double distance)
{
    int differing = 0;
    struct batch_result r = chain_greedy(c, 2, 0, g->ids, (uint32_t)g->n);
    for (int i = 0; i < g->n_greedy; i++) {
        differing += r.token != g->greedy[i];
        if (r.token != g->greedy[i] && g->margin[i] > 2 * distance)
            fail_msg("token %d is %u, golden %u by %g", i, r.token, g->greedy[i], g->margin[i]);
        r = chain_greedy(c, 2, (uint32_t)(g->n + i), &g->greedy[i], 1);
    }
    return differing;
}

static void test_values(void **state)
{
    const struct real *r = *state;
    struct chain c;
    chain_open(&c, &r->model, NULL, 1, KV_F16);
    size_t vocabulary = c.limits.vocabulary;
    double nll = 0;
    double want_nll = 0;
    int scored = 0;
    printf("claimed %.1f MiB for a file of %.1f MiB, kernels %s\n",
           (double)stage_claimed_bytes(c.stages[0]) / 0x1p20,
           (double)weight_file_bytes(r->model.file) / 0x1p20, c.kernels.isa_name);
    for (int p = 0; p < r->n_prompts; p++) {
        const struct golden_prompt *g = &r->prompts[p];
        const json_t *expected = real_prompt(r, p);
        float *logits = malloc((size_t)g->n * vocabulary * sizeof *logits);
        assert_non_null(logits);
        chain_prompt_logits(&c, 0, g->ids, g->n, BATCH_LOGIT_ROWS, logits);
        int same = 0;
        for (int i = 0; i < g->n; i++)
            same +=
                golden_argmax(logits + (size_t)i * vocabulary, (int)vocabulary) ==
                json_integer_value(json_array_get(json_object_get(expected, "argmax"), (size_t)i));
        double top = real_check_top(expected, logits + (size_t)(g->n - 1) * vocabulary, vocabulary);
        double want = json_number_value(json_object_get(expected, "mean_nll"));
        double sum = real_nll(&c, g);
        nll += sum;
        want_nll += want * (g->n - 1);
        scored += g->n - 1;
        int differing = real_check_greedy(&c, g, top);
        printf("prompt %d: argmax %d/%d, top 20 within %.3f, mean NLL %.4f (golden %.4f), "
               "%d of %d greedy tokens differ\n",
               p, same, g->n, top, sum / (g->n - 1), want, differing, g->n_greedy);
        free(logits);
    }
    printf("all prompts: mean NLL %.5f, golden %.5f\n", nll / scored, want_nll / scored);
    /* perplexity within 1 % */
    assert_true(fabs(nll - want_nll) / scored <= 0.01);
    chain_close(&c);
}

static void test_bits(void **state)
{
    const struct real *r = *state;
    const struct golden_prompt *g = &r->prompts[1];
    size_t bytes = (size_t)g->n * (size_t)r->model.config.vocabulary_size * sizeof(float);
    float *one = malloc(bytes);
    float *other = malloc(bytes);
    struct chain c;
    assert_true(one && other);
    chain_open(&c, &r->model, NULL, 1, KV_F16);
    chain_prompt_logits(&c, 0, g->ids, g->n, BATCH_LOGIT_ROWS, one);
    chain_close(&c);
    for (int i = 0; i < ISAS; i++) {
        if (!kernels_isa_is_offered(i))
            continue;
        chain_open(&c, &r->model, kernels_isa_name(i), 3, KV_F16);
        chain_prompt_logits(&c, 0, g->ids, g->n, 2, other);
        chain_close(&c);
        assert_memory_equal(one, other, bytes);
    }
    free(one);
    free(other);
}

static int64_t real_anonymous_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        sscanf(line, "RssAnon: %ld kB", &kib);
    fclose(f);
    return (int64_t)kib * 1024;
}

/* Anonymous memory of each of two stages: at most its tensors, its keys and values, 10 % and
 * 64 MiB; and what was announced is what is used. */
static void test_memory(void **state)
{
    const struct real *r = *state;
    const struct model_config *c = &r->model.config;
    struct kernels k;
    assert_int_equal(kernels_select(&k, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        struct stage_spec spec = {
            .kernels = &k,
            .model = c,
            .weights = r->model.file,
            .first_layer = i * c->n_layers / 2,
            .end_layer = (i + 1) * c->n_layers / 2,
            .limits = {.max_rows = 512,
                       .max_sequences = 16,
                       .max_outputs = 32,
                       .max_context = 4096,
                       .kv_blocks = 256,
                       .vocabulary = (uint32_t)c->vocabulary_size},
        };
        int64_t tensors = 0;
        for (size_t j = 0; j < weight_file_tensor_count(r->model.file); j++) {
            const struct tensor *t = weight_file_tensor(r->model.file, j);
            if (model_tensor_is_in_stage(c, t->name, spec.first_layer, spec.end_layer))
                tensors += (int64_t)t->bytes;
        }
        int64_t kv = (int64_t)spec.limits.kv_blocks * KV_BLOCK_TOKENS * (c->n_layers / 2) * 2 *
                     c->n_kv_heads * c->head_dim * 2;
        int64_t before = real_anonymous_bytes();
        struct stage *stage = NULL;
        assert_int_equal(stage_new(&stage, &spec, NULL), 0);
        int64_t used = real_anonymous_bytes() - before;
        int64_t claimed = stage_claimed_bytes(stage);
        printf("stage %d: tensors %.1f MiB, keys and values %.1f MiB; claimed %.1f MiB, "
               "resident %.1f MiB\n",
               i, (double)tensors / 0x1p20, (double)kv / 0x1p20, (double)claimed / 0x1p20,
               (double)used / 0x1p20);
        int64_t bound = tensors + kv + (tensors + kv) / 10 + (64 << 20);
        assert_true(claimed <= bound);
        assert_true(used <= bound);
        assert_true(used <= claimed + (8 << 20)); /* large pages round up */
        stage_free(stage);
    }
}

static void test_time(void **state)
{
    const struct real *r = *state;
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 2; threads++) {
        struct chain c;
        enum { TOKENS = 32, PROMPT = 256 };
        uint32_t prompt[PROMPT];
        for (uint32_t i = 0; i < PROMPT; i++)
            prompt[i] = 1000 + i * 37;
        omp_set_num_threads(threads);
        chain_open(&c, &r->model, NULL, 1, KV_F16);
        int64_t start = clock_now_us();
        struct batch_result result = chain_greedy(&c, 0, 0, prompt, PROMPT);
        int64_t prefilled = clock_now_us();
        clock_t busy = clock(); /* of all threads: tells a busy machine from a slow program */
        for (uint32_t i = 0; i < TOKENS; i++)
            result = chain_greedy(&c, 0, PROMPT + i, &result.token, 1);
        int64_t end = clock_now_us();
        busy = clock() - busy;
        printf("%d thread%s: %.2f ms for each decoded token (%.2f of processor), %.0f tokens/s of "
               "prompt\n",
               threads, threads > 1 ? "s" : "", (double)(end - prefilled) / 1e3 / TOKENS,
               (double)busy * 1e3 / CLOCKS_PER_SEC / TOKENS,
               PROMPT * 1e6 / (double)(prefilled - start));
        chain_close(&c);
    }
    omp_set_num_threads(before);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *path = getenv("PACELINE_TEST_MODEL");
    if (!path || !*path) {
        puts("PACELINE_TEST_MODEL names no file: skipped");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
