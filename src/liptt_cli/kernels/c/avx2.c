/* The nibble-table kernel for AVX2.
 *
 * Four columns have 16 sums of signs; a byte shuffle looks up 32 rows at once. Sums are rounded to 11 bits, offset to be
 * positive, and kept as two tables of bytes: the low 7 bits and the high 4. One unit (a float) per 128 columns.
 *
 *   low    two entries of 7 bits add up in a byte; then `all += v, odd += v >> 8` on 16-bit lanes accumulates 32 rows
 *          in three operations: even bytes are all - 256 odd.
 *   high   16 entries of 4 bits fit a byte; twice in a segment they are moved to 16 bits.
 *
 * Even bytes of a panel's vector are rows 0-7 and 32-39 in turn, odd bytes 16-23 and 48-55 (the second vector's rows are
 * those plus 8), so nothing crosses lanes. The kernel `fast` has no high table: 7 bits.
 */
#include "kernel.h"

#ifdef LIPTT_X86

#include <immintrin.h>
#include <math.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))

enum { NIBBLE_BYTES = 16, LOW_BITS = 7, HALF_SEGMENT = 8 /* byte columns */, MOST_HERE = 4 /* tokens */ };
enum { FULL_BYTES = 4 * NIBBLE_BYTES, FAST_BYTES = 2 * NIBBLE_BYTES }; /* of tables, for a byte of codes */
enum { FULL_OFFSET = 1024, FAST_OFFSET = 64 }; /* of an entry; entries are within 1 of it and of twice it */

static int is_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

/* The greatest magnitude of a sum of four; NaN if a value, or a sum, is not finite. */
AVX2 static float greatest_sum(const float *values, int nibbles) {
    float greatest = 0.0f, unfit = 0.0f;
    for (int nibble = 0; nibble < nibbles; nibble++, values += 4) {
        const float sum = fabsf(values[0]) + fabsf(values[1]) + fabsf(values[2]) + fabsf(values[3]);
        greatest = sum > greatest ? sum : greatest;
        unfit += sum - sum; /* zero, unless a number is infinite or none */
    }
    return greatest + unfit;
}

/* The 8 sums whose fourth sign is -, in units, rounded; the other 8 are these reversed and negated. */
INLINE __m256i eight_sums(const float *values, __m256 per_unit) {
    const __m256 first = _mm256_setr_ps(-1, 1, -1, 1, -1, 1, -1, 1);
    const __m256 second = _mm256_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1);
    const __m256 third = _mm256_setr_ps(-1, -1, -1, -1, 1, 1, 1, 1);
    __m256 sums = _mm256_fmsub_ps(_mm256_broadcast_ss(values), first, _mm256_broadcast_ss(values + 3));
    sums = _mm256_fmadd_ps(_mm256_broadcast_ss(values + 1), second, sums);
    sums = _mm256_fmadd_ps(_mm256_broadcast_ss(values + 2), third, sums);
    return _mm256_cvtps_epi32(_mm256_mul_ps(sums, per_unit));
}

/* Eight numbers below 2^16 as eight 16-bit lanes. */
INLINE __m128i narrowed(__m256i numbers) {
    return _mm_packus_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
}

INLINE void write_entries(__m256i sums, int offset, uint8_t *table, int is_fast) {
    const __m256i middle = _mm256_set1_epi32(offset), reversed = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    const __m128i lower = narrowed(_mm256_add_epi32(middle, sums));
    const __m128i upper = narrowed(_mm256_permutevar8x32_epi32(_mm256_sub_epi32(middle, sums), reversed));
    const __m128i mask = _mm_set1_epi16((1 << LOW_BITS) - 1);
    _mm_store_si128((__m128i *)(void *)table, _mm_packus_epi16(_mm_and_si128(lower, mask), _mm_and_si128(upper, mask)));
    if (!is_fast)
        _mm_store_si128((__m128i *)(void *)(table + NIBBLE_BYTES),
                        _mm_packus_epi16(_mm_srli_epi16(lower, LOW_BITS), _mm_srli_epi16(upper, LOW_BITS)));
}

INLINE float fill_tables(const float *values, int byte_columns, uint8_t *table, int is_fast) {
    const int offset = is_fast ? FAST_OFFSET : FULL_OFFSET, nibbles = 2 * byte_columns;
    const float greatest = greatest_sum(values, nibbles), unit = greatest / (float)(offset - 1);
    const float per_unit = unit > 0.0f && 1.0f / unit < INFINITY ? 1.0f / unit : 0.0f;
    for (int nibble = 0; nibble < nibbles; nibble++)
        write_entries(eight_sums(values + 4 * nibble, _mm256_set1_ps(per_unit)), offset,
                      table + nibble * NIBBLE_BYTES * (is_fast ? 1 : 2), is_fast);
    return per_unit > 0.0f || greatest != greatest ? unit : 0.0f; /* all below 2^-117 or so: zero */
}

AVX2 static float fill(const float *values, int byte_columns, const Slot *slot) {
    return fill_tables(values, byte_columns, slot->tables + table_place(FULL_BYTES, byte_columns, slot->token), 0);
}

AVX2 static float fill_fast(const float *values, int byte_columns, const Slot *slot) {
    return fill_tables(values, byte_columns, slot->tables + table_place(FAST_BYTES, byte_columns, slot->token), 1);
}

/* Sums of entries for 32 rows and one token: 16-bit lanes, but for `high`, which are bytes. */
typedef struct {
    __m256i all, odd, high, high_even, high_odd;
} Counts;

INLINE __m256i entries_of(const uint8_t *table) {
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)table));
}

/* Adds the entries of two nibbles: `lower` and `upper` hold 4 bits in each byte. */
INLINE void count(Counts *counts, __m256i lower, __m256i upper, const uint8_t *table, int is_fast) {
    const int stride = NIBBLE_BYTES * (is_fast ? 1 : 2);
    const __m256i low = _mm256_add_epi8(_mm256_shuffle_epi8(entries_of(table), lower),
                                        _mm256_shuffle_epi8(entries_of(table + stride), upper));
    counts->all = _mm256_add_epi16(counts->all, low);
    counts->odd = _mm256_add_epi16(counts->odd, _mm256_srli_epi16(low, 8));
    if (is_fast) return;
    const __m256i high = _mm256_add_epi8(_mm256_shuffle_epi8(entries_of(table + NIBBLE_BYTES), lower),
                                         _mm256_shuffle_epi8(entries_of(table + stride + NIBBLE_BYTES), upper));
    counts->high = _mm256_add_epi8(counts->high, high);
}

INLINE void clear(Counts *counts) {
    counts->all = counts->odd = counts->high = counts->high_even = counts->high_odd = _mm256_setzero_si256();
}

INLINE void widen_high(Counts *counts) {
    counts->high_even = _mm256_add_epi16(counts->high_even, _mm256_and_si256(counts->high, _mm256_set1_epi16(255)));
    counts->high_odd = _mm256_add_epi16(counts->high_odd, _mm256_srli_epi16(counts->high, 8));
    counts->high = _mm256_setzero_si256();
}

/* Adds 8 rows, in even lanes, and the 8 that come 32 later, in odd lanes: counts less their offset, times the unit and
 * the scales. */
INLINE void add_rows(float *sums, __m256i counts, __m256i offset, float unit, const uint16_t *scales) {
    const __m256i centred = _mm256_sub_epi16(counts, offset);
    for (int row = 0; row < PANEL_ROWS; row += 32) {
        const __m256i eight = _mm256_srai_epi32(row ? centred : _mm256_slli_epi32(centred, 16), 16);
        __m256 factor = _mm256_set1_ps(unit);
        if (scales) {
            const __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(scales + row));
            factor = _mm256_mul_ps(factor, _mm256_cvtph_ps(halves));
        }
        const __m256 numbers = _mm256_cvtepi32_ps(eight);
        _mm256_storeu_ps(sums + row, _mm256_fmadd_ps(numbers, factor, _mm256_loadu_ps(sums + row)));
    }
}

INLINE void finish(const Counts *counts, float *sums, int nibbles, float unit, const uint16_t *scales, int is_fast) {
    const __m256i offset = _mm256_set1_epi16((short)(nibbles * (is_fast ? FAST_OFFSET : FULL_OFFSET)));
    __m256i even = _mm256_sub_epi16(counts->all, _mm256_slli_epi16(counts->odd, 8)), odd = counts->odd;
    if (!is_fast) {
        even = _mm256_add_epi16(even, _mm256_slli_epi16(counts->high_even, LOW_BITS));
        odd = _mm256_add_epi16(odd, _mm256_slli_epi16(counts->high_odd, LOW_BITS));
    }
    add_rows(sums, even, offset, unit, scales);
    add_rows(sums + 16, odd, offset, unit, scales ? scales + 16 : NULL);
}

/* Half of a segment at most: 8 byte columns. */
INLINE void multiply_half(const uint8_t *codes, const uint8_t *ahead, const uint8_t *tables, int64_t table_stride,
                          int byte_columns, Counts *counts, int vectors, int tokens, int is_fast) {
    const int stride = is_fast ? FAST_BYTES : FULL_BYTES;
    const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 2
    for (int column = 0; column < byte_columns; column++, codes += PANEL_ROWS, ahead += PANEL_ROWS, tables += stride) {
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        for (int vector = 0; vector < vectors; vector++) {
            const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(codes + 32 * vector));
            const __m256i lower = _mm256_and_si256(both, mask);
            const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
            for (int token = 0; token < tokens; token++)
                count(&counts[vector + token], lower, upper, tables + token * table_stride, is_fast);
        }
    }
    if (!is_fast)
        for (int each = 0; each < vectors * tokens; each++) widen_high(&counts[each]);
}

/* Some tokens and some vectors of 32 rows of a panel; their product is at most 2, for want of registers. */
INLINE void multiply_panel(const Product *product, int panel, int first_vector, int vectors, int first_token, int tokens,
                           int is_fast) {
    const int stride = is_fast ? FAST_BYTES : FULL_BYTES;
    const uint8_t *codes = product->codes + (int64_t)panel * product->byte_columns * PANEL_ROWS + 32 * first_vector;
    const int64_t table_stride = table_place(stride, product->byte_columns, 1);
    const uint8_t *ahead = codes_ahead(product, panel), *tables = product->tables + first_token * table_stride;
    Counts counts[2];
    for (int each = 0; each < vectors * tokens; each++) clear(&counts[each]);
    if (product->byte_columns == 2 * HALF_SEGMENT) { /* the common case, with loops of known length */
        multiply_half(codes, ahead, tables, table_stride, HALF_SEGMENT, counts, vectors, tokens, is_fast);
        multiply_half(codes + HALF_SEGMENT * PANEL_ROWS, ahead + HALF_SEGMENT * PANEL_ROWS, tables + HALF_SEGMENT * stride,
                      table_stride, HALF_SEGMENT, counts, vectors, tokens, is_fast);
    } else {
        for (int first = 0; first < product->byte_columns; first += HALF_SEGMENT) {
            const int left = product->byte_columns - first;
            multiply_half(codes + first * PANEL_ROWS, ahead + first * PANEL_ROWS, tables + first * stride,
                          table_stride, left < HALF_SEGMENT ? left : HALF_SEGMENT, counts, vectors, tokens, is_fast);
        }
    }
    for (int vector = 0; vector < vectors; vector++)
        for (int token = 0; token < tokens; token++) {
            const int place = 8 * (first_vector + vector);
            finish(&counts[vector + token],
                   product->sums + (panel * product->tokens + first_token + token) * PANEL_ROWS + place,
                   2 * product->byte_columns, product->units[(first_token + token) * product->unit_stride],
                   product->scales ? product->scales + panel * PANEL_ROWS + place : NULL, is_fast);
        }
}

INLINE void multiply_panels(const Product *product, int is_fast) {
    for (int panel = 0; panel < product->panels; panel++) {
        int token = 0;
        for (; token + 2 <= product->tokens; token += 2) {
            multiply_panel(product, panel, 0, 1, token, 2, is_fast);
            multiply_panel(product, panel, 1, 1, token, 2, is_fast);
        }
        for (; token < product->tokens; token++) multiply_panel(product, panel, 0, 2, token, 1, is_fast);
    }
}

AVX2 static void multiply(const Product *product) { multiply_panels(product, 0); }

AVX2 static void multiply_fast(const Product *product) { multiply_panels(product, 1); }

const Kernel AVX2_KERNEL = {
    .name = "avx2",
    .column_bytes = FULL_BYTES,
    .tokens = MOST_HERE,
    .is_supported = is_supported,
    .fill = fill,
    .multiply = multiply,
};

const Kernel AVX2_FAST_KERNEL = {
    .name = "avx2-fast",
    .column_bytes = FAST_BYTES,
    .tokens = MOST_HERE,
    .is_supported = is_supported,
    .fill = fill_fast,
    .multiply = multiply_fast,
};

#endif
