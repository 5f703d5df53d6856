/* A program: everything that one call needs, in one block of bytes that kernels/layout.py writes.
 *
 *     y = sum over steps of  rows[n] * sum_g scales[n, g] * sum_{k in g} (+-1)[n, k] * (cols[k] * x[gather[k]])
 *
 * Offsets ("_at") count bytes from the start of the block; 0 stands for "absent". All numbers are native int64.
 *
 *   Table     one input of a product: which numbers, times which columns, cut into segments of at most 128 columns.
 *             Steps that share an input share its table. A segment never crosses a group of scales.
 *   Step      one matrix of signs over a table. Its codes lie by segment, then by panel of 64 rows: a panel holds one
 *             vector of 64 bytes for each 8 columns, bit j of a byte being column j. Row r of a panel is byte
 *             4 (r mod 16) + (r / 16): what widening bytes to 32-bit lanes takes apart are 16 rows each. Scales are
 *             float16, [group][panel][64].
 *   Group     the steps that are added up into one output, or into one stretch of the hidden numbers.
 *   stage     0, then 1: groups of stage 1 may read the hidden numbers that stage 0 wrote.
 */
#ifndef LIPTT_PROGRAM_H
#define LIPTT_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { PANEL_ROWS = 64, SEGMENT_COLUMNS = 128, BYTE_COLUMNS = 8 };

#define PROGRAM_MAGIC INT64_C(0x314b5454504c) /* "LPTTK1" */

typedef struct {
    int64_t magic, bytes, in_features, out_features, hidden_features;
    int64_t stages, tables, groups, steps, tables_at, groups_at, steps_at;
} Program;

typedef struct {
    int64_t stage, source, segments, segments_at, byte_columns, cols_at, gather_at; /* source: -1 for x */
} Table;

typedef struct {
    int64_t stage, is_output, offset, rows, first_step, steps;
} Group;

typedef struct {
    int64_t table, codes_at, scales_at, rows_at;
} Step;

typedef struct {
    int32_t start, columns, group, first_byte; /* first_byte: byte columns of the segments before this one */
} Segment;

typedef enum { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 } Number;

typedef struct {
    const void *input;
    void *output;
    Number number;
    int64_t tokens;
} Batch;

struct Kernel;

/* Returns 0, or -1 if memory ran out. */
int run_program(const uint8_t *block, const struct Kernel *kernel, const Batch *batch, int threads);

#endif
