/* software_512.h - 512-bit vectors and AMX tiles by other instructions, so that their kernels can
 * be compared with the reference where the processor has neither. Included before everything else;
 * the vectors are SIMDe's, with what it lacks, the tiles are plain loops.
 *
 * It shows that the kernels' arithmetic, bounds and order are right; whether the instructions are
 * encoded as meant, only a processor (or an emulator of one) shows. */
#ifndef PACELINE_TESTS_SOFTWARE_512_H
#define PACELINE_TESTS_SOFTWARE_512_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_NO_INLINE /* a minute less to compile */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#pragma GCC diagnostic pop

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What SIMDe 0.7.4 lacks, or leaves to the compiler's header. Halves of 256 bits or plain loops. */
static inline __m512i software_join(__m256i low, __m256i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline __m256i software_half(__m512i v, int half)
{
    __m256i halves[2];
    memcpy(halves, &v, sizeof halves);
    return halves[half];
}

static inline __m512 software_floats(__m256 low, __m256 high)
{
    return _mm512_castsi512_ps(software_join(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}

static inline __m512 software_cvtph_ps(__m256i v)
{
    return software_floats(_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                           _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}

static inline __m512 software_cvtepi32_ps(__m512i v)
{
    return software_floats(_mm256_cvtepi32_ps(software_half(v, 0)),
                           _mm256_cvtepi32_ps(software_half(v, 1)));
}

static inline __m512i software_cvtps_epi32(__m512 v)
{
    const __m512i bits = _mm512_castps_si512(v);
    return software_join(_mm256_cvtps_epi32(_mm256_castsi256_ps(software_half(bits, 0))),
                         _mm256_cvtps_epi32(_mm256_castsi256_ps(software_half(bits, 1))));
}

static inline __m512i software_cvtepu16_epi32(__m256i v)
{
    return software_join(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                         _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}

static inline __m512i software_cvtepu8_epi16(__m256i v)
{
    return software_join(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(v)),
                         _mm256_cvtepu8_epi16(_mm256_extracti128_si256(v, 1)));
}

static inline __m512i software_srai_epi32(__m512i v, int n)
{
    return software_join(_mm256_srai_epi32(software_half(v, 0), n),
                         _mm256_srai_epi32(software_half(v, 1), n));
}

static inline __m128i software_cvtepi32_epi8(__m512i v)
{
    uint8_t bytes[64];
    memcpy(bytes, &v, sizeof bytes);
    for (int i = 0; i < 16; i++)
        bytes[i] = bytes[4 * i];
    return _mm_loadu_si128((const __m128i *)bytes);
}

static inline int32_t software_reduce_add_epi32(__m512i v)
{
    int32_t lanes[16], sum = 0;
    memcpy(lanes, &v, sizeof lanes);
    for (int i = 0; i < 16; i++)
        sum += lanes[i];
    return sum;
}

static inline uint32_t software_reduce_max_epu32(__m512i v)
{
    uint32_t lanes[16], most = 0;
    memcpy(lanes, &v, sizeof lanes);
    for (int i = 0; i < 16; i++)
        most = lanes[i] > most ? lanes[i] : most;
    return most;
}

#define _mm512_cvtph_ps       software_cvtph_ps
#define _mm512_cvtepi32_ps    software_cvtepi32_ps
#define _mm512_cvtps_epi32    software_cvtps_epi32
#define _mm512_cvtepu16_epi32 software_cvtepu16_epi32
#define _mm512_cvtepu8_epi16  software_cvtepu8_epi16
#define _mm512_srai_epi32     software_srai_epi32
#define _mm512_cvtepi32_epi8  software_cvtepi32_epi8
#undef _mm512_reduce_add_epi32
#undef _mm512_reduce_max_epu32
#define _mm512_reduce_add_epi32 software_reduce_add_epi32
#define _mm512_reduce_max_epu32 software_reduce_max_epu32

/* ---- tiles: takes the place of kernels/x86/amx_tiles.h ---- */
#define PACELINE_KERNELS_X86_AMX_TILES_H

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

struct software_tiles {
    struct tile_shapes shapes;
    uint8_t of[8][16][64];
};
static _Thread_local struct software_tiles software_tiles;

static inline void tile_configure(const struct tile_shapes *shapes)
{
    memset(&software_tiles, 0, sizeof software_tiles);
    software_tiles.shapes = *shapes;
}

static inline void tile_release(void)
{
    memset(&software_tiles, 0, sizeof software_tiles);
}

static inline void tile_zero(int tile)
{
    memset(software_tiles.of[tile], 0, sizeof software_tiles.of[tile]);
}

static inline void tile_load(int tile, const void *from, size_t stride)
{
    const struct tile_shapes *s = &software_tiles.shapes;
    tile_zero(tile);
    for (size_t row = 0; row < s->rows[tile]; row++)
        memcpy(software_tiles.of[tile][row], (const uint8_t *)from + row * stride, s->bytes[tile]);
}

static inline void tile_store(int tile, void *to, size_t stride)
{
    const struct tile_shapes *s = &software_tiles.shapes;
    for (size_t row = 0; row < s->rows[tile]; row++)
        memcpy((uint8_t *)to + row * stride, software_tiles.of[tile][row], s->bytes[tile]);
}

/* Shapes that do not fit each other fault on the processor. */
static inline void software_dot(int sums, int a, int b, int is_signed)
{
    struct software_tiles *t = &software_tiles;
    const struct tile_shapes *s = &t->shapes;
    if (s->palette != 1 || s->rows[sums] != s->rows[a] || s->bytes[sums] != s->bytes[b] ||
        s->bytes[a] != 4 * s->rows[b] || s->rows[sums] == 0)
        __builtin_trap();
    for (int m = 0; m < s->rows[a]; m++) {
        int32_t row[16];
        memcpy(row, t->of[sums][m], sizeof row);
        for (int k = 0; k < s->bytes[a]; k++) {
            const int x = (int8_t)t->of[a][m][k];
            for (int n = 0; n < s->bytes[b] / 4; n++) {
                const uint8_t w = t->of[b][k / 4][n * 4 + k % 4];
                row[n] += x * (is_signed ? (int8_t)w : w);
            }
        }
        memcpy(t->of[sums][m], row, sizeof row);
    }
}

static inline void tile_dot_signed(int sums, int a, int b)
{
    software_dot(sums, a, b, 1);
}

static inline void tile_dot_unsigned(int sums, int a, int b)
{
    software_dot(sums, a, b, 0);
}

#endif
