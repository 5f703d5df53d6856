/* The nibble-table kernel for AVX-512 (F, BW, VL).
 *
 * As in avx2.c, four columns have 16 sums of signs, rounded to 11 bits of one unit per 128 columns. Here a table is one
 * vector of 16-bit numbers, twice the same 16, and `vpermw` looks up 32 rows by the low bits of their 16-bit lanes: it
 * does not see the others, so codes need shifts and no masks, and 32 entries of a segment add up in 16 bits. Even bytes
 * of the codes are rows 0-31 and odd bytes rows 32-63: both row halves and all tokens use a table while it is at hand.
 *
 * Tables are spread over whole vectors first: a broadcast from memory would take one of the two ports of the shuffles.
 */
#include "kernel.h"

#ifdef LIPTT_X86

#include "avx512.h"

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

PANELS_BY_TOKENS

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
