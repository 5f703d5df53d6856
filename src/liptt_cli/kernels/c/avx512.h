/* What both AVX-512 kernels (F, BW, VL) share: the unit of a segment, the 16 sums of four numbers, and adding up rows. */
#ifndef LIPTT_AVX512_H
#define LIPTT_AVX512_H

#include <immintrin.h>
#include <math.h>

#include "kernel.h"

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

/* `name(product, spread)` for each number of tokens, and a table of these. Kept apart from the code that fills
 * `spread`: gcc would take its vectors for variables, and spill them. */
#define PANELS_OF(name, tokens)                                                                               \
    AVX512 __attribute__((noinline)) static void name(const Product *product, const Spread *spread) {         \
        for (int panel = 0; panel < product->panels; panel++) multiply_panel(product, panel, spread, tokens); \
    }

#define PANELS_BY_TOKENS            \
    PANELS_OF(panels_of_one, 1)     \
    PANELS_OF(panels_of_two, 2)     \
    PANELS_OF(panels_of_three, 3)   \
    PANELS_OF(panels_of_four, 4)    \
    static void (*const PANELS[])(const Product *, const Spread *) = {panels_of_one, panels_of_two, panels_of_three, \
                                                                       panels_of_four};

#endif
