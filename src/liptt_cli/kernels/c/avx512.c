/* The kernel for AVX-512 (F, BW, VL): sums of five and of six signed numbers, looked up in registers.
 *
 * Inputs are rounded to a unit of their 128 columns, such that the magnitudes of these add up to 32700 at most: whatever
 * the signs, the sum fits 16 bits, so it does not matter where on the way it wraps around. 16 columns of 32 rows are
 * three look-ups: `vpermw` reads the low five bits of a 16-bit lane and `vpermt2w` the low six; they do not see the
 * others. So the first five columns of a vector of codes are looked up by the codes as they stand (even bytes) and
 * shifted by 8 (odd bytes), and the last three of two vectors together by bits gathered from both.
 *
 *   even bytes   rows 0-15 in even lanes, 32-47 in odd lanes
 *   odd bytes    rows 16-31 in even lanes, 48-63 in odd lanes
 *
 * Tables lie in the order of their reading: for each 16 columns those of five columns of all tokens, the next five, and
 * the six. A last 8 columns alone are five and three.
 * gcc would gather sums to add them later, and spill them: `settle` holds it to the order that is written.
 */
#include "kernel.h"

#ifdef LIPTT_X86

#include <immintrin.h>
#include <math.h>

#define AVX512_TARGET "avx512f,avx512bw,avx512vl,avx2,fma,f16c"
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define INLINE static inline __attribute__((always_inline, target(AVX512_TARGET)))
#define EACH_TOKEN _Pragma("GCC unroll 8") for (int token = 0; token < tokens; token++)

enum {
    VECTOR_BYTES = 64,
    PAIR_COLUMNS = 16,
    PAIR_BYTES = 4 * VECTOR_BYTES, /* of tables: five columns, five, and two vectors for six */
    LAST_BYTES = 2 * VECTOR_BYTES,
    GREATEST = 32700 /* 128 roundings below 2^15 */
};

static inline int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && AVX2_KERNEL.is_supported();
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

/* The sum of magnitudes over GREATEST; not finite if a value is not. */
INLINE float unit_of(const float *values, int columns) {
    __m512 sum = _mm512_setzero_ps();
    for (int column = 0; column < columns; column += PAIR_COLUMNS) {
        const __m512 magnitudes = _mm512_abs_ps(_mm512_loadu_ps(values + column));
        sum = _mm512_fmadd_ps(magnitudes, _mm512_set1_ps(1.0f / GREATEST), sum);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Writes twice each value in units, modulo 2^16; returns the sum of all, not doubled. */
INLINE int doubled(const float *values, int columns, float per_unit, int16_t *twice) {
    __m512i total = _mm512_setzero_si512();
    for (int column = 0; column < columns; column += PAIR_COLUMNS) {
        const __m512 numbers = _mm512_mul_ps(_mm512_loadu_ps(values + column), _mm512_set1_ps(per_unit));
        const __m512i rounded = _mm512_cvtps_epi32(numbers);
        total = _mm512_add_epi32(total, rounded);
        _mm256_storeu_si256((__m256i *)(void *)(twice + column), _mm512_cvtepi32_epi16(_mm512_slli_epi32(rounded, 1)));
    }
    return _mm512_reduce_add_epi32(total);
}

/* Adds a column's number to the entries whose bit is set. */
INLINE __m512i add_column(__m512i table, int bit, int16_t number) {
    static const __mmask32 ENTRIES[] = {0xaaaaaaaau, 0xccccccccu, 0xf0f0f0f0u, 0xff00ff00u, 0xffff0000u};
    return _mm512_mask_add_epi16(table, ENTRIES[bit], table, _mm512_set1_epi16(number));
}

INLINE __m512i add_columns(__m512i table, int first_bit, const int16_t *numbers, int columns) {
#pragma GCC unroll 5
    for (int column = 0; column < columns; column++) table = add_column(table, first_bit + column, numbers[column]);
    return table;
}

INLINE void store(uint8_t *place, __m512i table) { _mm512_store_si512((void *)place, table); }

AVX512 static float fill(const float *values, int byte_columns, const Slot *slot) {
    const int columns = (byte_columns + 1) / 2 * PAIR_COLUMNS, pairs = byte_columns / 2;
    const float unit = unit_of(values, columns);
    const float per_unit = unit > 0.0f && 1.0f / unit < INFINITY ? 1.0f / unit : 0.0f;
    int16_t twice[SEGMENT_COLUMNS];
    const int total = doubled(values, columns, per_unit, twice);
    __m512i start = _mm512_set1_epi16((short)-total); /* all signs minus; in the first look-up of the segment */
    const int five = slot->token * VECTOR_BYTES, next_five = slot->tokens * VECTOR_BYTES + five;
    const int six = 2 * (slot->tokens + slot->token) * VECTOR_BYTES;
    for (int pair = 0; pair < pairs; pair++) {
        const int16_t *first = twice + pair * PAIR_COLUMNS, *second = first + BYTE_COLUMNS;
        uint8_t *place = slot->tables + pair * slot->tokens * PAIR_BYTES;
        store(place + five, add_columns(start, 0, first, 5));
        store(place + next_five, add_columns(_mm512_setzero_si512(), 0, second, 5));
        const __m512i rest = add_columns(add_columns(_mm512_setzero_si512(), 0, first + 5, 3), 3, second + 5, 2);
        store(place + six, rest);
        store(place + six + VECTOR_BYTES, _mm512_add_epi16(rest, _mm512_set1_epi16(second[7])));
        start = _mm512_setzero_si512();
    }
    if (byte_columns % 2) {
        const int16_t *last = twice + pairs * PAIR_COLUMNS;
        uint8_t *place = slot->tables + pairs * slot->tokens * PAIR_BYTES;
        store(place + five, add_columns(start, 0, last, 5));
        store(place + next_five, add_columns(_mm512_setzero_si512(), 0, last + 5, 3));
    }
    return per_unit > 0.0f || unit - unit != 0.0f ? unit : 0.0f; /* all below 2^-120 or so: zero */
}

/* --- products ---------------------------------------------------------------------------------------------------- */

/* Sums of entries for one token: even and odd bytes. */
typedef struct {
    __m512i even, odd;
} Counts;

INLINE void settle(Counts *counts) { __asm__("" : "+v"(counts->even), "+v"(counts->odd)); }

/* A vector of entries, kept in a register: gcc would load it for each of the look-ups. */
INLINE __m512i entries_of(const uint8_t *table) {
    __m512i entries = _mm512_load_si512((const void *)table);
    __asm__("" : "+v"(entries));
    return entries;
}

/* Looks up the low five bits of each lane. */
INLINE void count_five(Counts *counts, __m512i even, __m512i odd, const uint8_t *table, int tokens) {
    EACH_TOKEN {
        const __m512i entries = entries_of(table + token * VECTOR_BYTES);
        counts[token].even = _mm512_add_epi16(counts[token].even, _mm512_permutexvar_epi16(even, entries));
        counts[token].odd = _mm512_add_epi16(counts[token].odd, _mm512_permutexvar_epi16(odd, entries));
        settle(&counts[token]);
    }
}

/* Looks up the low six bits of each lane. */
INLINE void count_six(Counts *counts, __m512i even, __m512i odd, const uint8_t *table, int tokens) {
    EACH_TOKEN {
        const __m512i lower = entries_of(table + 2 * token * VECTOR_BYTES);
        const __m512i upper = entries_of(table + (2 * token + 1) * VECTOR_BYTES);
        counts[token].even = _mm512_add_epi16(counts[token].even, _mm512_permutex2var_epi16(lower, even, upper));
        counts[token].odd = _mm512_add_epi16(counts[token].odd, _mm512_permutex2var_epi16(lower, odd, upper));
        settle(&counts[token]);
    }
}

INLINE __m512i odd_bytes(__m512i codes) { return _mm512_srli_epi16(codes, 8); }

/* Two vectors of codes, 16 columns. */
INLINE void count_pair(Counts *counts, const uint8_t *codes, const uint8_t *table, int tokens) {
    const __m512i first = _mm512_loadu_si512((const void *)codes);
    const __m512i second = _mm512_loadu_si512((const void *)(codes + PANEL_ROWS));
    const __m512i rest = _mm512_ternarylogic_epi64(_mm512_set1_epi8(7), _mm512_srli_epi16(first, 5),
                                                   _mm512_srli_epi16(second, 2), 0xca); /* mask ? first : second */
    count_five(counts, first, odd_bytes(first), table, tokens);
    count_five(counts, second, odd_bytes(second), table + tokens * VECTOR_BYTES, tokens);
    count_six(counts, rest, odd_bytes(rest), table + 2 * tokens * VECTOR_BYTES, tokens);
}

INLINE void count_last(Counts *counts, const uint8_t *codes, const uint8_t *table, int tokens) {
    const __m512i all = _mm512_loadu_si512((const void *)codes), rest = _mm512_srli_epi16(all, 5);
    count_five(counts, all, odd_bytes(all), table, tokens);
    count_five(counts, rest, odd_bytes(rest), table + tokens * VECTOR_BYTES, tokens);
}

/* Adds 16 rows: counts, which are those of a lane times 2^16, times the unit and the scales. */
INLINE void add_rows(float *sums, __m512i counts, __m512 unit, __m512 scales) {
    const __m512 factors = _mm512_mul_ps(scales, unit);
    _mm512_storeu_ps(sums, _mm512_fmadd_ps(_mm512_cvtepi32_ps(counts), factors, _mm512_loadu_ps(sums)));
}

INLINE void add_panel(float *sums, const Counts *counts, float unit, const __m512 *scales) {
    const __m512 part = _mm512_set1_ps(unit * 0x1p-16f);
    const __m512i odd_lanes = _mm512_set1_epi32((int)0xffff0000u);
    add_rows(sums, _mm512_slli_epi32(counts->even, 16), part, scales[0]);
    add_rows(sums + 16, _mm512_slli_epi32(counts->odd, 16), part, scales[1]);
    add_rows(sums + 32, _mm512_and_si512(counts->even, odd_lanes), part, scales[2]);
    add_rows(sums + 48, _mm512_and_si512(counts->odd, odd_lanes), part, scales[3]);
}

INLINE void fetch(const void *address) { _mm_prefetch((const char *)address, _MM_HINT_T0); }

INLINE void read_scales(const Product *product, int panel, __m512 *scales) {
    const uint16_t *halves = product->scales + panel * PANEL_ROWS;
    for (int part = 0; part < 4; part++)
        scales[part] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(halves + 16 * part)));
    fetch(halves + FETCH_PANELS * PANEL_ROWS);
    fetch(halves + FETCH_PANELS * PANEL_ROWS + PANEL_ROWS / 2);
}

INLINE void multiply_panel(const Product *product, int panel, int tokens) {
    const uint8_t *codes = product->codes + (int64_t)panel * product->byte_columns * PANEL_ROWS;
    const uint8_t *ahead = codes_ahead(product, panel), *table = product->tables;
    const int pairs = product->byte_columns / 2;
    const __m512 one = _mm512_set1_ps(1.0f);
    Counts counts[MOST_TOKENS];
    __m512 scales[4] = {one, one, one, one};
    EACH_TOKEN counts[token].even = counts[token].odd = _mm512_setzero_si512();
#pragma GCC unroll 1
    for (int pair = 0; pair < pairs; pair++, codes += 2 * PANEL_ROWS, table += tokens * PAIR_BYTES) {
        fetch(ahead + 2 * pair * PANEL_ROWS);
        fetch(ahead + (2 * pair + 1) * PANEL_ROWS);
        count_pair(counts, codes, table, tokens);
    }
    if (product->byte_columns % 2) count_last(counts, codes, table, tokens);
    if (product->scales) read_scales(product, panel, scales);
    EACH_TOKEN {
        float *sums = product->sums + (panel * tokens + token) * PANEL_ROWS;
        add_panel(sums, &counts[token], product->units[token * product->unit_stride], scales);
    }
}

/* `name(product)` for each number of tokens. */
#define PANELS_OF(name, tokens)                                                                       \
    AVX512 static void name(const Product *product) {                                                 \
        for (int panel = 0; panel < product->panels; panel++) multiply_panel(product, panel, tokens); \
    }

PANELS_OF(panels_of_1, 1)
PANELS_OF(panels_of_2, 2)
PANELS_OF(panels_of_3, 3)
PANELS_OF(panels_of_4, 4)
PANELS_OF(panels_of_5, 5)
PANELS_OF(panels_of_6, 6)
PANELS_OF(panels_of_7, 7)
PANELS_OF(panels_of_8, 8)

static void multiply(const Product *product) {
    static void (*const PANELS[MOST_TOKENS])(const Product *) = {
        panels_of_1, panels_of_2, panels_of_3, panels_of_4, panels_of_5, panels_of_6, panels_of_7, panels_of_8,
    };
    PANELS[product->tokens - 1](product);
}

const Kernel AVX512_KERNEL = {
    .name = "avx512",
    .column_bytes = LAST_BYTES,
    .tokens = MOST_TOKENS,
    .is_supported = has_avx512,
    .fill = fill,
    .multiply = multiply,
};

#endif
