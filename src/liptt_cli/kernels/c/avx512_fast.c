/* The nibble-table kernel for AVX-512 with tables of 7 bits: avx2.c tells the idea; one vector is a panel of 64 rows. */
#include "kernel.h"

#ifdef LIPTT_X86

#include "avx512.h"

enum { TABLE_BYTES = 16, NIBBLES = SEGMENT_COLUMNS / 4, OFFSET = 64 /* of an entry, which is at least 1 */ };

AVX512 static float fill(const float *values, int byte_columns, uint8_t *table) {
    const float unit = greatest_sum(values, byte_columns) / (float)(OFFSET - 1), per_unit = inverse(unit);
    for (int nibble = 0; nibble < 2 * byte_columns; nibble++) {
        const __m512i sums = sixteen_sums(values + 4 * nibble, _mm512_set1_ps(per_unit));
        const __m512i entries = _mm512_add_epi32(sums, _mm512_set1_epi32(OFFSET));
        _mm_store_si128((__m128i *)(void *)(table + nibble * TABLE_BYTES), _mm512_cvtepi32_epi8(entries));
    }
    return settled_unit(unit, per_unit);
}

/* The tables of one token: a vector for each nibble of a segment. */
typedef __m512i Spread[NIBBLES];

/* Sums of entries for 64 rows and one token, in 16-bit lanes: even bytes are all - 256 odd. */
typedef struct {
    __m512i all, odd;
} Counts;

INLINE void count(Counts *counts, __m512i lower, __m512i upper, const __m512i *tables) {
    const __m512i entries =
        _mm512_add_epi8(_mm512_shuffle_epi8(tables[0], lower), _mm512_shuffle_epi8(tables[1], upper));
    counts->all = _mm512_add_epi16(counts->all, entries);
    counts->odd = _mm512_add_epi16(counts->odd, _mm512_srli_epi16(entries, 8));
}

INLINE void multiply_panel(const Product *product, int panel, const Spread *spread, int tokens) {
    const uint8_t *codes = product->codes + (int64_t)panel * product->byte_columns * PANEL_ROWS;
    const uint8_t *ahead = codes_ahead(product, panel);
    const uint16_t *scales = product->scales ? product->scales + panel * PANEL_ROWS : NULL;
    const __m512i mask = _mm512_set1_epi8(15), offset = _mm512_set1_epi16((short)(2 * product->byte_columns * OFFSET));
    Counts counts[MOST_TOKENS];
    for (int token = 0; token < tokens; token++) counts[token].all = counts[token].odd = _mm512_setzero_si512();
    for (int column = 0; column < product->byte_columns; column++) {
        const __m512i both = _mm512_loadu_si512(codes + column * PANEL_ROWS);
        const __m512i lower = _mm512_and_si512(both, mask);
        const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
        fetch(ahead + column * PANEL_ROWS);
        for (int token = 0; token < tokens; token++) count(&counts[token], lower, upper, spread[token] + 2 * column);
    }
    if (scales) fetch_scales(scales);
    for (int token = 0; token < tokens; token++) {
        float *sums = product->sums + (panel * tokens + token) * PANEL_ROWS;
        const float unit = product->units[token * product->unit_stride];
        const __m512i odd = counts[token].odd, even = _mm512_sub_epi16(counts[token].all, _mm512_slli_epi16(odd, 8));
        add_rows(sums, _mm512_sub_epi16(even, offset), unit, scales);
        add_rows(sums + 32, _mm512_sub_epi16(odd, offset), unit, scales ? scales + 32 : NULL);
    }
}

PANELS_BY_TOKENS

AVX512 static void multiply(const Product *product) {
    Spread spread[MOST_TOKENS];
    for (int token = 0; token < product->tokens; token++)
        for (int nibble = 0; nibble < 2 * product->byte_columns; nibble++) {
            const uint8_t *table = product->tables + token * product->table_stride + nibble * TABLE_BYTES;
            spread[token][nibble] = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(const void *)table));
        }
    PANELS[product->tokens - 1](product, (const Spread *)spread);
}

const Kernel AVX512_FAST_KERNEL = {
    .name = "avx512-fast",
    .column_bytes = 2 * TABLE_BYTES,
    .tokens = MOST_TOKENS,
    .is_supported = has_avx512,
    .fill = fill,
    .multiply = multiply,
};

#endif
