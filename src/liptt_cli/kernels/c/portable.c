/* The kernel for any processor: tables of 16 float sums for every 4 columns, looked up by 4 bits of the codes. */
#include "kernel.h"

enum { ENTRIES = 16, NIBBLE_COLUMNS = 4, COLUMN_BYTES = 2 * ENTRIES * sizeof(float) };

static int always(void) { return 1; }

static float fill(const float *values, int byte_columns, const Slot *slot) {
    float *entries = (float *)(void *)(slot->tables + table_place(COLUMN_BYTES, byte_columns, slot->token));
    for (int nibble = 0; nibble < 2 * byte_columns; nibble++, values += NIBBLE_COLUMNS, entries += ENTRIES)
        for (int code = 0; code < ENTRIES; code++) {
            float sum = 0.0f;
            for (int column = 0; column < NIBBLE_COLUMNS; column++)
                sum += code >> column & 1 ? values[column] : -values[column];
            entries[code] = sum;
        }
    return 1.0f;
}

static void add_segment(const uint8_t *codes, const float *entries, int byte_columns, float *rows) {
    for (int column = 0; column < byte_columns; column++, codes += PANEL_ROWS, entries += 2 * ENTRIES)
        for (int row = 0; row < PANEL_ROWS; row++) {
            const uint8_t code = codes[4 * (row % 16) + row / 16];
            rows[row] += entries[code & 15] + entries[ENTRIES + (code >> 4)];
        }
}

static void multiply(const Product *product) {
    for (int panel = 0; panel < product->panels; panel++) {
        const uint8_t *codes = product->codes + (int64_t)panel * product->byte_columns * PANEL_ROWS;
        const uint16_t *scales = product->scales ? product->scales + (int64_t)panel * PANEL_ROWS : NULL;
        for (int token = 0; token < product->tokens; token++) {
            float rows[PANEL_ROWS] = {0.0f};
            const float *entries = (const float *)(const void *)(product->tables + table_place(COLUMN_BYTES, product->byte_columns, token));
            add_segment(codes, entries, product->byte_columns, rows);
            float *sums = product->sums + ((int64_t)panel * product->tokens + token) * PANEL_ROWS;
            for (int row = 0; row < PANEL_ROWS; row++)
                sums[row] += scales ? half_to_float(scales[row]) * rows[row] : rows[row];
        }
    }
}

const Kernel PORTABLE_KERNEL = {
    .name = "portable",
    .column_bytes = COLUMN_BYTES,
    .tokens = 4,
    .is_supported = always,
    .fill = fill,
    .multiply = multiply,
};
