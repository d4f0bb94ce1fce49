#include "worker/self_test_weights.h"

#include "kernels/matmul.h"
#include "kernels/philox.h"
#include "kernels/quant.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = 256,
    INNER = 512,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 64,
    MOST_COLUMNS = INNER,
    MOST_BLOCK = 256,  /* bytes and elements of one */
    SOURCE_ROWS = 16,  /* of a matrix; its others repeat them */
    LAYER_MATRICES = 7 /* and one: the head */
};

static const uint32_t self_test_key[2] = {0x70616365, 0x6c696e65};

static void self_test_draw(uint32_t sequence, uint32_t place, uint32_t attempt,
                           uint32_t ret_words[4])
{
    const uint32_t counter[4] = {place, sequence, attempt, 0};
    philox4x32(counter, self_test_key, ret_words);
}

static float self_test_float(uint32_t word)
{
    return (float)((int32_t)word >> 8) * 0x1p-23f;
}

float self_test_uniform(uint32_t sequence, uint32_t place)
{
    uint32_t words[4];
    self_test_draw(sequence, place, 0, words);
    return self_test_float(words[0]);
}

/* ---- rows of every type ---- */

static void self_test_fill_floats(int type, uint32_t sequence, unsigned char *to, int n)
{
    for (int i = 0; i < n; i++) {
        float value = self_test_uniform(sequence, (uint32_t)i);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t half = type == TENSOR_F16 ? quant_f32_to_f16(value) : (uint16_t)(bits >> 16);
        if (type == TENSOR_F32)
            memcpy(to + (size_t)i * sizeof value, &value, sizeof value);
        else
            memcpy(to + (size_t)i * sizeof half, &half, sizeof half);
    }
}

/* Of weights as models have them: numbers, not all of them tiny and none huge. */
static bool self_test_is_usable(int type, const unsigned char *block)
{
    float values[MOST_BLOCK], largest = 0;
    const int n = quant_block_elements(type);
    quant_unpack_row(type, block, values, n);
    for (int i = 0; i < n; i++) {
        if (!(fabsf(values[i]) <= 2))
            return false;
        largest = fmaxf(largest, fabsf(values[i]));
    }
    return largest >= 0x1p-5f;
}

/* Random bytes, drawn until they are usable: their scales may be anything. */
static void self_test_fill_block(int type, uint32_t sequence, uint32_t number, unsigned char *to)
{
    unsigned char bytes[MOST_BLOCK + 16];
    const int size = quant_block_bytes(type);
    assert(size <= MOST_BLOCK);
    for (uint32_t attempt = 0; attempt == 0 || !self_test_is_usable(type, bytes); attempt++)
        for (int at = 0; at < size; at += 16)
            self_test_draw(sequence, number << 4 | (uint32_t)at / 16, attempt,
                           (uint32_t *)(void *)(bytes + at));
    memcpy(to, bytes, (size_t)size);
}

static void self_test_fill_row(int type, uint32_t sequence, unsigned char *to, int cols)
{
    const int elements = quant_block_elements(type);
    if (elements == 1) {
        self_test_fill_floats(type, sequence, to, cols);
        return;
    }
    for (int i = 0; i < cols / elements; i++)
        self_test_fill_block(type, sequence, (uint32_t)i, to + (size_t)i * quant_block_bytes(type));
}

/* ---- the model ---- */

static void self_test_describe(struct model_config *c)
{
    *c = (struct model_config){.n_layers = SELF_TEST_LAYERS,
                               .hidden_size = HIDDEN,
                               .intermediate_size = INNER,
                               .n_heads = HEADS,
                               .n_kv_heads = KV_HEADS,
                               .head_dim = HEAD_DIM,
                               .vocabulary_size = SELF_TEST_LOGITS,
                               .context_length = 64,
                               .rms_eps = 1e-6f,
                               .rope_base = 1e4,
                               .rope_dim = HEAD_DIM,
                               .qkv_bias = true,
                               .qk_norm = true};
}

/* The matrices in their order take the types in theirs, and begin again. */
static int self_test_next_type(int type)
{
    do
        type = type == TENSOR_MXFP4 ? TENSOR_F32 : type + 1;
    while (!quant_type_is_supported(type));
    return type;
}

struct self_test_maker {
    struct self_test_weights *w;
    unsigned char *rows; /* of one matrix as a file has them; NULL while memory is measured */
    uint32_t sequence;   /* of the next array */
    int type;            /* of the next matrix */
};

static void self_test_make_matrix(struct self_test_maker *m, struct matrix *to, int rows, int cols)
{
    const int type = m->type;
    const size_t row_bytes = quant_row_bytes(type, cols);
    void *memory = region_take(&m->w->region, 1, matrix_bytes((enum tensor_type)type, rows, cols));
    m->type = self_test_next_type(type);
    for (int i = 0; m->rows && i < rows; i++) {
        if (i < SOURCE_ROWS)
            self_test_fill_row(type, m->sequence++, m->rows + (size_t)i * row_bytes, cols);
        else
            memcpy(m->rows + (size_t)i * row_bytes, m->rows + (size_t)(i % SOURCE_ROWS) * row_bytes,
                   row_bytes);
    }
    if (m->rows)
        matrix_pack(to, memory, (enum tensor_type)type, rows, cols, m->rows);
}

static const float *self_test_make_vector(struct self_test_maker *m, int n, float middle)
{
    float *to = region_take(&m->w->region, (size_t)n, sizeof *to);
    for (int i = 0; m->rows && i < n; i++)
        to[i] = middle + 0.5f * self_test_uniform(m->sequence, (uint32_t)i);
    m->sequence++;
    return to;
}

static void self_test_make_layer(struct self_test_maker *m, struct layer_weights *to)
{
    const int q = HEADS * HEAD_DIM, kv = KV_HEADS * HEAD_DIM;
    to->attention_norm = self_test_make_vector(m, HIDDEN, 1);
    self_test_make_matrix(m, &to->q, q, HIDDEN);
    self_test_make_matrix(m, &to->k, kv, HIDDEN);
    self_test_make_matrix(m, &to->v, kv, HIDDEN);
    to->q_bias = self_test_make_vector(m, q, 0);
    to->k_bias = self_test_make_vector(m, kv, 0);
    to->v_bias = self_test_make_vector(m, kv, 0);
    to->q_norm = self_test_make_vector(m, HEAD_DIM, 1);
    to->k_norm = self_test_make_vector(m, HEAD_DIM, 1);
    self_test_make_matrix(m, &to->attention_output, HIDDEN, q);
    to->ffn_norm = self_test_make_vector(m, HIDDEN, 1);
    self_test_make_matrix(m, &to->gate, INNER, HIDDEN);
    self_test_make_matrix(m, &to->up, INNER, HIDDEN);
    self_test_make_matrix(m, &to->down, HIDDEN, INNER);
}

/* Twice the same: first to measure, then to fill. */
static void self_test_make_all(struct self_test_weights *w, unsigned char *rows)
{
    struct self_test_maker m = {.w = w, .rows = rows, .type = TENSOR_F32};
    for (int i = 0; i < SELF_TEST_LAYERS; i++)
        self_test_make_layer(&m, &w->layers[i]);
    self_test_make_matrix(&m, &w->head, SELF_TEST_LOGITS, HIDDEN);
}

int self_test_weights_make(struct self_test_weights *w, struct err *err)
{
    *w = (struct self_test_weights){0};
    self_test_describe(&w->model);
    self_test_make_all(w, NULL);
    unsigned char *rows = malloc((size_t)INNER * MOST_COLUMNS * sizeof(float));
    int rc = rows ? region_claim(&w->region, err)
                  : err_set(err, ERR_MEMORY, "no memory for the self-test's weights");
    if (rc == 0)
        self_test_make_all(w, rows);
    free(rows);
    return rc;
}

void self_test_weights_clear(struct self_test_weights *w)
{
    region_release(&w->region);
}
