/* amx_tiles.h - the few tile instructions that matmul_amx.c needs.
 *
 * The only macros of the folder that are not guards: a tile's number is a part of the instruction,
 * and without optimisation no function argument is a constant. The compiler's own intrinsics are
 * not used, since gcc 12's _tile_loadconfig claims to read 8 bytes of the 64, and the stores of the
 * others are optimised away. Every instruction that touches memory says so.
 *
 * tests/kernels replaces this file by functions that compute the same without the instructions. */
#ifndef PACELINE_KERNELS_X86_AMX_TILES_H
#define PACELINE_KERNELS_X86_AMX_TILES_H

#include <stddef.h>
#include <stdint.h>

/* What LDTILECFG reads (Intel SDM, volume 1, chapter 18). */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* of a row, by tile; 0 … 7 exist */
    uint8_t rows[16];
};

/* Tiles belong to the thread: shapes hold, and all contents are zero, until the release. */
#define tile_configure(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(*(shapes)) : "memory")
#define tile_release()         __asm__ volatile("tilerelease" ::: "memory")

/* Rows of a tile from, or to, memory with `stride` bytes between them. */
#define tile_load(tile, from, stride)                                                              \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"((size_t)(stride))         \
                     : "memory")
#define tile_store(tile, to, stride)                                                               \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"((size_t)(stride))       \
                     : "memory")
#define tile_zero(tile) __asm__ volatile("tilezero %%tmm" #tile ::)

/* sums[m][n] += Σ_k a[m][k] · b[k / 4][4 n + k % 4], 32 bits; a's bytes are signed, b's are signed
 * or unsigned. */
#define tile_dot_signed(sums, a, b)                                                                \
    __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)
#define tile_dot_unsigned(sums, a, b)                                                              \
    __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)

#endif
