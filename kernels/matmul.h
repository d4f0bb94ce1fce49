/* matmul.h - y = x · Wᵀ for packed weights, with the same bits for every row count, thread count
 * and instruction set.
 *
 * Weights are repacked at load: 16 output rows interleaved, so that one vector lane is one row and
 * no float sum ever runs across lanes. Activations are quantised per row, in groups of 32 or 256
 * columns as the weight's type wants (docs/numerics.md). */
#ifndef PACELINE_KERNELS_MATMUL_H
#define PACELINE_KERNELS_MATMUL_H

#include "kernels/kernels.h"
#include "kernels/quant.h"

#include <stdbool.h>
#include <stddef.h>

struct matrix {
    enum tensor_type type;
    int rows, cols;   /* outputs, inputs */
    const void *data; /* packed, 64-byte aligned, borrowed; padded to whole groups of 16 rows */
};

/* Bytes that matrix_pack() will write: within 4 % of the GGUF bytes for quantised types with many
 * rows (MXFP4: 6 %). cols must be a multiple of the type's block. */
size_t matrix_bytes(enum tensor_type type, int rows, int cols);
/* Packs GGUF rows (contiguous, quant_row_bytes() each) into `memory`, with OpenMP threads. */
void matrix_pack(struct matrix *ret_matrix, void *memory, enum tensor_type type, int rows, int cols,
                 const void *source);

/* The right-hand side: some rows of float32 and their quantised forms, made when first needed. */
struct activations;
/* Memory for at most max_rows × max_cols, claimed now; NULL when there is none. */
struct activations *activations_new(int max_rows, int max_cols);
void activations_free(struct activations *a);
size_t activations_memory(int max_rows, int max_cols); /* bytes that activations_new() claims */
/* x: [rows, cols], borrowed until the next load; forgets the quantised forms of the last one. */
void activations_load(struct activations *a, const float *x, int rows, int cols);

/* y: [a.rows, w.rows] with y_stride floats between rows. y[r][o] = Σ_k W[o][k] · x[r][k]. */
void matmul(const struct kernels *k, float *y, size_t y_stride, const struct matrix *w,
            struct activations *a);

/* Several products of the same activations as one piece of work for the threads: waking and
 * joining them costs as much as a small matrix. Types may differ. */
struct matmul_part {
    const struct matrix *w;
    float *y; /* [a.rows, w.rows] */
    size_t y_stride;
};
enum { MATMUL_PARTS = 3 };
void matmul_parts(const struct kernels *k, const struct matmul_part *parts, int n,
                  struct activations *a);
/* y = silu(gate · x) · (up · x), gate and up of one shape. up_y: scratch like y, of the same
 * stride. */
void matmul_swiglu(const struct kernels *k, float *y, float *up_y, size_t y_stride,
                   const struct matrix *gate, const struct matrix *up, struct activations *a);

#endif
