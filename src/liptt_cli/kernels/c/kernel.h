/* What an instruction set must give: tables from 128 numbers, and the product of one panel of signs with them. */
#ifndef LIPTT_KERNEL_H
#define LIPTT_KERNEL_H

#include "program.h"

enum { MOST_TOKENS = 8, FETCH_PANELS = 8 /* so many panels ahead */ };

/* One segment: some panels of 64 rows against the tables of some tokens. */
typedef struct {
    const uint8_t *codes;      /* of the first panel; panels lie one after another */
    const uint8_t *next_codes; /* what comes after these panels, for the memory to fetch ahead */
    const uint16_t *scales;    /* of the first panel, float16, 64 a panel; or NULL */
    const uint8_t *tables;     /* of these tokens, for this segment */
    const float *units;        /* of the first token: what an entry of its table counts */
    int64_t unit_stride;
    int byte_columns, panels, tokens;
    float *sums; /* [panel][tokens][64], added to */
} Product;

/* Where the tables of one segment go: those of some tokens lie together, in an order that is the kernel's. */
typedef struct {
    uint8_t *tables;
    int token, tokens;
} Slot;

typedef struct Kernel {
    const char *name;
    int64_t column_bytes;      /* of the tables of a token, for each byte of codes (8 columns) of a row */
    int tokens;                /* at most so many in a product */
    int (*is_supported)(void); /* by this processor */
    /* Makes the tables of one token for a segment, whose values are padded to 16 columns; returns their unit. */
    float (*fill)(const float *values, int byte_columns, const Slot *slot);
    void (*multiply)(const Product *product);
} Kernel;

extern const Kernel PORTABLE_KERNEL;

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define LIPTT_X86 1
extern const Kernel AVX2_KERNEL, AVX2_FAST_KERNEL, AVX512_KERNEL;
#endif

/* Where the tables of one token begin, for kernels that put them one after another. */
static inline int64_t table_place(int64_t column_bytes, int byte_columns, int token) {
    return token * byte_columns * column_bytes;
}

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
