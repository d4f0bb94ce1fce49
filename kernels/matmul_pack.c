/* matmul_pack.c - see matmul_pack.h. GGUF's blocks are described in quant.c. */
#include "kernels/matmul_pack.h"
#include "kernels/matmul_kernels.h"
#include "kernels/matmul_layout.h"

#include <string.h>

/* One block of 16 rows: where it comes from, and where its parts go. */
struct pack {
    const uint8_t *from; /* the block of the first row ... */
    size_t stride;       /* ... and bytes to that of the next */
    uint8_t *block;
    uint8_t *halves; /* 16 d, then 16 m or dmin */
};

static uint32_t read_32(const uint8_t *from)
{
    uint32_t w;
    memcpy(&w, from, sizeof w);
    return w;
}

static void write_32(uint8_t *to, uint32_t w)
{
    memcpy(to, &w, sizeof w);
}

/* Words of all rows that begin at byte `offset` of their blocks: vector j takes word j. */
static inline void pack_words(const struct pack *p, int offset, int words, uint32_t flip,
                              uint8_t *to)
{
    for (int r = 0; r < MATMUL_GROUP; r++) {
        const uint8_t *from = p->from + (size_t)r * p->stride + offset;
        for (int j = 0; j < words; j++)
            write_32(to + j * 64 + r * 4, read_32(from + j * 4) ^ flip);
    }
}

/* Pairs of bytes likewise, from arrays of one row each: scales and minima of sub-blocks. */
static inline void pack_pairs(const uint8_t *from, size_t stride, int pairs, uint8_t *to)
{
    for (int r = 0; r < MATMUL_GROUP; r++)
        for (int j = 0; j < pairs; j++)
            memcpy(to + j * 32 + r * 2, from + (size_t)r * stride + j * 2, 2);
}

static inline void pack_half(const struct pack *p, int offset, uint8_t *to)
{
    pack_pairs(p->from + offset, p->stride, 1, to);
}

/* ---- blocks of 32: one vector of fifth bits, where column vector v is bit v of each byte ---- */

static inline uint32_t swap_bits(uint32_t w, uint32_t mask, int distance)
{
    const uint32_t t = (w ^ w >> distance) & mask;
    return w ^ t ^ t << distance;
}

/* Bit 4 v + c of a block goes to bit v of byte c: the number of a bit, in binary v2 v1 v0 c1 c0,
 * becomes c1 c0 v2 v1 v0. Each step swaps two of its digits. */
static inline uint32_t spread_fifth_bits(uint32_t w)
{
    w = swap_bits(w, 0x22222222, 1);     /* v2 v1 v0 c0 c1 */
    w = swap_bits(w, 0x0a0a0a0a, 3);     /* v2 v1 c1 c0 v0 */
    w = swap_bits(w, 0x00cc00cc, 6);     /* v2 c0 c1 v1 v0 */
    return swap_bits(w, 0x0000f0f0, 12); /* c1 c0 v2 v1 v0 */
}

static inline void pack_fifth_bits(const struct pack *p, int offset, uint8_t *to)
{
    for (int r = 0; r < MATMUL_GROUP; r++)
        write_32(to + r * 4, spread_fifth_bits(read_32(p->from + (size_t)r * p->stride + offset)));
}

static inline void pack_q4_0(const struct pack *p)
{
    pack_words(p, 2, 4, 0, p->block);
    pack_half(p, 0, p->halves);
}

static inline void pack_q4_1(const struct pack *p)
{
    pack_words(p, 4, 4, 0, p->block);
    pack_half(p, 0, p->halves);
    pack_half(p, 2, p->halves + 32);
}

static inline void pack_q5_0(const struct pack *p)
{
    pack_words(p, 6, 4, 0, p->block);
    pack_fifth_bits(p, 2, p->block + 256);
    pack_half(p, 0, p->halves);
}

static inline void pack_q5_1(const struct pack *p)
{
    pack_words(p, 8, 4, 0, p->block);
    pack_fifth_bits(p, 4, p->block + 256);
    pack_half(p, 0, p->halves);
    pack_half(p, 2, p->halves + 32);
}

static inline void pack_q8_0(const struct pack *p)
{
    pack_words(p, 2, 8, 0x80808080, p->block); /* signed byte + 128 */
    pack_half(p, 0, p->halves);
}

/* ---- super-blocks ---- */

static inline void pack_q2_k(const struct pack *p)
{
    const struct matmul_layout l = matmul_layout(TENSOR_Q2_K);
    pack_words(p, 16, 16, 0, p->block);
    pack_pairs(p->from, p->stride, 8, p->block + l.scales);
    pack_half(p, 80, p->halves);
    pack_half(p, 82, p->halves + 32);
}

/* 16 scales of 6 bits less 32: low nibbles in 8 bytes, then pairs of high bits in 4. */
static inline void split_q3_k_scales(const uint8_t *from, uint8_t to[16])
{
    for (int i = 0; i < 4; i++) {
        const uint32_t low = read_32(from + i % 2 * 4) >> i / 2 * 4 & 0x0f0f0f0f;
        const uint32_t high = read_32(from + 8) >> 2 * i & 0x03030303;
        /* Less 32: with bit 5 turned over, that bit is the sign, and fills the two above it. */
        const uint32_t sum = (low | high << 4) ^ 0x20202020, sign = sum & 0x20202020;
        write_32(to + 4 * i, sum | sign << 1 | sign << 2);
    }
}

static inline void pack_q3_k(const struct pack *p)
{
    const struct matmul_layout l = matmul_layout(TENSOR_Q3_K);
    uint8_t scales[MATMUL_GROUP][16];
    pack_words(p, 32, 16, 0, p->block);
    pack_words(p, 0, 8, 0, p->block + l.high.offset);
    for (int r = 0; r < MATMUL_GROUP; r++)
        split_q3_k_scales(p->from + (size_t)r * p->stride + 96, scales[r]);
    pack_pairs(scales[0], 16, 8, p->block + l.scales);
    pack_half(p, 108, p->halves);
}

/* Eight scales, then eight minima, of the 12 bytes that hold 6 bits of each. */
static inline void split_q45_k_scales(const uint8_t *from, uint8_t to[16])
{
    const uint32_t a = read_32(from), b = read_32(from + 4), c = read_32(from + 8);
    write_32(to, a & 0x3f3f3f3f);
    write_32(to + 4, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030));
    write_32(to + 8, b & 0x3f3f3f3f);
    write_32(to + 12, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030));
}

static inline void pack_q45_k(const struct pack *p, struct matmul_layout l, int nibbles)
{
    uint8_t scales[MATMUL_GROUP][16];
    pack_words(p, nibbles, 32, 0, p->block);
    for (int r = 0; r < MATMUL_GROUP; r++)
        split_q45_k_scales(p->from + (size_t)r * p->stride + 4, scales[r]);
    pack_pairs(scales[0], 16, 4, p->block + l.scales);
    pack_pairs(scales[0] + 8, 16, 4, p->block + l.minima);
    pack_half(p, 0, p->halves);
    pack_half(p, 2, p->halves + 32);
}

static inline void pack_q4_k(const struct pack *p)
{
    pack_q45_k(p, matmul_layout(TENSOR_Q4_K), 16);
}

static inline void pack_q5_k(const struct pack *p)
{
    const struct matmul_layout l = matmul_layout(TENSOR_Q5_K);
    pack_q45_k(p, l, 48);
    pack_words(p, 16, 8, 0, p->block + l.high.offset);
}

/* In each half of a super-block the nibbles of sub-blocks 0 and 2 (of 32) share bytes, and those of
 * 1 and 3; packed, 0 goes with 1 and 2 with 3. */
static inline void pack_q6_k_nibbles(const uint8_t *from, uint8_t *to)
{
    for (int j = 0; j < 8; j++) {
        const uint32_t a = read_32(from + 4 * j), b = read_32(from + 32 + 4 * j);
        write_32(to + j * 64, (a & 0x0f0f0f0f) | (b & 0x0f0f0f0f) << 4);
        write_32(to + (8 + j) * 64, (a >> 4 & 0x0f0f0f0f) | (b & 0xf0f0f0f0));
    }
}

static inline void pack_q6_k(const struct pack *p)
{
    const struct matmul_layout l = matmul_layout(TENSOR_Q6_K);
    for (int r = 0; r < MATMUL_GROUP; r++) {
        const uint8_t *from = p->from + (size_t)r * p->stride;
        pack_q6_k_nibbles(from, p->block + r * 4);
        pack_q6_k_nibbles(from + 64, p->block + 16 * 64 + r * 4);
    }
    pack_words(p, 128, 16, 0, p->block + l.high.offset);
    pack_pairs(p->from + 192, p->stride, 8, p->block + l.scales);
    pack_half(p, 208, p->halves);
}

/* A group's size is whole vectors. */
static void pack_padding(int type, int cols, uint8_t *to, const uint8_t *end)
{
    const size_t used = (size_t)(end - to);
    memset(to + used, 0, matmul_group_bytes(type, cols) - used);
}

/* ---- F32, F16, BF16: [column][16] ---- */

/* Eight columns at a time, so that a line of each source row is used while it is near. */
static inline void pack_plain_16(int bytes, int cols, const uint8_t *source, uint8_t *to)
{
    const size_t stride = (size_t)cols * (size_t)bytes;
    for (int first = 0; first < cols; first += 8) {
        const int end = first + 8 < cols ? first + 8 : cols;
        for (int r = 0; r < MATMUL_GROUP; r++)
            for (int k = first; k < end; k++)
                memcpy(to + ((size_t)k * MATMUL_GROUP + (size_t)r) * (size_t)bytes,
                       source + (size_t)r * stride + (size_t)k * (size_t)bytes, (size_t)bytes);
    }
}

static inline void pack_blocks_16(int type, void (*pack_block)(const struct pack *), int cols,
                                  const uint8_t *source, uint8_t *to)
{
    const struct matmul_layout l = matmul_layout(type);
    const int blocks = cols / l.elements;
    uint8_t *halves = to + (size_t)blocks * (size_t)l.block_bytes;
    struct pack p = {source, quant_row_bytes(type, cols), to, halves};
    for (int b = 0; b < blocks; b++) {
        pack_block(&p);
        p.from += quant_block_bytes(type);
        p.block += l.block_bytes;
        p.halves += l.halves * 32;
    }
    pack_padding(type, cols, to, p.halves);
}

bool matmul_pack_16(int type, int cols, const void *source, uint8_t *to)
{
    static void (*const pack_block[MATMUL_SLOTS])(const struct pack *) = {
        [TENSOR_Q4_0] = pack_q4_0, [TENSOR_Q4_1] = pack_q4_1,   [TENSOR_Q5_0] = pack_q5_0,
        [TENSOR_Q5_1] = pack_q5_1, [TENSOR_Q8_0] = pack_q8_0,   [TENSOR_Q2_K] = pack_q2_k,
        [TENSOR_Q3_K] = pack_q3_k, [TENSOR_Q4_K] = pack_q4_k,   [TENSOR_Q5_K] = pack_q5_k,
        [TENSOR_Q6_K] = pack_q6_k, [TENSOR_IQ4_NL] = pack_q4_0,
    };
    if (type == TENSOR_F32) {
        pack_plain_16(4, cols, source, to);
    } else if (type == TENSOR_F16 || type == TENSOR_BF16) {
        pack_plain_16(2, cols, source, to);
        pack_padding(type, cols, to, to + (size_t)cols * MATMUL_GROUP * 2);
    } else if (type >= 0 && type < MATMUL_SLOTS && pack_block[type]) {
        pack_blocks_16(type, pack_block[type], cols, source, to);
    } else {
        return false;
    }
    return true;
}
