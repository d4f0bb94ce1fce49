/* quant.c - block formats taken apart, and the float32 value of every element. */
#include "kernels/quant.h"
#include "kernels/codebook.h"

#include <assert.h>
#include <string.h>

enum { QUANT_TYPES = 41 }; /* one more than the highest number GGUF defines */

struct quant_type {
    const char *name;
    int bytes; /* of a block; 0: known by name only */
    struct quant_format format;
};

/* IQ4_NL's and IQ4_XS's sixteen levels: closer together near zero, as weights are. */
static const int8_t quant_values_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};
/* E2M1, doubled, so that all are integers (OCP Microscaling Formats 1.0, section 5.3.3). */
static const int8_t quant_values_e2m1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                             0, -1, -2, -3, -4, -6, -8, -12};

/* Block sizes are the sums of their fields: halves (2 bytes each), packed codes, packed scales. */
static const struct quant_type quant_types[QUANT_TYPES] = {
    [TENSOR_F32] = {"F32", 4, {1, 0, 0, false}},
    [TENSOR_F16] = {"F16", 2, {1, 0, 0, false}},
    [TENSOR_BF16] = {"BF16", 2, {1, 0, 0, false}},
    [TENSOR_Q4_0] = {"Q4_0", 2 + 16, {32, 0, 8, false}},
    [TENSOR_Q4_1] = {"Q4_1", 4 + 16, {32, 0, 0, true}},
    [TENSOR_Q5_0] = {"Q5_0", 2 + 4 + 16, {32, 0, 16, false}},
    [TENSOR_Q5_1] = {"Q5_1", 4 + 4 + 16, {32, 0, 0, true}},
    [TENSOR_Q8_0] = {"Q8_0", 2 + 32, {32, 0, 128, false}},
    [TENSOR_Q2_K] = {"Q2_K", 16 + 64 + 4, {256, 16, 0, true}},
    [TENSOR_Q3_K] = {"Q3_K", 32 + 64 + 12 + 2, {256, 16, 4, false}},
    [TENSOR_Q4_K] = {"Q4_K", 4 + 12 + 128, {256, 32, 0, true}},
    [TENSOR_Q5_K] = {"Q5_K", 4 + 12 + 32 + 128, {256, 32, 0, true}},
    [TENSOR_Q6_K] = {"Q6_K", 128 + 64 + 16 + 2, {256, 16, 32, false}},
    [TENSOR_IQ4_NL] = {"IQ4_NL", 2 + 16, {32, 0, 0, false, quant_values_nl}},
    [TENSOR_IQ4_XS] = {"IQ4_XS", 4 + 4 + 128, {256, 32, 0, false, quant_values_nl}},
    [TENSOR_MXFP4] = {"MXFP4", 1 + 16, {32, 0, 0, false, quant_values_e2m1}},
    [TENSOR_IQ2_XXS] = {"IQ2_XXS", 66, {.elements = 256}},
    [TENSOR_IQ2_XS] = {"IQ2_XS", 74, {.elements = 256}},
    [TENSOR_IQ3_XXS] = {"IQ3_XXS", 98, {.elements = 256}},
    [TENSOR_IQ1_S] = {"IQ1_S", 50, {.elements = 256}},
    [TENSOR_IQ3_S] = {"IQ3_S", 110, {.elements = 256}},
    [TENSOR_IQ2_S] = {"IQ2_S", 82, {.elements = 256}},
    [TENSOR_IQ1_M] = {"IQ1_M", 56, {.elements = 256}},
    [TENSOR_TQ1_0] = {"TQ1_0", 54, {.elements = 256}},
    [TENSOR_TQ2_0] = {"TQ2_0", 66, {.elements = 256}},
    [9] = {.name = "Q8_1"},
    [15] = {.name = "Q8_K"},
    [24] = {.name = "I8"},
    [25] = {.name = "I16"},
    [26] = {.name = "I32"},
    [27] = {.name = "I64"},
    [28] = {.name = "F64"},
    [40] = {.name = "NVFP4"},
};

static const struct quant_type *quant_find(int type)
{
    if (type < 0 || type >= QUANT_TYPES || quant_types[type].bytes == 0)
        return NULL;
    return &quant_types[type];
}

bool quant_type_is_supported(int type)
{
    return quant_find(type) != NULL;
}

const char *quant_type_name(int type)
{
    return type < 0 || type >= QUANT_TYPES ? NULL : quant_types[type].name;
}

int quant_block_elements(int type)
{
    const struct quant_type *t = quant_find(type);
    return t ? t->format.elements : 0;
}

int quant_block_bytes(int type)
{
    const struct quant_type *t = quant_find(type);
    return t ? t->bytes : 0;
}

size_t quant_row_bytes(int type, int64_t cols)
{
    const struct quant_type *t = quant_find(type);
    if (!t)
        return 0;
    assert(cols >= 0 && cols % t->format.elements == 0);
    return (size_t)(cols / t->format.elements) * (size_t)t->bytes;
}

const struct quant_format *quant_format(int type)
{
    const struct quant_type *t = quant_find(type);
    return t && t->format.elements > 1 && !codebook_has(type) ? &t->format : NULL;
}

float quant_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 0x1f;
    const uint32_t fraction = h & 0x3ff;
    uint32_t bits;
    if (exponent == 0) {
        /* Zero or subnormal: fraction · 2^-24, exact in float32. */
        const float value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    } else if (exponent == 31) {
        bits = sign | 0x7f800000 | fraction << 13;
    } else {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t quant_f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520: half way from the largest half to the next power */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: the half is subnormal, a multiple of 2^-24 */
        /* Adding 0.5 leaves 24 bits with a unit of 2^-24: the adder rounds to nearest even. */
        float value;
        memcpy(&value, &magnitude, sizeof value);
        value += 0.5f;
        uint32_t rounded;
        memcpy(&rounded, &value, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3f000000));
    }
    /* A carry out of the fraction steps into the exponent, as it should. */
    const uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

float quant_bf16_to_f32(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float quant_scale_to_f32(int type, uint16_t scale)
{
    return type == TENSOR_MXFP4 ? quant_bf16_to_f32(scale) : quant_f16_to_f32(scale);
}

static uint16_t quant_read_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] | from[1] << 8);
}

/* 16 bytes of nibbles: element i is the low half of byte i, element i + 16 the high half. */
static void quant_split_nibbles(const uint8_t *from, uint8_t *codes)
{
    for (int i = 0; i < 16; i++) {
        codes[i] = from[i] & 15;
        codes[i + 16] = from[i] >> 4;
    }
}

/* 32 bits, little-endian: bit i is the fifth bit of code i. */
static void quant_add_fifth_bits(const uint8_t *from, uint8_t *codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] |= (uint8_t)((from[i / 8] >> i % 8 & 1) << 4);
}

static void quant_split_32(int type, const uint8_t *from, struct quant_block *b)
{
    b->scale = quant_read_u16(from);
    from += 2;
    if (type == TENSOR_Q8_0) {
        for (int i = 0; i < 32; i++)
            b->codes[i] = from[i] ^ 0x80; /* signed byte + 128 */
        return;
    }
    if (type == TENSOR_Q4_1 || type == TENSOR_Q5_1) {
        b->minimum = quant_read_u16(from);
        from += 2;
    }
    if (type == TENSOR_Q5_0 || type == TENSOR_Q5_1) {
        quant_split_nibbles(from + 4, b->codes);
        quant_add_fifth_bits(from, b->codes);
    } else {
        quant_split_nibbles(from, b->codes);
    }
}

/* The byte e stands for 2^(e - 127), halved since the values are doubled. All 256 are numbers, e =
 * 255 too, which the OCP's document calls NaN. A bfloat16 holds 2^(e - 128) exactly: 2^-128 and
 * 2^-127 are subnormal, bits 5 and 6 of the fraction. */
static void quant_split_mxfp4(const uint8_t *from, struct quant_block *b)
{
    b->scale = (uint16_t)(from[0] < 2 ? 0x20 << from[0] : (from[0] - 1) << 7);
    quant_split_nibbles(from + 1, b->codes);
}

/* Q2_K and Q3_K: 64 bytes; each 32 of them hold 128 elements, element 32 f + i in bits 2f, 2f+1
 * of byte i. */
static void quant_split_pairs_of_bits(const uint8_t *from, uint8_t *codes)
{
    for (int i = 0; i < 256; i++)
        codes[i] = from[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

static void quant_split_q2_k(const uint8_t *from, struct quant_block *b)
{
    for (int j = 0; j < 16; j++) {
        b->scales[j] = (int8_t)(from[j] & 15);
        b->minima[j] = from[j] >> 4;
    }
    quant_split_pairs_of_bits(from + 16, b->codes);
    b->scale = quant_read_u16(from + 80);
    b->minimum = quant_read_u16(from + 82);
}

/* Third bits come first: bit s of byte i belongs to element 32 s + i, and when it is clear, 4 is
 * subtracted. Scales have 6 bits: 16 low nibbles in 8 bytes, then pairs of high bits in 4. */
static void quant_split_q3_k(const uint8_t *from, struct quant_block *b)
{
    quant_split_pairs_of_bits(from + 32, b->codes);
    for (int i = 0; i < 256; i++)
        b->codes[i] |= (uint8_t)((from[i % 32] >> i / 32 & 1) << 2);
    const uint8_t *scales = from + 96;
    for (int j = 0; j < 16; j++) {
        const int low = scales[j % 8] >> j / 8 * 4 & 15;
        const int high = scales[8 + j % 4] >> j / 4 * 2 & 3;
        b->scales[j] = (int8_t)((low | high << 4) - 32);
    }
    b->scale = quant_read_u16(from + 108);
}

/* Q4_K and Q5_K: eight scales and eight minima of 6 bits in 12 bytes. The first four of each fill
 * the low 6 bits of bytes 0-3 and 4-7; of the last four, the low nibbles are in bytes 8-11 and the
 * two high bits on top of bytes 0-3 (scales) and 4-7 (minima). */
static void quant_split_6_bit_scales(const uint8_t *from, struct quant_block *b)
{
    for (int j = 0; j < 4; j++) {
        b->scales[j] = (int8_t)(from[j] & 63);
        b->minima[j] = from[j + 4] & 63;
        b->scales[j + 4] = (int8_t)((from[j + 8] & 15) | from[j] >> 6 << 4);
        b->minima[j + 4] = (uint8_t)(from[j + 8] >> 4 | from[j + 4] >> 6 << 4);
    }
}

static void quant_split_q45_k(int type, const uint8_t *from, struct quant_block *b)
{
    b->scale = quant_read_u16(from);
    b->minimum = quant_read_u16(from + 2);
    quant_split_6_bit_scales(from + 4, b);
    const uint8_t *fifth = from + 16;
    const uint8_t *nibbles = type == TENSOR_Q5_K ? from + 48 : from + 16;
    for (int i = 0; i < 256; i++) {
        const int nibble = nibbles[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
        const int bit = type == TENSOR_Q5_K ? fifth[i % 32] >> i / 32 & 1 : 0;
        b->codes[i] = (uint8_t)(nibble | bit << 4);
    }
}

/* Each half of 128 elements: 64 bytes of nibbles (element 64 h + i in half h of byte i) and 32
 * bytes of bit pairs (element 32 f + i in bits 2f, 2f+1 of byte i). */
static void quant_split_q6_k(const uint8_t *from, struct quant_block *b)
{
    for (int i = 0; i < 256; i++) {
        const int nibble = from[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
        const int high = from[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        b->codes[i] = (uint8_t)(nibble | high << 4);
    }
    memcpy(b->scales, from + 192, 16);
    b->scale = quant_read_u16(from + 208);
}

/* Eight scales of 6 bits, less 32: two high bits each in 16 bits, then low nibbles in 4 bytes. */
static void quant_split_iq4_xs(const uint8_t *from, struct quant_block *b)
{
    b->scale = quant_read_u16(from);
    const int high = quant_read_u16(from + 2);
    for (int j = 0; j < 8; j++) {
        const int low = from[4 + j / 2] >> j % 2 * 4 & 15;
        b->scales[j] = (int8_t)((low | (high >> 2 * j & 3) << 4) - 32);
        quant_split_nibbles(from + 8 + 16 * j, b->codes + 32 * j);
    }
}

void quant_split(int type, const void *block, struct quant_block *ret_block)
{
    assert(quant_format(type));
    ret_block->minimum = 0;
    switch (type) {
    case TENSOR_Q2_K:
        quant_split_q2_k(block, ret_block);
        break;
    case TENSOR_Q3_K:
        quant_split_q3_k(block, ret_block);
        break;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        quant_split_q45_k(type, block, ret_block);
        break;
    case TENSOR_Q6_K:
        quant_split_q6_k(block, ret_block);
        break;
    case TENSOR_IQ4_XS:
        quant_split_iq4_xs(block, ret_block);
        break;
    case TENSOR_MXFP4:
        quant_split_mxfp4(block, ret_block);
        break;
    default:
        quant_split_32(type, block, ret_block);
    }
}

int quant_centred(const struct quant_format *f, int code)
{
    return f->values ? f->values[code] : code - f->offset;
}

/* d · centred code, then + m where the format has a minimum. */
static void quant_unpack_32(int type, const struct quant_block *b, float *to)
{
    const struct quant_format *f = quant_format(type);
    const float scale = quant_scale_to_f32(type, b->scale);
    const float minimum = quant_scale_to_f32(type, b->minimum);
    for (int i = 0; i < f->elements; i++) {
        to[i] = scale * (float)quant_centred(f, b->codes[i]);
        if (f->has_minimum)
            to[i] += minimum;
    }
}

/* (d · sc) · centred code, then - (dmin · m) where the format has minima. */
static void quant_unpack_256(const struct quant_format *f, const struct quant_block *b, float *to)
{
    const float scale = quant_f16_to_f32(b->scale);
    const float minimum = quant_f16_to_f32(b->minimum);
    for (int j = 0; j < f->elements / f->sub_elements; j++) {
        const float sub_scale = scale * (float)b->scales[j];
        const float sub_minimum = f->has_minimum ? minimum * (float)b->minima[j] : 0;
        for (int i = j * f->sub_elements; i < (j + 1) * f->sub_elements; i++) {
            to[i] = sub_scale * (float)quant_centred(f, b->codes[i]);
            if (f->has_minimum)
                to[i] -= sub_minimum;
        }
    }
}

static void quant_unpack_plain(int type, const uint8_t *from, float *to, int64_t cols)
{
    if (type == TENSOR_F32) {
        memcpy(to, from, (size_t)cols * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < cols; i++) {
        const uint16_t h = quant_read_u16(from + 2 * i);
        to[i] = type == TENSOR_F16 ? quant_f16_to_f32(h) : quant_bf16_to_f32(h);
    }
}

void quant_unpack_row(int type, const void *row, float *to, int64_t cols)
{
    assert(quant_type_is_supported(type) && cols % quant_block_elements(type) == 0);
    const struct quant_format *f = quant_format(type);
    const uint8_t *from = row;
    if (codebook_has(type)) {
        for (int64_t i = 0; i < cols; i += 256, from += quant_block_bytes(type))
            codebook_unpack(type, from, to + i);
        return;
    }
    if (!f) {
        quant_unpack_plain(type, row, to, cols);
        return;
    }
    for (int64_t i = 0; i < cols; i += f->elements, from += quant_block_bytes(type)) {
        struct quant_block block;
        quant_split(type, from, &block);
        if (f->sub_elements)
            quant_unpack_256(f, &block, to + i);
        else
            quant_unpack_32(type, &block, to + i);
    }
}
