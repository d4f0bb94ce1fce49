/* codebook.c - codebook formats taken apart, and the loop over blocks of a product. */
#include "kernels/codebook.h"
#include "kernels/codebook_tables.h"
#include "kernels/quant.h"

#include <assert.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

/* Eight weights as the bytes of a word, element 0 lowest, as GGUF's little-endian machines have it;
 * four in half a word. */
static const uint64_t ones = UINT64_C(0x0101010101010101);

bool codebook_has(int type)
{
    switch (type) {
    case TENSOR_IQ2_XXS:
    case TENSOR_IQ2_XS:
    case TENSOR_IQ2_S:
    case TENSOR_IQ3_XXS:
    case TENSOR_IQ3_S:
    case TENSOR_IQ1_S:
    case TENSOR_IQ1_M:
    case TENSOR_TQ1_0:
    case TENSOR_TQ2_0:
        return true;
    default:
        return false;
    }
}

always_inline unsigned read_u16(const uint8_t *from)
{
    return from[0] | (unsigned)from[1] << 8;
}

always_inline uint32_t read_u32(const uint8_t *from)
{
    return read_u16(from) | (uint32_t)read_u16(from + 2) << 16;
}

always_inline float read_half(const uint8_t *from)
{
    return quant_f16_to_f32((uint16_t)read_u16(from));
}

always_inline void write_8(int8_t *to, uint64_t bytes)
{
    memcpy(to, &bytes, sizeof bytes);
}

/* Negates the bytes where `signs` is 255. No byte is 0, so adding 1 carries nowhere. */
always_inline uint64_t with_signs(uint64_t magnitudes, uint64_t signs)
{
    return (magnitudes ^ signs) + (signs & ones);
}

/* The two scales of 32 weights when they are one. */
always_inline void set_scales(int16_t *to, unsigned j, unsigned scale)
{
    to[2 * j] = to[2 * j + 1] = (int16_t)(2 * scale + 1);
}

/* Half d; for each 32 weights four bytes of indices, then 4 times 7 sign bits and a scale of 4. */
static void split_iq2_xxs(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from) * 0.125f;
    for (unsigned j = 0; j < 8; j++) {
        const uint8_t *index = from + 2 + 8 * j;
        const uint32_t signs = read_u32(index + 4);
        set_scales(b->scales, j, signs >> 28);
        for (unsigned l = 0; l < 4; l++)
            write_8(
                b->weights + 32 * j + 8 * l,
                with_signs(codebook_iq2_xxs[index[l]], codebook_even_signs[signs >> 7 * l & 127]));
    }
}

/* Nibbles, the low one first: scales of 16 weights each. */
static void split_nibble_scales(const uint8_t *from, int16_t *to)
{
    for (int j = 0; j < 16; j++)
        to[j] = (int16_t)(2 * (from[j / 2] >> j % 2 * 4 & 15) + 1);
}

/* Half d; 32 words of 9 bits index and 7 sign bits; scales. */
static void split_iq2_xs(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from) * 0.125f;
    split_nibble_scales(from + 66, b->scales);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned word = read_u16(from + 2 + 2 * l);
        write_8(b->weights + 8 * l,
                with_signs(codebook_iq2_xs[word & 511], codebook_even_signs[word >> 9]));
    }
}

/* Half d; 32 low bytes of indices; 32 bytes of signs; pairs of high bits; scales. */
static void split_iq2_s(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from) * 0.125f;
    split_nibble_scales(from + 74, b->scales);
    for (unsigned l = 0; l < 32; l++) {
        const unsigned high = from[66 + l / 4] >> l % 4 * 2 & 3;
        write_8(b->weights + 8 * l,
                with_signs(codebook_iq2_s[from[2 + l] | high << 8], codebook_signs[from[34 + l]]));
    }
}

/* Half d; 64 indices; for each 32 weights 4 times 7 sign bits and a scale of 4. */
static void split_iq3_xxs(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from) * 0.25f;
    for (unsigned j = 0; j < 8; j++) {
        const uint8_t *index = from + 2 + 8 * j;
        const uint32_t signs = read_u32(from + 66 + 4 * j);
        set_scales(b->scales, j, signs >> 28);
        for (unsigned l = 0; l < 4; l++)
            write_8(b->weights + 32 * j + 8 * l,
                    with_signs(codebook_iq3_xxs[index[2 * l]] |
                                   (uint64_t)codebook_iq3_xxs[index[2 * l + 1]] << 32,
                               codebook_even_signs[signs >> 7 * l & 127]));
    }
}

/* Half d; 64 low bytes of indices; their ninth bits; 32 bytes of signs; 8 scales of 4 bits. */
static void split_iq3_s(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from);
    for (unsigned j = 0; j < 8; j++) {
        const uint8_t *index = from + 2 + 8 * j;
        const unsigned high = from[66 + j];
        set_scales(b->scales, j, from[106 + j / 2] >> j % 2 * 4 & 15);
        for (unsigned l = 0; l < 4; l++) {
            const unsigned first = index[2 * l] | (high << (8 - 2 * l) & 256);
            const unsigned second = index[2 * l + 1] | (high << (7 - 2 * l) & 256);
            write_8(b->weights + 32 * j + 8 * l,
                    with_signs(codebook_iq3_s[first] | (uint64_t)codebook_iq3_s[second] << 32,
                               codebook_signs[from[74 + 4 * j + l]]));
        }
    }
}

/* A grid entry of IQ1, moved by an eighth of its step: 8 · entry ± 1. */
always_inline uint64_t iq1_weights(unsigned index, unsigned down)
{
    /* No branch: half of them would be mispredicted. */
    return (codebook_iq1[index] + ones * (1 - (uint64_t)(2 * down))) ^ ones << 7;
}

/* Half d; 32 low bytes of indices; for each 32 weights four times 3 high bits, 3 bits of scale, and
 * the direction. */
static void split_iq1_s(const uint8_t *from, struct codebook_block *b)
{
    b->scale = read_half(from) * 0.125f;
    for (unsigned j = 0; j < 8; j++) {
        const unsigned high = read_u16(from + 34 + 2 * j);
        set_scales(b->scales, j, high >> 12 & 7);
        for (unsigned l = 0; l < 4; l++)
            write_8(b->weights + 32 * j + 8 * l,
                    iq1_weights(from[2 + 4 * j + l] | (high >> 3 * l & 7) << 8, high >> 15));
    }
}

/* 32 low bytes of indices; for each a nibble: 3 high bits and the direction; four words, each with
 * four scales of 3 bits and, on top, a quarter of d. */
static void split_iq1_m(const uint8_t *from, struct codebook_block *b)
{
    unsigned half = 0;
    for (unsigned j = 0; j < 4; j++) {
        const unsigned word = read_u16(from + 48 + 2 * j);
        half |= word >> 12 << 4 * j;
        for (unsigned l = 0; l < 4; l++)
            b->scales[4 * j + l] = (int16_t)(2 * (word >> 3 * l & 7) + 1);
    }
    b->scale = quant_f16_to_f32((uint16_t)half) * 0.125f;
    for (unsigned l = 0; l < 32; l++) {
        const unsigned high = from[32 + l / 2] >> l % 2 * 4;
        write_8(b->weights + 8 * l, iq1_weights(from[l] | (high & 7) << 8, high >> 3 & 1));
    }
}

/* `n` bytes hold five or four ternary digits each, as a fraction of 256: digit f of all of them,
 * then digit f + 1. */
static void split_digits(const uint8_t *from, int n, int digits, int8_t *to)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (int f = 0; f < digits; f++)
        for (int i = 0; i < n; i++) {
            const uint8_t rest = (uint8_t)(from[i] * powers[f]);
            to[f * n + i] = (int8_t)((rest * 3 >> 8) - 1);
        }
}

/* 48 bytes of five digits, 32 and then 16; 4 of four; half d. */
static void split_tq1_0(const uint8_t *from, struct codebook_block *b)
{
    split_digits(from, 32, 5, b->weights);
    split_digits(from + 32, 16, 5, b->weights + 160);
    split_digits(from + 48, 4, 4, b->weights + 240);
    b->scale = read_half(from + 52);
}

/* 64 bytes; each 32 of them hold 128 weights, weight 32 f + i in bits 2f, 2f+1 of byte i; half d.
 */
static void split_tq2_0(const uint8_t *from, struct codebook_block *b)
{
    for (int h = 0; h < 2; h++)
        for (int f = 0; f < 4; f++)
            for (int i = 0; i < 32; i++)
                b->weights[128 * h + 32 * f + i] = (int8_t)((from[32 * h + i] >> 2 * f & 3) - 1);
    b->scale = read_half(from + 64);
}

void codebook_split(int type, const uint8_t *block, struct codebook_block *ret_block)
{
    switch (type) {
    case TENSOR_IQ2_XXS:
        split_iq2_xxs(block, ret_block);
        return;
    case TENSOR_IQ2_XS:
        split_iq2_xs(block, ret_block);
        return;
    case TENSOR_IQ2_S:
        split_iq2_s(block, ret_block);
        return;
    case TENSOR_IQ3_XXS:
        split_iq3_xxs(block, ret_block);
        return;
    case TENSOR_IQ3_S:
        split_iq3_s(block, ret_block);
        return;
    case TENSOR_IQ1_S:
        split_iq1_s(block, ret_block);
        return;
    case TENSOR_IQ1_M:
        split_iq1_m(block, ret_block);
        return;
    }
    assert(type == TENSOR_TQ1_0 || type == TENSOR_TQ2_0);
    for (int j = 0; j < 16; j++)
        ret_block->scales[j] = 1;
    if (type == TENSOR_TQ1_0)
        split_tq1_0(block, ret_block);
    else
        split_tq2_0(block, ret_block);
}

void codebook_unpack(int type, const uint8_t *block, float *to)
{
    struct codebook_block b;
    codebook_split(type, block, &b);
    for (int i = 0; i < 256; i++)
        to[i] = b.scale * (float)b.scales[i / 16] * (float)b.weights[i];
}

/* Accumulates in y, block after block. */
static void product(int type, const struct matmul_tile *t)
{
    const size_t bytes = (size_t)quant_block_bytes(type);
    for (int r = 0; r < t->rows; r++)
        memset(t->y + (size_t)r * t->y_stride, 0, (size_t)t->groups * MATMUL_GROUP * sizeof *t->y);
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *from = t->weights + (size_t)g * t->group_bytes;
        for (int i = 0; i < t->cols / 256; i++) {
            struct codebook_block blocks[MATMUL_GROUP];
            t->kernels->codebook_split(type, from, blocks);
            from += MATMUL_GROUP * bytes;
            struct matmul_codes x = t->codes;
            x.codes += 256 * i;
            x.scales += i;
            t->kernels->codebook(blocks, &x, t->rows, t->y + g * MATMUL_GROUP, t->y_stride);
        }
    }
}

static void product_iq2_xxs(const struct matmul_tile *t)
{
    product(TENSOR_IQ2_XXS, t);
}

static void product_iq2_xs(const struct matmul_tile *t)
{
    product(TENSOR_IQ2_XS, t);
}

static void product_iq3_xxs(const struct matmul_tile *t)
{
    product(TENSOR_IQ3_XXS, t);
}

static void product_iq1_s(const struct matmul_tile *t)
{
    product(TENSOR_IQ1_S, t);
}

static void product_iq3_s(const struct matmul_tile *t)
{
    product(TENSOR_IQ3_S, t);
}

static void product_iq2_s(const struct matmul_tile *t)
{
    product(TENSOR_IQ2_S, t);
}

static void product_iq1_m(const struct matmul_tile *t)
{
    product(TENSOR_IQ1_M, t);
}

static void product_tq1_0(const struct matmul_tile *t)
{
    product(TENSOR_TQ1_0, t);
}

static void product_tq2_0(const struct matmul_tile *t)
{
    product(TENSOR_TQ2_0, t);
}

void codebook_fill(struct matmul_kernels *k)
{
    k->product[TENSOR_IQ2_XXS] = product_iq2_xxs;
    k->product[TENSOR_IQ2_XS] = product_iq2_xs;
    k->product[TENSOR_IQ3_XXS] = product_iq3_xxs;
    k->product[TENSOR_IQ1_S] = product_iq1_s;
    k->product[TENSOR_IQ3_S] = product_iq3_s;
    k->product[TENSOR_IQ2_S] = product_iq2_s;
    k->product[TENSOR_IQ1_M] = product_iq1_m;
    k->product[TENSOR_TQ1_0] = product_tq1_0;
    k->product[TENSOR_TQ2_0] = product_tq2_0;
}
