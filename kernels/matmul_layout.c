/* matmul_layout.c - where each format's pieces are, and packing from GGUF blocks. */
#include "kernels/matmul_layout.h"
#include "kernels/codebook.h"
#include "kernels/matmul_kernels.h"

#include <assert.h>
#include <string.h>

size_t matmul_group_bytes(int type, int cols)
{
    if (codebook_has(type))
        return (quant_row_bytes(type, cols) * MATMUL_GROUP + 63) / 64 * 64;
    const struct matmul_layout l = matmul_layout(type);
    assert(l.elements && cols >= 0 && cols % l.elements == 0);
    const size_t block = (size_t)l.block_bytes + (size_t)l.halves * 32;
    return ((size_t)(cols / l.elements) * block + 63) / 64 * 64;
}

static void pack_plane(struct matmul_layout l, struct matmul_plane p, int below, int row,
                       const uint8_t *codes, uint8_t *block)
{
    if (p.bits == 0)
        return;
    for (int k = 0; k < l.elements; k++) {
        const int field = codes[k] >> below & ((1 << p.bits) - 1);
        uint8_t *vector = block + p.offset + matmul_plane_vector(l, p, k / 4) * 64;
        vector[row * 4 + k % 4] |= (uint8_t)(field << matmul_plane_shift(l, p, k / 4));
    }
}

static void pack_scales(struct matmul_layout l, const struct quant_format *f, int row,
                        const struct quant_block *b, uint8_t *block)
{
    for (int j = 0; f->sub_elements && j < f->elements / f->sub_elements; j++) {
        const int at = j / 2 * 32 + row * 2 + j % 2;
        block[l.scales + at] = (uint8_t)b->scales[j];
        if (l.minima)
            block[l.minima + at] = b->minima[j];
        else if (f->has_minimum)
            block[l.scales + at] |= (uint8_t)(b->minima[j] << 4);
    }
}

static void write_half(uint8_t *to, uint16_t h)
{
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
}

static void pack_blocks(int type, int row, int cols, const uint8_t *source, uint8_t *to)
{
    const struct matmul_layout l = matmul_layout(type);
    const struct quant_format *f = quant_format(type);
    const int blocks = cols / l.elements;
    uint8_t *halves = to + (size_t)blocks * (size_t)l.block_bytes + row * 2;
    for (int b = 0; b < blocks; b++) {
        struct quant_block parts;
        quant_split(type, source, &parts);
        pack_plane(l, l.low, 0, row, parts.codes, to);
        pack_plane(l, l.high, l.low.bits, row, parts.codes, to);
        pack_scales(l, f, row, &parts, to);
        write_half(halves, parts.scale);
        if (l.halves == 2)
            write_half(halves + 32, parts.minimum);
        source += quant_block_bytes(type);
        to += l.block_bytes;
        halves += l.halves * 32;
    }
}

/* Elements, or whole blocks, of `bytes` each. */
static void pack_plain(int bytes, int row, int n, const uint8_t *source, uint8_t *to)
{
    for (int k = 0; k < n; k++)
        memcpy(to + ((size_t)k * MATMUL_GROUP + (size_t)row) * (size_t)bytes,
               source + (size_t)k * (size_t)bytes, (size_t)bytes);
}

void matmul_pack_group(int type, int rows, int cols, const void *source, uint8_t *to)
{
    const size_t row_bytes = quant_row_bytes(type, cols);
    memset(to, 0, matmul_group_bytes(type, cols));
    for (int row = 0; row < rows; row++) {
        const uint8_t *from = (const uint8_t *)source + (size_t)row * row_bytes;
        if (quant_format(type))
            pack_blocks(type, row, cols, from, to);
        else
            pack_plain(quant_block_bytes(type), row, cols / quant_block_elements(type), from, to);
    }
}
