/* What an instruction set must give: tables from 128 numbers, and the product of one panel of signs with them. */
#ifndef LIPTT_KERNEL_H
#define LIPTT_KERNEL_H

#include "program.h"

enum { MOST_TOKENS = 4, FETCH_PANELS = 8 /* so many panels ahead */ };

/* One segment: some panels of 64 rows against the tables of some tokens. */
typedef struct {
    const uint8_t *codes;      /* of the first panel; panels lie one after another */
    const uint8_t *next_codes; /* what comes after these panels, for the memory to fetch ahead */
    const uint16_t *scales;    /* of the first panel, float16, 64 a panel; or NULL */
    const uint8_t *tables;     /* of the first token */
    const float *units;        /* of the first token: what an entry of its table counts */
    int64_t table_stride, unit_stride;
    int byte_columns, panels, tokens;
    float *sums; /* [panel][tokens][64], added to */
} Product;

typedef struct Kernel {
    const char *name;
    int64_t column_bytes;        /* of the tables, for each byte of codes (8 columns) of a row */
    int tokens;                  /* at most so many in a product */
    int (*is_supported)(void);   /* by this processor */
    float (*fill)(const float *values, int byte_columns, uint8_t *table); /* the tables of one segment; returns its unit */
    void (*multiply)(const Product *product);
} Kernel;

extern const Kernel PORTABLE_KERNEL;

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define LIPTT_X86 1
extern const Kernel AVX2_KERNEL, AVX2_FAST_KERNEL, AVX512_KERNEL;
#endif

/* Where the codes of a panel lie that comes FETCH_PANELS after this one. */
static inline const uint8_t *codes_ahead(const Product *product, int panel) {
    const int64_t panel_bytes = (int64_t)product->byte_columns * PANEL_ROWS;
    const int ahead = panel + FETCH_PANELS;
    return ahead < product->panels ? product->codes + ahead * panel_bytes
                                   : product->next_codes + (ahead - product->panels) * panel_bytes;
}

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);

#endif
