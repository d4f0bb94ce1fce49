/* The promises of stage.h beside its numbers: memory, digests, refusals, results in order. */
#include "chain.h"
#include "golden.h"

#include "model/manifest.h"

#include <malloc.h>
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL TEST_DATA "/models/qwen2-tied/gguf/qwen2-tied-Q4_0.gguf"

/* A model and the specification of one stage of it, to be spoiled. */
struct sample {
    struct chain_model model;
    struct kernels kernels;
    struct stage_spec spec;
    unsigned char (*digests)[DIGEST_BYTES];
    int64_t done, total;
    int n_progress;
};

static int set_up(void **state)
{
    struct sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    chain_open_model(&s->model, MODEL);
    assert_int_equal(kernels_select(&s->kernels, NULL, NULL), 0);
    s->spec = (struct stage_spec){
        .kernels = &s->kernels,
        .model = &s->model.config,
        .weights = s->model.file,
        .end_layer = s->model.config.n_layers,
        .limits = {.max_rows = 40,
                   .max_sequences = 3,
                   .max_outputs = 33,
                   .max_context = 200,
                   .kv_blocks = 12,
                   .vocabulary = (uint32_t)s->model.config.vocabulary_size},
        .context = s,
    };
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct sample *s = *state;
    chain_close_model(&s->model);
    free(s->digests);
    free(s);
    return 0;
}

static struct stage *open_stage(const struct stage_spec *spec)
{
    struct stage *stage = NULL;
    struct err err = {0};
    if (stage_new(&stage, spec, &err) != 0)
        fail_msg("%s", err.text);
    return stage;
}

static void refused(const struct stage_spec *spec, int code, const char *word)
{
    struct stage *stage = NULL;
    struct err err = {0};
    assert_int_equal(stage_new(&stage, spec, &err), code);
    assert_null(stage);
    if (!strstr(err.text, word))
        fail_msg("refused, but not for \"%s\": %s", word, err.text);
}

static void test_memory(void **state)
{
    struct sample *s = *state;
    int layers = s->model.config.n_layers;
    for (int first = 0; first < layers; first += 2) {
        s->spec.first_layer = first;
        s->spec.end_layer = first + 2 < layers ? first + 2 : layers;
        s->spec.memory_bytes = stage_memory(&s->spec);
        assert_true(s->spec.memory_bytes > 0);
        struct stage *stage = open_stage(&s->spec);
        assert_int_equal(stage_claimed_bytes(stage), s->spec.memory_bytes);
        assert_int_equal(stage_is_first(stage), first == 0);
        assert_int_equal(stage_is_last(stage), s->spec.end_layer == layers);
        stage_free(stage);
        s->spec.memory_bytes--;
        refused(&s->spec, ERR_MEMORY, "--memory");
    }
    s->spec.memory_bytes = 0;
    s->spec.limits.kv_blocks = UINT32_MAX - 1; /* more than a machine has */
    s->spec.limits.max_context = 1 << 20;
    s->spec.memory_bytes = INT64_C(1) << 40;
    refused(&s->spec, ERR_MEMORY, "--memory");
}

static void test_refused_specifications(void **state)
{
    struct sample *s = *state;
    const struct stage_spec good = s->spec;
#define SPOILED(word, change)                                                                      \
    do {                                                                                           \
        s->spec = good;                                                                            \
        change;                                                                                    \
        refused(&s->spec, ERR_INPUT, word);                                                        \
        assert_int_equal(stage_memory(&s->spec), ERR_INPUT);                                       \
    } while (0)
    SPOILED("range", s->spec.first_layer = -1);
    SPOILED("range", s->spec.first_layer = good.end_layer);
    SPOILED("range", s->spec.end_layer++);
    SPOILED("KV type", s->spec.kv_type = (enum kv_type)7);
    struct model_config odd = *good.model;
    odd.head_dim = odd.head_dim / 32 * 32 + 16;
    SPOILED("q8_0", (s->spec.model = &odd, s->spec.kv_type = KV_Q8_0));
    SPOILED("at least", s->spec.limits.max_rows = 0);
    SPOILED("at least", s->spec.limits.max_sequences = 0);
    SPOILED("at least", s->spec.limits.max_outputs = 0);
    SPOILED("at least", s->spec.limits.max_context = 0);
    SPOILED("at least", s->spec.limits.kv_blocks = 0);
    SPOILED("beyond", s->spec.limits.max_rows = UINT32_MAX);
    SPOILED("beyond", s->spec.limits.max_sequences = UINT32_MAX);
    SPOILED("beyond", s->spec.limits.max_context = UINT32_MAX);
    SPOILED("beyond", s->spec.limits.kv_blocks = UINT32_MAX);
    SPOILED("vocabulary", s->spec.limits.vocabulary--);
}

static const unsigned char *digest_of(void *context, const char *name)
{
    struct sample *s = context;
    for (size_t i = 0; i < weight_file_tensor_count(s->model.file); i++)
        if (strcmp(weight_file_tensor(s->model.file, i)->name, name) == 0)
            return s->digests[i];
    return NULL;
}

static void progress(void *context, int64_t done, int64_t total)
{
    struct sample *s = context;
    assert_true(done > s->done);
    s->done = done;
    s->total = total;
    s->n_progress++;
}

static void test_loading(void **state)
{
    struct sample *s = *state;
    const struct weight_file *f = s->model.file;
    size_t n = weight_file_tensor_count(f);
    s->digests = calloc(n, sizeof *s->digests);
    assert_non_null(s->digests);
    for (size_t i = 0; i < n; i++)
        manifest_digest_tensor(weight_file_tensor(f, i), s->digests[i]);
    s->spec.first_layer = 2; /* with the tied head: the embedding is among the tensors */
    s->spec.digest_of = digest_of;
    s->spec.progress = progress;
    int64_t bytes = 0;
    int n_mine = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = weight_file_tensor(f, i);
        bool mine = model_tensor_is_in_stage(&s->model.config, t->name, 2, s->spec.end_layer);
        bytes += mine ? (int64_t)t->bytes : 0;
        n_mine += mine;
    }
    /* The caller's thread reports: all tensors when it is alone, else those that it takes. */
    for (int threads = 1; threads <= 3; threads++) {
        s->done = s->total = s->n_progress = 0;
        omp_set_num_threads(threads);
        stage_free(open_stage(&s->spec));
        assert_int_equal(s->done, bytes);
        assert_int_equal(s->total, bytes);
        assert_in_range(s->n_progress, threads == 1 ? n_mine : 1, n_mine);
    }

    s->spec.progress = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *name = weight_file_tensor(f, i)->name;
        s->digests[i][31] ^= 1;
        if (model_tensor_is_in_stage(&s->model.config, name, 2, s->spec.end_layer))
            refused(&s->spec, ERR_MODEL, name);
        else
            stage_free(open_stage(&s->spec)); /* another stage's business */
        s->digests[i][31] ^= 1;
    }
    atomic_bool cancelled = true;
    s->spec.cancelled = &cancelled;
    refused(&s->spec, ERR_CANCELLED, "cancelled");
}

static struct batch_sequence tokens_at(uint32_t slot, uint32_t position, uint32_t count,
                                       uint32_t first_block, uint32_t n_blocks,
                                       const uint32_t *blocks)
{
    return (struct batch_sequence){slot, position, count, first_block, n_blocks, blocks, 0};
}

/* One sequence through a stage that is the whole model: the code, and the last row's logits. */
static int run(struct stage *stage, const struct stage_spec *spec, struct batch_sequence sequence,
               float *ret_logits, const char **ret_text)
{
    static struct err err;
    static const uint32_t tokens[40] = {5, 9, 77, 120, 3};
    struct batch_output output = {
        .row = sequence.count - 1, .sequence = sequence.sequence, .kind = BATCH_LOGITS};
    struct batch b = {.n_rows = sequence.count,
                      .tokens = tokens,
                      .n_sequences = 1,
                      .sequences = &sequence,
                      .n_outputs = 1,
                      .outputs = &output};
    struct stage_output o;
    assert_int_equal(batch_check(&b, &spec->limits, &err), 0);
    int rc = stage_forward(stage, &b, NULL, &o, &err);
    *ret_text = err.text;
    if (rc == 0)
        memcpy(ret_logits, o.rows, spec->limits.vocabulary * sizeof *ret_logits);
    return rc;
}

static void test_block_tables(void **state)
{
    struct sample *s = *state;
    struct stage *stage = open_stage(&s->spec);
    const uint32_t blocks[] = {7, 2, 11, 0};
    size_t bytes = s->spec.limits.vocabulary * sizeof(float);
    float *first = malloc(bytes);
    float *second = malloc(bytes);
    const char *text;
    assert_true(first && second);
#define RUN(to, ...) run(stage, &s->spec, tokens_at(__VA_ARGS__), to, &text)
    assert_int_equal(RUN(first, 1, 0, 5, 0, 0, NULL), ERR_INPUT);   /* no block at all */
    assert_int_equal(RUN(first, 1, 0, 5, 1, 1, blocks), ERR_INPUT); /* a hole before it */
    assert_int_equal(RUN(first, 1, 0, 5, 0, 1, blocks), 0);
    assert_int_equal(RUN(first, 2, 0, 5, 0, 0, NULL), ERR_INPUT); /* another slot has none */
    assert_int_equal(RUN(first, 1, 5, 40, 0, 0, NULL), 0);
    assert_int_equal(RUN(first, 1, 45, 20, 0, 0, NULL), ERR_INPUT); /* past its block */
    assert_non_null(strstr(text, "too few"));
    assert_int_equal(RUN(first, 1, 45, 20, 1, 1, blocks + 1), 0);
    assert_int_equal(RUN(second, 1, 45, 20, 3, 1, blocks + 3), ERR_INPUT);
    assert_int_equal(RUN(second, 1, 45, 20, 0, 0, NULL), 0); /* the refused one left no trace */
    assert_memory_equal(first, second, bytes);
    /* The slot's next request has one block; entries of the last one are gone. */
    assert_int_equal(RUN(first, 1, 0, 5, 0, 1, blocks + 3), 0);
    assert_int_equal(RUN(first, 1, 45, 20, 0, 0, NULL), ERR_INPUT);
    free(first);
    free(second);
    stage_free(stage);
}

static void test_entrance(void **state)
{
    struct sample *s = *state;
    const uint32_t block = 0;
    const uint32_t token = 1;
    const float in[4096] = {0};
    struct batch_sequence sequence = tokens_at(0, 0, 1, 0, 1, &block);
    struct batch b = {.n_rows = 1, .tokens = &token, .n_sequences = 1, .sequences = &sequence};
    struct stage_output o;
    for (int first = 0; first < 2; first++) {
        s->spec.first_layer = first;
        s->spec.end_layer = first + 1;
        struct stage *stage = open_stage(&s->spec);
        assert_int_equal(stage_forward(stage, &b, first ? NULL : in, &o, NULL), ERR_INPUT);
        assert_int_equal(stage_forward(stage, &b, first ? in : NULL, &o, NULL), 0);
        assert_non_null(o.hidden);
        assert_int_equal(o.n_results, 0);
        stage_free(stage);
    }
}

enum { ROWS = 33 }; /* more than the head has at a time */

/* All rows that outputs of the kind bring back, in two steps, since so many are not possible in
 * one. */
static float *rows_of_kind(struct stage *stage, struct batch b, enum batch_output_kind kind,
                           size_t width)
{
    struct batch_output outputs[ROWS] = {0};
    struct stage_output o;
    float *rows = malloc(ROWS * width * sizeof *rows);
    assert_non_null(rows);
    for (uint32_t i = 0; i < ROWS; i++)
        outputs[i] = (struct batch_output){.row = i, .kind = kind};
    for (uint32_t at = 0; at < ROWS; at += BATCH_LOGIT_ROWS) {
        b.outputs = outputs + at;
        b.n_outputs = ROWS - at < BATCH_LOGIT_ROWS ? ROWS - at : BATCH_LOGIT_ROWS;
        assert_int_equal(stage_forward(stage, &b, NULL, &o, NULL), 0);
        assert_int_equal(o.n_values, b.n_outputs * width);
        memcpy(rows + at * width, o.rows, o.n_values * sizeof *rows);
    }
    return rows;
}

/* 1e-5: a float of about -10 has an ulp of 1e-6, and the sum is in float */
static void check_logprob(const struct batch_result *r, const float *row, size_t vocabulary)
{
    int best = golden_argmax(row, (int)vocabulary);
    double sum = 0;
    for (size_t j = 0; j < vocabulary; j++)
        sum += exp((double)row[j] - row[best]);
    if (r->kind == BATCH_SAMPLE)
        assert_int_equal(r->token, best);
    assert_true(fabs(r->logprob - ((double)row[r->token] - row[best] - log(sum))) < 1e-5);
}

/* Of all kinds by turns. */
static void test_outputs_of_all_kinds(void **state)
{
    struct sample *s = *state;
    struct stage *stage = open_stage(&s->spec);
    const uint32_t block = 4;
    size_t vocabulary = s->spec.limits.vocabulary, hidden = (size_t)s->spec.model->hidden_size;
    uint32_t tokens[ROWS];
    struct batch_output outputs[ROWS] = {0};
    for (uint32_t i = 0; i < ROWS; i++) {
        tokens[i] = i * 31 % 500;
        outputs[i] =
            (struct batch_output){.row = i, .kind = (enum batch_output_kind)(i % 4), .target = i};
        outputs[i].sampling.top_p = outputs[i].sampling.repetition_penalty = 1;
        outputs[i].sampling.logprobs = true;
    }
    struct batch_sequence sequence = tokens_at(0, 0, ROWS, 0, 1, &block);
    struct batch b = {.n_rows = ROWS, .tokens = tokens, .n_sequences = 1, .sequences = &sequence};
    struct stage_output o;
    float *logits = rows_of_kind(stage, b, BATCH_LOGITS, vocabulary);
    float *states = rows_of_kind(stage, b, BATCH_EMBED, hidden);
    b.outputs = outputs;
    b.n_outputs = ROWS;
    assert_int_equal(batch_check(&b, &s->spec.limits, NULL), 0);
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(stage_forward(stage, &b, NULL, &o, NULL), 0);
    assert_int_equal(mallinfo2().uordblks, before.uordblks);
    assert_int_equal(o.n_results, ROWS);
    const float *at = o.rows;
    for (uint32_t i = 0; i < ROWS; i++) {
        const float *row = logits + i * vocabulary, *kept = row;
        assert_int_equal(o.results[i].row, i);
        assert_int_equal(o.results[i].kind, i % 4);
        if (i % 4 == BATCH_SAMPLE || i % 4 == BATCH_SCORE)
            check_logprob(&o.results[i], row, vocabulary);
        if (i % 4 == BATCH_EMBED)
            kept = states + i * hidden;
        size_t n = batch_row_values(outputs[i].kind, (uint32_t)vocabulary, (uint32_t)hidden);
        assert_memory_equal(at, kept, n * sizeof *at);
        at += n;
    }
    assert_int_equal(at - o.rows, o.n_values);
    free(logits);
    free(states);
    stage_free(stage);
}

static void test_allocates_nothing(void **state)
{
    struct sample *s = *state;
    struct stage *stage = open_stage(&s->spec);
    const uint32_t blocks[] = {1, 2};
    float logits[4096];
    const char *text;
    assert_int_equal(RUN(logits, 0, 0, 40, 0, 1, blocks), 0); /* starts the threads */
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(RUN(logits, 1, 0, 40, 0, 1, blocks + 1), 0);
    assert_int_equal(RUN(logits, 1, 40, 1, 0, 0, NULL), 0);
    struct mallinfo2 after = mallinfo2();
    assert_int_equal(after.uordblks, before.uordblks);
    assert_int_equal(after.hblkhd, before.hblkhd);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_specifications, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_block_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entrance, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_outputs_of_all_kinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_allocates_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
