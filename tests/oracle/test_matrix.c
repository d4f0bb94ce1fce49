/* Every way to compute the same thing, against one of them: instruction sets × threads × stages ×
 * chunks of the prompt × alone or among others. What must be equal: SHA-256 of all logits of a
 * 300-token prompt, and 64 tokens after it, greedy and drawn with a seed.
 *
 *   test_matrix [NAME...]   only models whose name contains one of these
 *   test_matrix --full …    in every way
 *   test_matrix --pairs …   in so many that every two settings meet: each instruction set with each
 *                           chunk, each number of stages with each of threads …; not scalar
 *   test_matrix --one …     in one
 *
 * Without an option, small models take every way but of the scalar set, whose pairs meet; the
 * published one (PACELINE_TEST_MODEL) takes --pairs: in every way it takes more than an hour.
 *
 * The digests are printed: equal lines from two machines are equal bits. */
#include "chain.h"
#include "model_set.h"

#include "model/manifest.h"

#include <omp.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT = 300, GENERATED = 64, OTHERS = CHAIN_SLOTS - 1, OWN_SLOT = 3, SKIPPED = 77 };
enum { CHUNKS = 4, STAGES = 3, THREADS = 2 };

/* By index into what there is of each. */
enum { WAY_ISA, WAY_CHUNK, WAY_STAGES, WAY_THREADS, WAY_COMPANY, WAY_SETTINGS };

struct way {
    int of[WAY_SETTINGS];
};

enum { MOST_WAYS = ISAS * CHUNKS * STAGES * THREADS * 2 };

struct ways {
    int n;
    struct way list[MOST_WAYS];
};

enum extent { EXTENT_USUAL, EXTENT_FULL, EXTENT_PAIRS, EXTENT_ONE };

struct outcome {
    unsigned char logits[DIGEST_BYTES];
    uint32_t greedy[GENERATED], drawn[GENERATED];
    float logprobs[GENERATED]; /* of the drawn ones */
};

struct run {
    struct chain chain;
    bool company;
    uint32_t steps;
    uint32_t other_position[CHAIN_SLOTS];
    uint32_t prompt[PROMPT];
};

static struct {
    char **names;
    int n_names;
    enum extent extent;
} arguments;

static const int chunks[CHUNKS] = {1, 7, 64, 512};

/* Any fixed sequence of ids does; this one does not repeat early. */
static uint32_t matrix_token(uint32_t vocabulary, uint32_t i)
{
    uint32_t x = i * 2654435761u + 12345u;
    x ^= x >> 15;
    x *= 2246822519u;
    return (x ^ x >> 13) % vocabulary;
}

static struct batch_output matrix_other_output(uint32_t row, uint32_t slot, uint32_t position)
{
    return (struct batch_output){
        .row = row,
        .sequence = slot,
        .kind = BATCH_SAMPLE,
        .position = position,
        .sampling = {.seed = slot, .temperature = 1, .top_p = 0.9f, .repetition_penalty = 1},
    };
}

/* One step of the own sequence, `count` tokens at `position`, among the others if they are there;
 * each other brings one to three tokens, and begins anew when it has become long. `outputs` name
 * rows of the own part. `repeat`: the same step as before, for other outputs of it. */
static void matrix_step(struct run *r, const uint32_t *tokens, uint32_t position, uint32_t count,
                        const struct batch_output *outputs, uint32_t n_outputs, bool repeat,
                        struct stage_output *ret_output, uint32_t *ret_first)
{
    struct chain_part parts[CHAIN_SLOTS];
    struct batch_output all[CHAIN_SLOTS + BATCH_LOGIT_ROWS];
    uint32_t other[CHAIN_SLOTS][3];
    uint32_t n_parts = 0, n_all = 0, rows = 0;
    r->steps += !repeat;
    for (uint32_t slot = 0; slot < CHAIN_SLOTS; slot++) {
        if (slot == OWN_SLOT) {
            *ret_first = n_all;
            for (uint32_t i = 0; i < n_outputs; i++) {
                all[n_all] = outputs[i];
                all[n_all++].row += rows;
            }
            parts[n_parts++] = (struct chain_part){slot, position, count, tokens};
            rows += count;
            continue;
        }
        if (!r->company)
            continue;
        const uint32_t n = 1 + (r->steps + slot) % 3;
        uint32_t at = r->other_position[slot];
        at = at + n > 100 + slot * 20 ? 0 : at;
        for (uint32_t i = 0; i < n; i++)
            other[slot][i] = matrix_token(r->chain.limits.vocabulary, 7919 * slot + at + i);
        parts[n_parts++] = (struct chain_part){slot, at, n, other[slot]};
        rows += n;
        all[n_all++] = matrix_other_output(rows - 1, slot, at + n);
        /* A repeated step finds the others where they were. */
        r->other_position[slot] = repeat || n_outputs == 0 ? at : at + n;
    }
    chain_step(&r->chain, parts, n_parts, all, n_all, ret_output);
}

static void matrix_prompt(struct run *r, int chunk, unsigned char ret_digest[DIGEST_BYTES])
{
    const size_t row_bytes = r->chain.limits.vocabulary * sizeof(float);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    assert_true(digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL));
    for (int at = 0; at < PROMPT; at += chunk) {
        const int count = PROMPT - at < chunk ? PROMPT - at : chunk;
        for (int first = 0; first < count; first += BATCH_LOGIT_ROWS) {
            struct batch_output outputs[BATCH_LOGIT_ROWS] = {0};
            uint32_t n = 0, begin;
            for (int row = first; row < count && row < first + BATCH_LOGIT_ROWS; row++)
                outputs[n++] = (struct batch_output){
                    .row = (uint32_t)row, .sequence = OWN_SLOT, .kind = BATCH_LOGITS};
            struct stage_output o;
            matrix_step(r, r->prompt + at, (uint32_t)at, (uint32_t)count, outputs, n, first > 0, &o,
                        &begin);
            assert_int_equal(o.n_values * sizeof(float), n * row_bytes);
            assert_true(EVP_DigestUpdate(digest, o.rows, n * row_bytes));
        }
    }
    assert_true(EVP_DigestFinal_ex(digest, ret_digest, NULL));
    EVP_MD_CTX_free(digest);
}

/* From the last token of the prompt on, whose keys and values are written once more. */
static void matrix_generate(struct run *r, float temperature, uint32_t *tokens, float *logprobs)
{
    uint32_t token = r->prompt[PROMPT - 1];
    for (uint32_t i = 0; i < GENERATED; i++) {
        const uint32_t position = PROMPT - 1 + i;
        const struct batch_output output = {
            .sequence = OWN_SLOT,
            .kind = BATCH_SAMPLE,
            .position = position + 1,
            .sampling = {.seed = 42,
                         .temperature = temperature,
                         .top_p = 0.95f,
                         .top_k = 40,
                         .repetition_penalty = 1,
                         .logprobs = true},
        };
        struct stage_output o;
        uint32_t at;
        matrix_step(r, &token, position, 1, &output, 1, false, &o, &at);
        assert_false(o.results[at].not_a_number);
        token = tokens[i] = o.results[at].token;
        if (logprobs)
            logprobs[i] = o.results[at].logprob;
    }
}

static void matrix_run(const struct chain_model *m, struct way way, struct outcome *ret_outcome)
{
    struct run r = {.company = way.of[WAY_COMPANY]};
    memset(ret_outcome, 0, sizeof *ret_outcome);
    omp_set_num_threads(1 + way.of[WAY_THREADS]);
    chain_open(&r.chain, m, kernels_isa_name(way.of[WAY_ISA]), 1 + way.of[WAY_STAGES], KV_F16);
    for (uint32_t i = 0; i < PROMPT; i++)
        r.prompt[i] = matrix_token(r.chain.limits.vocabulary, 1000000 + i);
    matrix_prompt(&r, chunks[way.of[WAY_CHUNK]], ret_outcome->logits);
    matrix_generate(&r, 0, ret_outcome->greedy, NULL);
    matrix_generate(&r, 0.8f, ret_outcome->drawn, ret_outcome->logprobs);
    chain_close(&r.chain);
}

static void matrix_compare(const char *name, struct way way, const struct outcome *got,
                           const struct outcome *want)
{
    const char *what = memcmp(got->logits, want->logits, sizeof want->logits) != 0 ? "logits"
                       : memcmp(got->greedy, want->greedy, sizeof want->greedy) != 0
                           ? "greedy tokens"
                       : memcmp(got, want, sizeof *want) != 0 ? "drawn tokens"
                                                              : NULL;
    if (what)
        fail_msg("%s: other %s on %s with %d threads, %d stages, chunks of %d, %s", name, what,
                 kernels_isa_name(way.of[WAY_ISA]), 1 + way.of[WAY_THREADS], 1 + way.of[WAY_STAGES],
                 chunks[way.of[WAY_CHUNK]], way.of[WAY_COMPANY] ? "among others" : "alone");
}

static void matrix_print(const char *name, const struct outcome *o, int ways)
{
    char logits[2 * DIGEST_BYTES + 1], tokens[2 * DIGEST_BYTES + 1];
    unsigned char digest[DIGEST_BYTES];
    manifest_hex(o->logits, logits);
    assert_true(
        EVP_Digest(o->greedy, sizeof *o - sizeof o->logits, digest, NULL, EVP_sha256(), NULL));
    manifest_hex(digest, tokens);
    printf("digest %s: logits %.16s tokens %.16s\n%d ways\n", name, logits, tokens, ways);
}

/* All ways of the instruction sets first … end. */
static void ways_fill(struct ways *w, int first, int end, int stages)
{
    w->n = 0;
    for (int isa = first; isa < end; isa++)
        for (int i = 0; kernels_isa_is_offered(isa) && i < CHUNKS * stages * THREADS * 2; i++)
            w->list[w->n++] =
                (struct way){{isa, i % CHUNKS, i / CHUNKS % stages, i / CHUNKS / stages % THREADS,
                              i / CHUNKS / stages / THREADS}};
}

/* Which two values of two settings have met. */
struct meetings {
    bool met[WAY_SETTINGS][ISAS + CHUNKS][WAY_SETTINGS][ISAS + CHUNKS];
};

/* How many meet first in this way; they have met then, if `take`. */
static int meetings_count(struct meetings *m, const struct way *w, bool take)
{
    int n = 0;
    for (int a = 0; a < WAY_SETTINGS; a++)
        for (int b = a + 1; b < WAY_SETTINGS; b++) {
            bool *met = &m->met[a][w->of[a]][b][w->of[b]];
            n += !*met;
            *met |= take;
        }
    return n;
}

/* Keeps ways until every two values of two settings have met that meet in any way: the one that
 * brings most, until none brings any. */
static void ways_keep_pairs(struct ways *w)
{
    struct meetings m = {0};
    struct ways kept = {0};
    for (;;) {
        int best = 0, most = 0;
        for (int i = 0; i < w->n; i++) {
            const int n = meetings_count(&m, &w->list[i], false);
            if (n > most) {
                most = n;
                best = i;
            }
        }
        if (most == 0)
            break;
        meetings_count(&m, &w->list[best], true);
        kept.list[kept.n++] = w->list[best];
    }
    *w = kept;
}

static void matrix_check(const char *name, const struct chain_model *m, bool is_published)
{
    const enum extent extent =
        arguments.extent == EXTENT_USUAL && is_published ? EXTENT_PAIRS : arguments.extent;
    struct ways ways;
    struct outcome want, got;
    const int stages = m->config.n_layers < STAGES ? m->config.n_layers : STAGES;
    ways_fill(&ways, ISA_SCALAR + 1, ISAS, stages);
    if (ways.n == 0) /* the machine has no other */
        ways_fill(&ways, ISA_SCALAR, ISA_SCALAR + 1, stages);
    else if (extent == EXTENT_FULL || extent == EXTENT_USUAL) {
        struct ways scalar;
        ways_fill(&scalar, ISA_SCALAR, ISA_SCALAR + 1, stages);
        if (extent == EXTENT_USUAL)
            ways_keep_pairs(&scalar);
        memcpy(ways.list + ways.n, scalar.list, (size_t)scalar.n * sizeof *scalar.list);
        ways.n += scalar.n;
    }
    if (extent == EXTENT_PAIRS)
        ways_keep_pairs(&ways);
    if (extent == EXTENT_ONE)
        ways.n = 1;
    for (int i = 0; i < ways.n; i++) {
        matrix_run(m, ways.list[i], i == 0 ? &want : &got);
        if (i > 0)
            matrix_compare(name, ways.list[i], &got, &want);
    }
    matrix_print(name, &want, ways.n);
}

static bool matrix_is_wanted(const char *name)
{
    for (int i = 0; i < arguments.n_names; i++)
        if (strstr(name, arguments.names[i]))
            return true;
    return arguments.n_names == 0;
}

static void test_tiny_models(void **state)
{
    struct model_entry entries[MODEL_SET_SIZE];
    const size_t n = model_set_read(entries);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct chain_model m;
        if (!matrix_is_wanted(entries[i].name))
            continue;
        chain_open_model(&m, entries[i].path);
        matrix_check(entries[i].name, &m, false);
        chain_close_model(&m);
    }
}

/* Without the scalar set, which takes an hour for a prompt of a real model (--full has it);
 * test_real_model has it with a short one. */
static void test_published_model(void **state)
{
    const char *path = getenv("PACELINE_TEST_MODEL");
    struct chain_model m;
    (void)state;
    if (!path || !*path || !matrix_is_wanted("published"))
        skip();
    chain_open_model(&m, path);
    matrix_check("published", &m, true);
    chain_close_model(&m);
}

int main(int argc, char **argv)
{
    const char *published = getenv("PACELINE_TEST_MODEL");
    setvbuf(stdout, NULL, _IOLBF, 0);
    const int options = argc > 1 && strncmp(argv[1], "--", 2) == 0;
    if (options)
        arguments.extent = strcmp(argv[1], "--full") == 0    ? EXTENT_FULL
                           : strcmp(argv[1], "--pairs") == 0 ? EXTENT_PAIRS
                                                             : EXTENT_ONE;
    arguments.names = argv + 1 + options;
    arguments.n_names = argc - 1 - options;
    if (matrix_is_wanted("published") && arguments.n_names > 0 && (!published || !*published)) {
        puts("PACELINE_TEST_MODEL names no file: skipped");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_models),
        cmocka_unit_test(test_published_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
