/* matmul_kernels.h - the slots of the table that matmul.c calls.
 *
 * A tile is some groups of 16 output rows times some activation rows, over all columns. Weights
 * are packed as matmul_layout.h says. */
#ifndef PACELINE_KERNELS_MATMUL_KERNELS_H
#define PACELINE_KERNELS_MATMUL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum {
    MATMUL_GROUP = 16,      /* output rows that are interleaved */
    MATMUL_TILE_ROWS = 256, /* activation rows of a tile, at most */
    MATMUL_BLOCK_ROWS = 32,
    MATMUL_SLOTS = 40 /* one for each tensor_type, by its number */
};

/* Scales and sums once more, by block: what many rows need of one stands together. Only there for
 * products of enough rows to be a product_many[]. MATMUL_BLOCK_ROWS rows more can be read. */
struct matmul_blocks {
    float *scales;   /* [block][stride] */
    int16_t *sums16; /* [block][stride][16], only kept for groups of 256 columns */
    int16_t *sums32; /* [block][stride][8], or [1] for groups of 32 */
    size_t stride;   /* rows from block to block */
};

/* Activation rows in signed bytes (docs/numerics.md, section 3). Strides in elements. */
struct matmul_codes {
    int8_t *codes;   /* -127 … 127 */
    float *scales;   /* one for each group of 32 or 256 columns */
    int16_t *sums16; /* of the codes of 16 columns; only kept for groups of 256 */
    int16_t *sums32; /* of 32 columns */
    size_t stride, scale_stride, sum16_stride, sum32_stride;
    struct matmul_blocks blocks;
};

struct matmul_kernels;
struct codebook_block;

struct matmul_tile {
    const struct matmul_kernels *kernels; /* that the product belongs to */
    const uint8_t *weights;               /* the first group, 64-byte aligned */
    size_t group_bytes;                   /* from one group to the next */
    int groups;                           /* any number; full ones: every lane is stored */
    int cols;
    int rows;                  /* 1 … MATMUL_TILE_ROWS */
    const float *x;            /* for F32, F16 and BF16 weights */
    size_t x_stride;           /* floats between rows */
    struct matmul_codes codes; /* for all others */
    float *y;                  /* overwritten: 16 · groups floats in each row */
    size_t y_stride;
};

struct matmul_kernels {
    /* By weight type; empty for numbers that are no supported type. */
    void (*product[MATMUL_SLOTS])(const struct matmul_tile *tile);
    /* The same for tiles of many[type] rows and more, best a multiple of many_unit; empty where
     * product[] serves them as well. */
    void (*product_many[MATMUL_SLOTS])(const struct matmul_tile *tile);
    int many[MATMUL_SLOTS], many_unit, many_rows; /* many_rows: the least of many[] */
    const char *product_isa[MATMUL_SLOTS]; /* who filled a slot last; kernels_select() sets it */
    /* Takes 16 blocks of a type of codebook.h apart, which stand side by side. */
    void (*codebook_split)(int type, const uint8_t *from, struct codebook_block *to);
    /* y[r][o] = fma(d_w · d_x, float(Σ_j sc_j · Σ q_w · q_x), y[r][o]) for one block of each of 16
     * outputs and `rows` activation rows, whose codes and scale of that block begin at *x. */
    void (*codebook)(const struct codebook_block *blocks, const struct matmul_codes *x, int rows,
                     float *y, size_t y_stride);
    /* One row into groups of `group` (32 or 256) columns; `to` points at that row. */
    void (*quantise)(const float *x, int cols, int group, const struct matmul_codes *to);
    const char *quantise_isa;
};

#endif
