/* The nibble-table kernel for AVX-512 (F, BW, VL).
 *
 * As in avx2.c, four columns have 16 sums of signs, rounded to 11 bits of one unit per 128 columns. Here a table is one
 * vector of 16-bit numbers, twice the same 16, and `vpermw` looks up 32 rows by the low bits of their 16-bit lanes: it
 * does not see the others, so codes need shifts and no masks, and 32 entries of a segment add up in 16 bits. Even bytes
 * of the codes are rows 0-31 and odd bytes rows 32-63: both row halves and all tokens use a table while it is at hand.
 *
 * Tables are spread over whole vectors first: a broadcast from memory would take one of the two ports of the shuffles.
 * There is no variant with 7 bits here: it was no quicker at one token and by a tenth at eight.
 */
#include "kernel.h"

#ifdef LIPTT_X86

#include <immintrin.h>
#include <math.h>

#define AVX512_TARGET "avx512f,avx512bw,avx512vl,avx2,fma,f16c"
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define INLINE static inline __attribute__((always_inline, target(AVX512_TARGET)))

static inline int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && AVX2_KERNEL.is_supported();
}

/* The greatest magnitude of a sum of four; NaN if a value, or a sum, is not finite. */
INLINE float greatest_sum(const float *values, int byte_columns) {
    __m256 greatest = _mm256_setzero_ps(), unfit = _mm256_setzero_ps();
    for (int column = 0; column < byte_columns; column++) {
        const __m256 magnitudes = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_loadu_ps(values + 8 * column));
        const __m256 pairs = _mm256_hadd_ps(magnitudes, magnitudes);
        const __m256 sums = _mm256_hadd_ps(pairs, pairs);
        greatest = _mm256_max_ps(greatest, sums);
        unfit = _mm256_add_ps(unfit, _mm256_sub_ps(sums, sums)); /* zero, unless a number is infinite or none */
    }
    greatest = _mm256_add_ps(greatest, unfit);
    const float first = greatest[0], second = greatest[4];
    return first != first || first > second ? first : second;
}

/* One over the unit, or zero where the unit is too small for that, or none. */
INLINE float inverse(float unit) { return unit > 0.0f && 1.0f / unit < INFINITY ? 1.0f / unit : 0.0f; }

/* The unit that the sums then count: zero if all inputs are below 2^-117 or so. */
INLINE float settled_unit(float unit, float per_unit) { return per_unit > 0.0f || unit != unit ? unit : 0.0f; }

/* The 16 sums of four numbers in units, rounded. */
INLINE __m512i sixteen_sums(const float *values, __m512 per_unit) {
    const __m512 numbers = _mm512_mul_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(values)), per_unit);
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    __m512 sums = _mm512_mul_ps(_mm512_permute_ps(numbers, 0x00), _mm512_mask_sub_ps(one, 0x5555, zero, one));
    sums = _mm512_fmadd_ps(_mm512_permute_ps(numbers, 0x55), _mm512_mask_sub_ps(one, 0x3333, zero, one), sums);
    sums = _mm512_fmadd_ps(_mm512_permute_ps(numbers, 0xaa), _mm512_mask_sub_ps(one, 0x0f0f, zero, one), sums);
    sums = _mm512_fmadd_ps(_mm512_permute_ps(numbers, 0xff), _mm512_mask_sub_ps(one, 0x00ff, zero, one), sums);
    return _mm512_cvtps_epi32(sums);
}

/* Adds 32 rows: counts times the unit and the scales. */
INLINE void add_rows(float *sums, __m512i counts, float unit, const uint16_t *scales) {
    for (int half = 0; half < 2; half++) {
        const __m256i sixteen = half ? _mm512_extracti64x4_epi64(counts, 1) : _mm512_castsi512_si256(counts);
        __m512 factor = _mm512_set1_ps(unit);
        if (scales) {
            const __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)(scales + 16 * half));
            factor = _mm512_mul_ps(factor, _mm512_cvtph_ps(halves));
        }
        const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(sixteen));
        _mm512_storeu_ps(sums + 16 * half, _mm512_fmadd_ps(numbers, factor, _mm512_loadu_ps(sums + 16 * half)));
    }
}

INLINE void fetch(const void *address) { _mm_prefetch((const char *)address, _MM_HINT_T0); }

INLINE void fetch_scales(const uint16_t *scales) {
    fetch(scales + FETCH_PANELS * PANEL_ROWS);
    fetch(scales + FETCH_PANELS * PANEL_ROWS + PANEL_ROWS / 2);
}

enum { TABLE_BYTES = 32, NIBBLES = SEGMENT_COLUMNS / 4, GREATEST = 1023 /* of an entry; 32 of them fit 16 bits */ };

AVX512 static float fill(const float *values, int byte_columns, uint8_t *table) {
    const float unit = greatest_sum(values, byte_columns) / (float)GREATEST, per_unit = inverse(unit);
    for (int nibble = 0; nibble < 2 * byte_columns; nibble++) {
        const __m512i sums = sixteen_sums(values + 4 * nibble, _mm512_set1_ps(per_unit));
        _mm256_store_si256((__m256i *)(void *)(table + nibble * TABLE_BYTES), _mm512_cvtepi32_epi16(sums));
    }
    return settled_unit(unit, per_unit);
}

/* The tables of one token: a vector for each nibble of a segment. */
typedef __m512i Spread[NIBBLES];

/* Sums of entries for one token: rows 0-31 and 32-63. */
typedef struct {
    __m512i lower, upper;
} Counts;

INLINE void count(Counts *counts, __m512i codes, const __m512i *tables) {
    const __m512i lower = _mm512_add_epi16(_mm512_permutexvar_epi16(codes, tables[0]),
                                           _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), tables[1]));
    const __m512i upper = _mm512_add_epi16(_mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), tables[0]),
                                           _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 12), tables[1]));
    counts->lower = _mm512_add_epi16(counts->lower, lower);
    counts->upper = _mm512_add_epi16(counts->upper, upper);
}

INLINE void multiply_panel(const Product *product, int panel, const Spread *spread, int tokens) {
    const uint8_t *codes = product->codes + (int64_t)panel * product->byte_columns * PANEL_ROWS;
    const uint8_t *ahead = codes_ahead(product, panel);
    const uint16_t *scales = product->scales ? product->scales + panel * PANEL_ROWS : NULL;
    Counts counts[MOST_TOKENS];
    for (int token = 0; token < tokens; token++) counts[token].lower = counts[token].upper = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int column = 0; column < product->byte_columns; column++) {
        const __m512i both = _mm512_loadu_si512(codes + column * PANEL_ROWS);
        fetch(ahead + column * PANEL_ROWS);
        for (int token = 0; token < tokens; token++) count(&counts[token], both, spread[token] + 2 * column);
    }
    if (scales) fetch_scales(scales);
    for (int token = 0; token < tokens; token++) {
        float *sums = product->sums + (panel * tokens + token) * PANEL_ROWS;
        const float unit = product->units[token * product->unit_stride];
        add_rows(sums, counts[token].lower, unit, scales);
        add_rows(sums + 32, counts[token].upper, unit, scales ? scales + 32 : NULL);
    }
}

/* `name(product, spread)` for each number of tokens. Kept apart from the code that fills
 * `spread`: gcc would take its vectors for variables, and spill them. */
#define PANELS_OF(name, tokens)                                                                               \
    AVX512 __attribute__((noinline)) static void name(const Product *product, const Spread *spread) {         \
        for (int panel = 0; panel < product->panels; panel++) multiply_panel(product, panel, spread, tokens); \
    }

PANELS_OF(panels_of_one, 1)
PANELS_OF(panels_of_two, 2)
PANELS_OF(panels_of_three, 3)
PANELS_OF(panels_of_four, 4)

static void (*const PANELS[])(const Product *, const Spread *) = {
    panels_of_one,
    panels_of_two,
    panels_of_three,
    panels_of_four,
};

AVX512 static void multiply(const Product *product) {
    Spread spread[MOST_TOKENS];
    for (int token = 0; token < product->tokens; token++)
        for (int nibble = 0; nibble < 2 * product->byte_columns; nibble++) {
            const uint8_t *table = product->tables + token * product->table_stride + nibble * TABLE_BYTES;
            spread[token][nibble] =
                _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)(const void *)table));
        }
    PANELS[product->tokens - 1](product, (const Spread *)spread);
}

const Kernel AVX512_KERNEL = {
    .name = "avx512",
    .column_bytes = 2 * TABLE_BYTES,
    .tokens = MOST_TOKENS,
    .is_supported = has_avx512,
    .fill = fill,
    .multiply = multiply,
};

#endif
