/* Runs a program: for some tokens at a time, stage by stage, first the tables, then the products. */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "pool.h"

enum {
    BLOCK_TOKENS = 32, /* tokens whose tables exist at the same time */
    CHUNK_PANELS = 64, /* at most so many panels are done in one go */
    CHUNKS_A_THREAD = 2, /* or more: small chunks read memory in small pieces */
    TILE_SUMS = 512,   /* panels times tokens of a tile: 128 KB, so that a segment of codes is read as one stretch */
    FILL_SEGMENTS = 8, /* tables of so many segments are made in one go */
    ALIGNMENT = 64
};

typedef struct {
    const uint8_t *block;
    const Program *program;
    const Kernel *kernel;
    const Batch *batch;
    int64_t first_token, tokens; /* of this block of tokens */
    int64_t stage, panels;       /* of this stage; panels of one chunk */
    int64_t most_tokens;         /* of a product: the tokens are cut into pieces of about equal length */
    uint8_t *tables;             /* [such a piece][all segments of all tables][token] */
    float *units;                /* [token][all segments] */
    float *hidden;               /* [token][hidden] */
    int64_t table_stride, unit_stride;
} Run;

static const Table *table_of(const Run *run, int64_t index) {
    return (const Table *)(const void *)(run->block + run->program->tables_at) + index;
}

static const Group *group_of(const Run *run, int64_t index) {
    return (const Group *)(const void *)(run->block + run->program->groups_at) + index;
}

static const Step *step_of(const Run *run, int64_t index) {
    return (const Step *)(const void *)(run->block + run->program->steps_at) + index;
}

static const Segment *segments_of(const Run *run, const Table *table) {
    return (const Segment *)(const void *)(run->block + table->segments_at);
}

static int byte_columns_of(const Segment *segment) { return (segment->columns + BYTE_COLUMNS - 1) / BYTE_COLUMNS; }

static int64_t at_least_one(int64_t value) { return value > 0 ? value : 1; }

static int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* Where the tables and the units of a table begin within those of a token. */
static void find_table(const Run *run, int64_t index, int64_t *byte, int64_t *unit) {
    *byte = *unit = 0;
    for (int64_t before = 0; before < index; before++) {
        const Table *table = table_of(run, before);
        *byte += rounded_up(table->byte_columns * run->kernel->column_bytes, ALIGNMENT);
        *unit += table->segments;
    }
}

/* Where the tables of some tokens for a segment lie; `byte` is the place of the whole table within those of a token. */
static Slot find_slot(const Run *run, const Segment *segment, int64_t byte, int64_t token) {
    const int64_t first = token / run->most_tokens * run->most_tokens, left = run->tokens - first;
    const int64_t tokens = left < run->most_tokens ? left : run->most_tokens;
    const int64_t place = byte + segment->first_byte * run->kernel->column_bytes;
    return (Slot){run->tables + first * run->table_stride + place * tokens, (int)(token - first), (int)tokens};
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

static float bfloat_to_float(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static float input_number(const Batch *batch, int64_t index) {
    if (batch->number == FLOAT32) return ((const float *)batch->input)[index];
    const uint16_t bits = ((const uint16_t *)batch->input)[index];
    return batch->number == BFLOAT16 ? bfloat_to_float(bits) : half_to_float(bits);
}

static void read_plain(const Run *run, const Table *table, const Segment *segment, int64_t token, float *values) {
    const int64_t width = table->source < 0 ? run->program->in_features : run->program->hidden_features;
    const int64_t base = token * width + (table->source < 0 ? 0 : table->source) + segment->start;
    const int columns = segment->columns;
    if (table->source >= 0) {
        memcpy(values, run->hidden + base, (size_t)columns * sizeof *values);
    } else {
        const int64_t first = run->first_token * width + base;
        if (run->batch->number == FLOAT32)
            memcpy(values, (const float *)run->batch->input + first, (size_t)columns * sizeof *values);
        else
            for (int column = 0; column < columns; column++) values[column] = input_number(run->batch, first + column);
    }
}

static void read_gathered(const Run *run, const Table *table, const Segment *segment, int64_t token, float *values) {
    const int32_t *gather = (const int32_t *)(const void *)(run->block + table->gather_at) + segment->start;
    const int64_t first = (run->first_token + token) * run->program->in_features;
    for (int column = 0; column < segment->columns; column++)
        values[column] = input_number(run->batch, first + gather[column]);
}

static float fill_segment(const Run *run, const Table *table, const Segment *segment, int64_t byte, int64_t token) {
    float values[SEGMENT_COLUMNS];
    const int past = (int)rounded_up(segment->columns, 2 * BYTE_COLUMNS);
    if (table->gather_at)
        read_gathered(run, table, segment, token, values);
    else
        read_plain(run, table, segment, token, values);
    if (table->cols_at) {
        const float *cols = (const float *)(const void *)(run->block + table->cols_at) + segment->start;
        for (int column = 0; column < segment->columns; column++) values[column] *= cols[column];
    }
    for (int column = segment->columns; column < past; column++) values[column] = 0.0f;
    const Slot slot = find_slot(run, segment, byte, token);
    return run->kernel->fill(values, byte_columns_of(segment), &slot);
}

static void fill_chunk(void *context, int64_t index) {
    const Run *run = context;
    for (int64_t number = 0; number < run->program->tables; number++) {
        const Table *table = table_of(run, number);
        if (table->stage != run->stage) continue;
        const int64_t pieces = (table->segments + FILL_SEGMENTS - 1) / FILL_SEGMENTS;
        if (index >= pieces * run->tokens) {
            index -= pieces * run->tokens;
            continue;
        }
        int64_t byte, unit;
        find_table(run, number, &byte, &unit);
        const int64_t token = index / pieces, first = index % pieces * FILL_SEGMENTS;
        for (int64_t segment = first; segment < first + FILL_SEGMENTS && segment < table->segments; segment++)
            run->units[token * run->unit_stride + unit + segment] =
                fill_segment(run, table, segments_of(run, table) + segment, byte, token);
        return;
    }
}

static int64_t count_fill_chunks(const Run *run) {
    int64_t chunks = 0;
    for (int64_t number = 0; number < run->program->tables; number++)
        if (table_of(run, number)->stage == run->stage)
            chunks += (table_of(run, number)->segments + FILL_SEGMENTS - 1) / FILL_SEGMENTS * run->tokens;
    return chunks;
}

/* --- products ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const Group *group;
    int64_t first_panel, first_token; /* the token within the block */
    int panels, tokens;
} Tile;

typedef float Sums[TILE_SUMS * PANEL_ROWS]; /* [panel][token][64] */

static int64_t panels_of(const Group *group) { return (group->rows + PANEL_ROWS - 1) / PANEL_ROWS; }

static void multiply_step(const Run *run, const Tile *tile, const Step *step, float *sums) {
    const Table *table = table_of(run, step->table);
    const Segment *segments = segments_of(run, table);
    const int64_t panels = panels_of(tile->group);
    int64_t byte, unit;
    find_table(run, step->table, &byte, &unit);
    Product product = {
        .unit_stride = run->unit_stride,
        .panels = tile->panels,
        .tokens = tile->tokens,
        .sums = sums,
    };
    for (int64_t index = 0; index < table->segments; index++) {
        const Segment *segment = segments + index;
        product.byte_columns = byte_columns_of(segment);
        const int64_t panel_bytes = (int64_t)product.byte_columns * PANEL_ROWS;
        product.codes = run->block + step->codes_at + segment->first_byte * panels * PANEL_ROWS + tile->first_panel * panel_bytes;
        product.next_codes = product.codes + panels * panel_bytes; /* the next segment of these panels, if it is as long */
        if (step->scales_at)
            product.scales = (const uint16_t *)(const void *)(run->block + step->scales_at) +
                             (segment->group * panels + tile->first_panel) * PANEL_ROWS;
        product.tables = find_slot(run, segment, byte, tile->first_token).tables;
        product.units = run->units + tile->first_token * run->unit_stride + unit + index;
        run->kernel->multiply(&product);
    }
}

/* Adds the sums of a step, times its scales of rows, to the totals; these may be the sums, being then the only step. */
static void add_step(const Run *run, const Tile *tile, const Step *step, const float *sums, float *totals) {
    const float *rows = step->rows_at ? (const float *)(const void *)(run->block + step->rows_at) : NULL;
    const int is_only = sums == totals;
    if (is_only && !rows) return;
    for (int panel = 0; panel < tile->panels; panel++)
        for (int token = 0; token < tile->tokens; token++)
            for (int row = 0; row < PANEL_ROWS; row++) {
                const int place = (panel * tile->tokens + token) * PANEL_ROWS + row;
                const float sum = rows ? rows[(tile->first_panel + panel) * PANEL_ROWS + row] * sums[place] : sums[place];
                totals[place] = is_only ? sum : totals[place] + sum;
            }
}

static uint16_t float_to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static void write_output(const Batch *batch, int64_t index, const float *values, int64_t count) {
    if (batch->number == FLOAT32) {
        memcpy((float *)batch->output + index, values, (size_t)count * sizeof *values);
        return;
    }
    uint16_t *output = (uint16_t *)batch->output + index;
    for (int64_t row = 0; row < count; row++)
        output[row] = batch->number == BFLOAT16 ? float_to_bfloat(values[row]) : float_to_half(values[row]);
}

static void write_tile(const Run *run, const Tile *tile, const float *totals) {
    const Group *group = tile->group;
    for (int panel = 0; panel < tile->panels; panel++) {
        const int64_t first = (tile->first_panel + panel) * PANEL_ROWS, place = group->offset + first;
        const int64_t count = group->rows - first < PANEL_ROWS ? group->rows - first : PANEL_ROWS;
        for (int token = 0; token < tile->tokens; token++) {
            const float *values = totals + (panel * tile->tokens + token) * PANEL_ROWS;
            const int64_t number = tile->first_token + token;
            if (group->is_output)
                write_output(run->batch, (run->first_token + number) * run->program->out_features + place, values, count);
            else
                memcpy(run->hidden + number * run->program->hidden_features + place, values,
                       (size_t)count * sizeof *values);
        }
    }
}

static void run_tile(const Run *run, const Tile *tile) {
    Sums sums, totals;
    const size_t bytes = (size_t)tile->panels * (size_t)tile->tokens * PANEL_ROWS * sizeof(float);
    float *each = tile->group->steps == 1 ? totals : sums;
    memset(totals, 0, bytes);
    for (int64_t step = tile->group->first_step; step < tile->group->first_step + tile->group->steps; step++) {
        if (each == sums) memset(sums, 0, bytes);
        multiply_step(run, tile, step_of(run, step), each);
        add_step(run, tile, step_of(run, step), each, totals);
    }
    write_tile(run, tile, totals);
}

static int64_t chunks_of(const Run *run, const Group *group) { return (panels_of(group) + run->panels - 1) / run->panels; }

/* Does run->panels panels of a group, so few at a time that their codes stay near while the tokens pass. */
static void run_panels(const Run *run, const Group *group, int64_t first_panel) {
    const int64_t past = panels_of(group) - first_panel < run->panels ? panels_of(group) : first_panel + run->panels;
    const int64_t most_panels = TILE_SUMS / run->most_tokens;
    for (int64_t panel = first_panel; panel < past; panel += most_panels)
        for (int64_t token = 0; token < run->tokens; token += run->most_tokens) {
            const int64_t panels = past - panel < most_panels ? past - panel : most_panels;
            const int64_t tokens = run->tokens - token < run->most_tokens ? run->tokens - token : run->most_tokens;
            run_tile(run, &(Tile){group, panel, token, (int)panels, (int)tokens});
        }
}

static void multiply_chunk(void *context, int64_t index) {
    const Run *run = context;
    for (int64_t number = 0; number < run->program->groups; number++) {
        const Group *group = group_of(run, number);
        if (group->stage != run->stage) continue;
        if (index >= chunks_of(run, group)) {
            index -= chunks_of(run, group);
            continue;
        }
        run_panels(run, group, index * run->panels);
        return;
    }
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static void run_stage(Run *run, int threads) {
    int64_t panels = 0, chunks = 0;
    run_chunks(fill_chunk, run, count_fill_chunks(run), run->tokens > 1 ? threads : 1);
    for (int64_t number = 0; number < run->program->groups; number++)
        if (group_of(run, number)->stage == run->stage) panels += panels_of(group_of(run, number));
    run->panels = threads == 1 ? CHUNK_PANELS : at_least_one(panels / (CHUNKS_A_THREAD * threads));
    if (run->panels > CHUNK_PANELS) run->panels = CHUNK_PANELS;
    for (int64_t number = 0; number < run->program->groups; number++)
        if (group_of(run, number)->stage == run->stage) chunks += chunks_of(run, group_of(run, number));
    run_chunks(multiply_chunk, run, chunks, threads);
}

/* Divides one stretch of memory into tables, units and hidden numbers. Returns NULL if there is none. */
static uint8_t *reserve(Run *run, int64_t tokens) {
    find_table(run, run->program->tables, &run->table_stride, &run->unit_stride);
    const int64_t tables = tokens * run->table_stride;
    const int64_t units = rounded_up(tokens * run->unit_stride * (int64_t)sizeof(float), ALIGNMENT);
    const int64_t hidden = tokens * run->program->hidden_features * (int64_t)sizeof(float);
    uint8_t *memory = malloc((size_t)(tables + units + hidden + ALIGNMENT));
    if (!memory) return NULL;
    run->tables = (uint8_t *)rounded_up((int64_t)(intptr_t)memory, ALIGNMENT);
    run->units = (float *)(void *)(run->tables + tables);
    run->hidden = (float *)(void *)(run->tables + tables + units);
    return memory;
}

/* How many there are at most in each of the fewest pieces of at most `most`. */
static int64_t piece_of(int64_t count, int64_t most) {
    const int64_t pieces = at_least_one((count + most - 1) / most);
    return at_least_one((count + pieces - 1) / pieces);
}

int run_program(const uint8_t *block, const Kernel *kernel, const Batch *batch, int threads) {
    Run run = {.block = block, .program = (const Program *)(const void *)block, .kernel = kernel, .batch = batch};
    const int64_t most = piece_of(batch->tokens, BLOCK_TOKENS);
    uint8_t *memory = reserve(&run, most);
    if (!memory) return -1;
    for (run.first_token = 0; run.first_token < batch->tokens; run.first_token += most) {
        run.tokens = batch->tokens - run.first_token < most ? batch->tokens - run.first_token : most;
        run.most_tokens = piece_of(run.tokens, kernel->tokens);
        for (run.stage = 0; run.stage < run.program->stages; run.stage++) run_stage(&run, threads);
    }
    free(memory);
    return 0;
}
