"""The CUDA kernels on inputs of 8 bits, for who asks for them: one scale a token and output, an error near 1 %.

    y = scale * row * sum over planes of  group * (sum of q - 2 * sum of the q whose sign is -1)

A plane's codes are one logical instruction for 4 of them: the bit of -1 is the sign bit of an int8, which then counts
-128. The tensor cores add up in int32, exactly; `round_inputs` brings the sum of q of each plane.
"""

from typing import no_type_check

import triton
import triton.language as tl

from liptt_cli.kernels.triton_signs import FIELDS, next_plane, own_place, write


@no_type_check
@triton.jit
def round_inputs(
    x, table, jobs, cols, inputs, out, sums, scales, tokens, x_stride, positions,
    PLANE: tl.constexpr, HAS_COLS: tl.constexpr, HAS_INPUTS: tl.constexpr,
):  # fmt: skip
    """Write one token's inputs of one job as int8 in the order of positions, the sums of its planes, and its scale.

    `jobs` has the first row block of each job.
    """
    job, token = tl.program_id(0), tl.program_id(1)
    entry = table + tl.load(jobs + job) * FIELDS
    tiles, first = tl.load(entry + 1), tl.load(entry + 2)
    at = tl.arange(0, 8)[:, None] * PLANE + tl.arange(0, PLANE)[None, :]
    largest = 0.0
    for tile in range(tiles):
        values = _values(x + token * x_stride, cols, inputs, tile * 8 * PLANE + at, entry, HAS_COLS, HAS_INPUTS)
        largest = tl.maximum(largest, tl.max(tl.max(tl.abs(values), 1), 0))
    scale = tl.maximum(largest, 1e-30) / 127.0
    tl.store(scales + job * tokens + token, scale)
    for tile in range(tiles):
        place = tile * 8 * PLANE + at
        values = _values(x + token * x_stride, cols, inputs, place, entry, HAS_COLS, HAS_INPUTS)
        rounded = tl.floor(values / scale + 0.5)
        tl.store(out + token * positions + first + place, rounded.to(tl.int8))
        plane = token * (positions // PLANE) + first // PLANE + tile * 8 + tl.arange(0, 8)
        tl.store(sums + plane, tl.sum(rounded, 1))


@no_type_check
@triton.jit(do_not_specialize=["tokens", "splits"])
def few_tokens(
    x, sums, x_scales, codes, table, scales, out, tokens, positions, width, splits,
    SLICES: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr,
    SCALES: tl.constexpr, ASSEMBLY: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows with TOKENS rounded tokens; each of SLICES groups of warps takes every SLICES-th tile."""
    entry, row, token = own_place(table, BLOCK, ROWS, TOKENS)
    column = tl.arange(0, PLANE)
    tiles, padded_rows = tl.load(entry + 1), tl.load(entry + 4)
    first = tl.multiple_of(tl.load(entry + 2), 32)
    codes += tl.load(entry).to(tl.int64) * BLOCK * PLANE
    scales += tl.load(entry + 3) + row
    read = x + (token * positions + first)[None, None, :]
    sums += (token * (positions // PLANE) + first // PLANE)[None, :]
    total = tl.zeros([SLICES, ROWS, TOKENS], tl.float32)
    below = tl.zeros([SLICES, ROWS, TOKENS], tl.int32)
    for step in range(tl.program_id(1) * SLICES, tiles, splits * SLICES):
        tile = step + tl.arange(0, SLICES)
        there = (tile < tiles)[:, None, None]
        known = there & (token < tokens)[None, None, :]
        place = (tile * BLOCK)[:, None, None] + row[None, :, None]
        bits = tl.load(codes + place * PLANE + column, mask=there, other=0, eviction_policy="evict_first")
        bits = bits.to(tl.int8, bitcast=True)
        for plane in tl.static_range(8):
            at = tile * 8 + plane
            values = tl.load(read + ((at * PLANE)[:, None, None] + column[None, :, None]), mask=known, other=0)
            whole = tl.load(sums + at[:, None], mask=tl.reshape(known, [SLICES, TOKENS]), other=0.0)[:, None, :]
            if SCALES == 2:
                scale = tl.load(scales[None, :] + at[:, None] * padded_rows, mask=(tile < tiles)[:, None], other=0.0)
                part = tl.dot(_sign_bits(bits, ASSEMBLY), values, None, out_dtype=tl.int32)
                total += scale.to(tl.float32)[:, :, None] * (whole + part.to(tl.float32) * 0.015625)
            else:
                below = tl.dot(_sign_bits(bits, ASSEMBLY), values, below, out_dtype=tl.int32)
                total += whole
            bits = next_plane(bits, 4, ASSEMBLY)
    result = tl.sum(total + below.to(tl.float32) * 0.015625, 0)
    if SCALES == 1:
        result = result * tl.load(scales).to(tl.float32)[:, None]
    result = result * tl.load(x_scales + tl.load(entry + 9) * tokens + token, mask=token < tokens, other=0.0)[None, :]
    write(out, result, entry, row, token, tokens, width, ASSEMBLY)


@no_type_check
@triton.jit
def _values(x, cols, inputs, at, entry, HAS_COLS: tl.constexpr, HAS_INPUTS: tl.constexpr):
    """Return the inputs of some positions of a job, times the factors of the columns."""
    first = tl.load(entry + 2)
    if HAS_INPUTS:
        source = tl.load(inputs + first + at)
        values = tl.load(x + source, mask=source >= 0, other=0.0).to(tl.float32)
    else:
        values = tl.load(x + (tl.load(entry + 7) + at), mask=at < tl.load(entry + 8), other=0.0).to(tl.float32)
    if HAS_COLS:
        values = values * tl.load(cols + first + at)
    return values


@no_type_check
@triton.jit
def _sign_bits(bits, ASSEMBLY: tl.constexpr):
    """Return -128 where the top bit of int8 is set and 0 elsewhere."""
    if ASSEMBLY:
        text: tl.constexpr = "and.b32 $0, $1, 0x80808080;"
        kept = tl.inline_asm_elementwise(text, "=r,r", [bits], tl.int8, is_pure=True, pack=4)
    else:
        kept = bits & -128
    return kept
