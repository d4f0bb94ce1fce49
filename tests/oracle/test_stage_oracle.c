/* Every dense model of the set: near the golden values, and with the same bits however the work is
 * cut - stages, chunks, batches, threads, instruction sets. Bounds: README.md of this folder. */
#include "chain.h"
#include "golden.h"
#include "model_set.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct set {
    size_t n;
    struct model_entry entries[MODEL_SET_SIZE];
    int n_isas;
    const char *isas[ISAS]; /* that this machine has, the best one last */
};

static const char *only = ""; /* in the names of the models that are taken */

static int set_up(void **state)
{
    struct set *set = calloc(1, sizeof *set);
    assert_non_null(set);
    const size_t n = model_set_read(set->entries);
    for (size_t i = 0; i < n; i++)
        if (strstr(set->entries[i].name, only))
            set->entries[set->n++] = set->entries[i];
    assert_true(set->n > 0);
    for (int i = 0; i < ISAS; i++)
        if (kernels_isa_is_offered(i))
            set->isas[set->n_isas++] = kernels_isa_name(i);
    assert_true(set->n_isas >= 1);
    *state = set;
    return 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static const char *set_best(const struct set *set)
{
    return set->isas[set->n_isas - 1];
}

/* One model, its golden, and logits [rows, vocabulary] of every prompt computed in one way. */
struct subject {
    const struct model_entry *entry;
    struct chain_model model;
    struct golden golden;
    size_t bytes;
    float *reference, *other;
};

static void subject_open(struct subject *s, const struct model_entry *e)
{
    s->entry = e;
    chain_open_model(&s->model, e->path);
    golden_read(&s->golden, e->golden);
    assert_int_equal(s->model.config.vocabulary_size, s->golden.vocabulary);
    s->bytes = s->golden.rows * (size_t)s->golden.vocabulary * sizeof(float);
    s->reference = malloc(s->bytes);
    s->other = malloc(s->bytes);
    assert_true(s->reference && s->other);
}

static void subject_close(struct subject *s)
{
    free(s->reference);
    free(s->other);
    golden_clear(&s->golden);
    chain_close_model(&s->model);
}

static float *subject_row(const struct subject *s, float *logits, int prompt, int row)
{
    size_t at = s->golden.prompts[prompt].logits_row + (size_t)row;
    return logits + at * (size_t)s->golden.vocabulary;
}

/* All prompts, one after the other, each in its own sequence. */
static void subject_compute(const struct subject *s, struct chain *c, int chunk, float *to)
{
    memset(to, 0xff, s->bytes); /* NaN: a row that is not computed is found */
    for (int p = 0; p < s->golden.n_prompts; p++)
        chain_prompt_logits(c, (uint32_t)p, s->golden.prompts[p].ids, s->golden.prompts[p].n, chunk,
                            subject_row(s, to, p, 0));
}

/* All prompts side by side in each step, `chunk` tokens of each as long as it lasts. */
static void subject_compute_together(const struct subject *s, struct chain *c, int chunk, float *to)
{
    const struct golden *g = &s->golden;
    memset(to, 0xff, s->bytes);
    for (int at = 0;; at += chunk) {
        struct chain_part parts[CHAIN_SLOTS];
        struct batch_output outputs[BATCH_LOGIT_ROWS] = {0};
        float *rows[BATCH_LOGIT_ROWS];
        uint32_t n_parts = 0;
        uint32_t n_rows = 0;
        for (int p = g->n_prompts - 1; p >= 0; p--) {
            int left = g->prompts[p].n - at;
            if (left <= 0)
                continue;
            int count = left < chunk ? left : chunk;
            parts[n_parts++] = (struct chain_part){(uint32_t)p, (uint32_t)at, (uint32_t)count,
                                                   g->prompts[p].ids + at};
            for (int i = 0; i < count; i++, n_rows++) {
                outputs[n_rows] = (struct batch_output){
                    .row = n_rows, .sequence = (uint32_t)p, .kind = BATCH_LOGITS};
                rows[n_rows] = subject_row(s, to, p, at + i);
            }
        }
        if (n_parts == 0)
            return;
        struct stage_output o;
        chain_step(c, parts, n_parts, outputs, n_rows, &o);
        for (uint32_t i = 0; i < n_rows; i++)
            memcpy(rows[i], o.rows + (size_t)i * (size_t)g->vocabulary,
                   (size_t)g->vocabulary * sizeof(float));
    }
}

static void subject_compare(const struct subject *s, const char *isa, const char *what, int number)
{
    if (memcmp(s->reference, s->other, s->bytes) != 0)
        fail_msg("%s, %s, %s %d: other bits", s->entry->name, isa, what, number);
}

/* The reference: one stage, the best instruction set, chunks of 32. */
static void subject_reference(struct subject *s, const struct set *set, enum kv_type kv_type)
{
    struct chain c;
    chain_open(&c, &s->model, set_best(set), 1, kv_type);
    subject_compute(s, &c, BATCH_LOGIT_ROWS, s->reference);
    chain_close(&c);
}

static void for_each_subject(void **state, void (*check)(const struct set *, struct subject *))
{
    const struct set *set = *state;
    for (size_t i = 0; i < set->n; i++) {
        struct subject s;
        subject_open(&s, &set->entries[i]);
        check(set, &s);
        subject_close(&s);
    }
}

static const char *const kv_names[KV_TYPES] = {"f16", "f32", "q8_0"};

static void check_distance(const struct subject *s, enum kv_type kv_type,
                           const struct golden_distance *d)
{
    printf("%-24s kv %s: max |d| %.2e, of the range %.2e, KL mean %.1e max %.1e, argmax %zu/%zu\n",
           s->entry->name, kv_names[kv_type], d->max_abs, d->max_relative, d->mean_kl, d->max_kl,
           d->same_argmax, d->rows);
    if (!s->entry->is_float) {
        assert_true(d->mean_kl <= 1e-2);
        assert_true(d->max_kl <= 5e-2);
    } else if (kv_type == KV_F32) {
        assert_true(d->max_abs <= 1e-3);
        assert_true(d->max_relative <= 2e-3);
        assert_int_equal(d->wrong_argmax, 0);
    } else {
        assert_true(d->mean_kl <= 1e-3); /* of q8_0 too */
    }
}

/* Greedy continuations, fed with the golden tokens: a differing choice is an error wherever the
 * margin is above twice the distance that the logits have. */
static void check_greedy(const struct set *set, struct subject *s, enum kv_type kv_type,
                         double distance)
{
    struct chain c;
    int differing = 0;
    int steps = 0;
    chain_open(&c, &s->model, set_best(set), s->model.config.n_layers, kv_type);
    for (int p = 0; p < s->golden.n_prompts; p++) {
        const struct golden_prompt *g = &s->golden.prompts[p];
        uint32_t slot = (uint32_t)p;
        struct batch_result r = chain_greedy(&c, slot, 0, g->ids, (uint32_t)g->n);
        for (int i = 0; i < g->n_greedy; i++, steps++) {
            assert_false(r.not_a_number);
            differing += r.token != g->greedy[i];
            if (r.token != g->greedy[i] && g->margin[i] > 2 * distance)
                fail_msg("%s, prompt %d: token %d is %u, golden %u by %g", s->entry->name, p, i,
                         r.token, g->greedy[i], g->margin[i]);
            r = chain_greedy(&c, slot, (uint32_t)(g->n + i), &g->greedy[i], 1);
        }
    }
    printf("%-24s kv %s: %d of %d greedy tokens differ\n", s->entry->name, kv_names[kv_type],
           differing, steps);
    chain_close(&c);
}

static void check_golden(const struct set *set, struct subject *s)
{
    static const enum kv_type types[] = {KV_F32, KV_F16, KV_Q8_0};
    for (size_t i = 0; i < KV_TYPES; i++) {
        if (types[i] == KV_Q8_0 && s->model.config.head_dim % KV_Q8_0_GROUP != 0)
            continue;
        struct golden_distance d;
        subject_reference(s, set, types[i]);
        golden_measure(&s->golden, s->reference, 2e-3, &d);
        check_distance(s, types[i], &d);
        check_greedy(set, s, types[i], d.max_abs);
    }
}

static void test_golden(void **state)
{
    for_each_subject(state, check_golden);
}

/* Residual stream after each layer but the last: what a stage hands on when every layer is one. */
static void check_hidden(const struct set *set, struct subject *s)
{
    const struct golden *g = &s->golden;
    if (!s->entry->is_float || g->hidden_entries == 0)
        return;
    int layers = s->model.config.n_layers;
    size_t size = (size_t)g->hidden_size;
    assert_int_equal(g->hidden_entries, layers + 2);
    const struct golden_prompt *p = g->prompts;
    while (p->n != g->hidden_rows)
        p++;
    struct chain c;
    struct stage_output o;
    struct chain_part part = {0, 0, (uint32_t)p->n, p->ids};
    double worst = 0;
    chain_open(&c, &s->model, set_best(set), layers, KV_F32);
    chain_step(&c, &part, 1, NULL, 0, &o);
    for (int layer = 0; layer + 1 < layers; layer++)
        for (int row = 0; row < g->hidden_rows; row++) {
            size_t at = ((size_t)(layer + 1) * (size_t)g->hidden_rows + (size_t)row) * size;
            double largest = 0;
            double difference = 0;
            for (size_t i = 0; i < size; i++) {
                double d =
                    fabs((double)c.hidden[layer][(size_t)row * size + i] - g->hidden[at + i]);
                largest = fmax(largest, fabs(g->hidden[at + i]));
                difference = d <= difference ? difference : d;
            }
            worst = difference / largest <= worst ? worst : difference / largest;
        }
    chain_close(&c);
    printf("%-24s hidden states: %.1e of the row's largest\n", s->entry->name, worst);
    assert_true(worst <= 1e-3);
}

static void test_hidden(void **state)
{
    for_each_subject(state, check_hidden);
}

/* Every instruction set × every number of stages. */
static void check_splits(const struct set *set, struct subject *s)
{
    subject_reference(s, set, KV_F16);
    for (int isa = 0; isa < set->n_isas; isa++)
        for (int stages = 1; stages <= s->model.config.n_layers; stages++) {
            struct chain c;
            chain_open(&c, &s->model, set->isas[isa], stages, KV_F16);
            subject_compute(s, &c, BATCH_LOGIT_ROWS, s->other);
            subject_compare(s, set->isas[isa], "number of stages", stages);
            chain_close(&c);
        }
}

static void test_splits(void **state)
{
    for_each_subject(state, check_splits);
}

static void check_f32_kv(const struct set *set, struct subject *s)
{
    subject_reference(s, set, KV_F32);
    for (int isa = 0; isa < set->n_isas; isa++) {
        struct chain c;
        chain_open(&c, &s->model, set->isas[isa], s->model.config.n_layers, KV_F32);
        subject_compute(s, &c, 7, s->other);
        subject_compare(s, set->isas[isa], "f32 keys and values, chunk", 7);
        chain_close(&c);
    }
}

static void test_f32_kv(void **state)
{
    for_each_subject(state, check_f32_kv);
}

/* Each prompt as one chunk; as many rows as give logits at once, spread over it. */
static void check_whole(struct subject *s, struct chain *c, const char *isa)
{
    for (int p = 0; p < s->golden.n_prompts; p++) {
        const struct golden_prompt *g = &s->golden.prompts[p];
        struct chain_part part = {(uint32_t)p, 0, (uint32_t)g->n, g->ids};
        struct batch_output outputs[BATCH_LOGIT_ROWS] = {0};
        int step = (g->n + BATCH_LOGIT_ROWS - 1) / BATCH_LOGIT_ROWS;
        uint32_t n = 0;
        for (int row = g->n - 1; row >= 0; row -= step)
            n++;
        for (uint32_t i = 0; i < n; i++)
            outputs[i] =
                (struct batch_output){.row = (uint32_t)g->n - 1 - (n - 1 - i) * (uint32_t)step,
                                      .sequence = (uint32_t)p,
                                      .kind = BATCH_LOGITS};
        struct stage_output o;
        chain_step(c, &part, 1, outputs, n, &o);
        for (uint32_t i = 0; i < n; i++)
            if (memcmp(o.rows + i * (size_t)s->golden.vocabulary,
                       subject_row(s, s->reference, p, (int)outputs[i].row),
                       (size_t)s->golden.vocabulary * sizeof(float)) != 0)
                fail_msg("%s, %s, whole prompt %d, row %u: other bits", s->entry->name, isa, p,
                         outputs[i].row);
    }
}

/* A prompt token by token, in pieces, whole; a row alone and among other sequences. */
static void check_chunks(const struct set *set, struct subject *s)
{
    static const int chunks[] = {1, 7, 64};
    subject_reference(s, set, KV_F16);
    for (int isa = 0; isa < set->n_isas; isa++) {
        struct chain c;
        chain_open(&c, &s->model, set->isas[isa], 1, KV_F16);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            subject_compute(s, &c, chunks[i], s->other);
            subject_compare(s, set->isas[isa], "chunk", chunks[i]);
        }
        check_whole(s, &c, set->isas[isa]);
        for (int chunk = 1; chunk <= BATCH_LOGIT_ROWS / s->golden.n_prompts; chunk += 3) {
            subject_compute_together(s, &c, chunk, s->other);
            subject_compare(s, set->isas[isa], "all prompts in a batch, chunk", chunk);
        }
        chain_close(&c);
    }
}

static void test_chunks(void **state)
{
    for_each_subject(state, check_chunks);
}

static void check_threads(const struct set *set, struct subject *s)
{
    subject_reference(s, set, KV_F16);
    int before = omp_get_max_threads();
    for (int isa = 0; isa < set->n_isas; isa++)
        for (int threads = 1; threads <= 2; threads++) {
            struct chain c;
            omp_set_num_threads(threads);
            chain_open(&c, &s->model, set->isas[isa], 1, KV_F16);
            subject_compute(s, &c, 16, s->other);
            subject_compare(s, set->isas[isa], "threads", threads);
            chain_close(&c);
        }
    omp_set_num_threads(before);
}

static void test_threads(void **state)
{
    for_each_subject(state, check_threads);
}

/* --only WORDS: the models with that in their names, for emulated processors. */
int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "--only") == 0)
        only = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_splits), cmocka_unit_test(test_f32_kv),
        cmocka_unit_test(test_chunks), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
