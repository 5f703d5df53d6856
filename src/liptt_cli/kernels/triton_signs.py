"""The CUDA kernels of sign products, in Triton; `triton_layout` has the layout.

Signs are made in registers, 8 planes from one byte, and meet the inputs in the tensor cores; a group's scale multiplies
its partial sum. A sign costs half a shift and half a logical instruction: two codes lie in the halves of a register,
their bits at the top of each half, and one `lop3` keeps these and adds the 1.0 of bfloat16. Inputs are exact: a
bfloat16 is multiplied as it is, a float16 or float32 as a sum of two or three bfloat16, and all sums are float32.

`few_tokens` is for decoding: the warps share out the tiles of K and add up at the end, so that few rows still fill the
machine. `many_tokens` gives each warp rows of its own, and they share the inputs. Where row blocks are too few,
programs share K too: each writes its part, and `add_parts` sums them in order, so that a result never depends on who
was first. `ASSEMBLY` is off in Triton's interpreter, which knows no PTX, multiplies the bits of bfloat16 as if they
were integers, and cuts where it should round: the same lines run there in plain Triton, on float32.
"""

from typing import no_type_check

import triton
import triton.language as tl

FIELDS = tl.constexpr(10)
"""Numbers of a row of the table."""


@no_type_check
@triton.jit(do_not_specialize=["tokens", "splits"])
def few_tokens(
    x, codes, table, scales, cols, inputs, out, tokens, x_stride, width, splits,
    SLICES: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr,
    ALIGNED: tl.constexpr, SCALES: tl.constexpr, HAS_COLS: tl.constexpr, HAS_INPUTS: tl.constexpr,
    PARTS: tl.constexpr, ASSEMBLY: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows with TOKENS tokens; each of SLICES groups of warps takes every SLICES-th tile."""
    entry, row, token = own_place(table, BLOCK, ROWS, TOKENS)
    column = tl.arange(0, PLANE)
    tiles, padded_rows = tl.load(entry + 1), tl.load(entry + 4)
    codes += tl.load(entry).to(tl.int64) * BLOCK * PLANE
    scales += tl.load(entry + 3) + row
    total = tl.zeros([SLICES, ROWS, TOKENS], tl.float32)
    for step in range(tl.program_id(1) * SLICES, tiles, splits * SLICES):
        tile = step + tl.arange(0, SLICES)
        there = tile < tiles
        place = (tile * BLOCK)[:, None, None] + row[None, :, None]
        bits = tl.load(
            codes + place * PLANE + column, mask=there[:, None, None], other=0, eviction_policy="evict_first"
        )
        bits = bits.to(tl.int16) << 8
        for plane in tl.static_range(8):
            at = ((tile * 8 + plane) * PLANE)[:, None, None] + column[None, :, None]
            known = there[:, None, None] & (token < tokens)[None, None, :]
            read = x + token[None, None, :] * x_stride
            values = _read(read, cols, inputs, at, known, entry, tiles * 8 * PLANE, ALIGNED, HAS_COLS, HAS_INPUTS)
            if SCALES == 2:
                place = (tile * 8 + plane)[:, None] * padded_rows
                scale = tl.load(scales[None, :] + place, mask=there[:, None], other=0.0).to(tl.float32)
                part = tl.zeros([SLICES, ROWS, TOKENS], tl.float32)
                part = _multiply(_top_signs(bits, ASSEMBLY), values, part, PARTS, ASSEMBLY)
                total += scale[:, :, None] * part
            else:
                total = _multiply(_top_signs(bits, ASSEMBLY), values, total, PARTS, ASSEMBLY)
            bits = next_plane(bits, 2, ASSEMBLY)
    result = tl.sum(total, 0)
    if SCALES == 1:
        result = result * tl.load(scales).to(tl.float32)[:, None]
    write(out, result, entry, row, token, tokens, width, ASSEMBLY)


@no_type_check
@triton.jit(do_not_specialize=["tokens", "splits"])
def many_tokens(
    x, codes, table, scales, cols, inputs, out, tokens, x_stride, width, splits,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr,
    ALIGNED: tl.constexpr, SCALES: tl.constexpr, HAS_COLS: tl.constexpr, HAS_INPUTS: tl.constexpr,
    PARTS: tl.constexpr, ASSEMBLY: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows with TOKENS tokens; all warps read the same inputs."""
    entry, row, token = own_place(table, BLOCK, ROWS, TOKENS)
    column = tl.arange(0, PLANE)
    tiles, padded_rows = tl.load(entry + 1), tl.load(entry + 4)
    codes += tl.load(entry).to(tl.int64) * BLOCK * PLANE
    scales += tl.load(entry + 3) + row
    total = tl.zeros([ROWS, TOKENS], tl.float32)
    for tile in range(tl.program_id(1), tiles, splits):
        place = tile * BLOCK + row
        bits = tl.load(codes + place[:, None] * PLANE + column, eviction_policy="evict_first").to(tl.int16) << 8
        for plane in tl.static_range(8):
            at = (tile * 8 + plane) * PLANE + column[:, None]
            read = x + token[None, :] * x_stride
            known = (token < tokens)[None, :]
            values = _read(read, cols, inputs, at, known, entry, tiles * 8 * PLANE, ALIGNED, HAS_COLS, HAS_INPUTS)
            if SCALES == 2:
                part = tl.zeros([ROWS, TOKENS], tl.float32)
                part = _multiply(_top_signs(bits, ASSEMBLY), values, part, PARTS, ASSEMBLY)
                total += tl.load(scales + (tile * 8 + plane) * padded_rows).to(tl.float32)[:, None] * part
            else:
                total = _multiply(_top_signs(bits, ASSEMBLY), values, total, PARTS, ASSEMBLY)
            bits = next_plane(bits, 2, ASSEMBLY)
    if SCALES == 1:
        total = total * tl.load(scales).to(tl.float32)[:, None]
    write(out, total, entry, row, token, tokens, width, ASSEMBLY)


@no_type_check
@triton.jit
def own_place(table, BLOCK: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr):
    """Return this program's entry in the table, its rows within the block of that, and its tokens."""
    entry = table + tl.program_id(0) // (BLOCK // ROWS) * FIELDS
    row = tl.program_id(0) % (BLOCK // ROWS) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(2) * TOKENS + tl.arange(0, TOKENS)
    return entry, row, token


@no_type_check
@triton.jit
def add_parts(parts, out, size, splits, BLOCK: tl.constexpr, ASSEMBLY: tl.constexpr):
    """Add `splits` parts of `size` numbers, in their order."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < size
    total = tl.zeros([BLOCK], tl.float32)
    for part in range(splits):
        total += tl.load(parts + part * size + place, mask=there, other=0.0)
    tl.store(out + place, narrow(total, out.dtype.element_ty, ASSEMBLY), mask=there)


@no_type_check
@triton.jit
def write_matrix(
    codes, table, scales, cols, inputs, out, columns, first_block,
    ROWS: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr, SCALES: tl.constexpr, HAS_COLS: tl.constexpr,
    HAS_INPUTS: tl.constexpr, ASSEMBLY: tl.constexpr,
):  # fmt: skip
    """Write one output's signs, times all scales, as numbers: (rows of its blocks, columns of its tiles)."""
    block = tl.program_id(0) // (BLOCK // ROWS)
    entry = table + (first_block + block) * FIELDS
    row = tl.program_id(0) % (BLOCK // ROWS) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PLANE)
    tile, first, padded_rows = tl.program_id(1), tl.load(entry + 2), tl.load(entry + 4)
    codes += (tl.load(entry) + tile).to(tl.int64) * BLOCK * PLANE
    scales += tl.load(entry + 3) + row
    out += (block * BLOCK + row).to(tl.int64)[:, None] * columns
    bits = tl.load(codes + row[:, None] * PLANE + column)
    for plane in tl.static_range(8):
        at = (tile * 8 + plane) * PLANE + column
        value = tl.where(((bits >> (7 - plane)) & 1) != 0, -1.0, 1.0)
        if SCALES == 2:
            value = value * tl.load(scales + (tile * 8 + plane) * padded_rows).to(tl.float32)[:, None]
        if SCALES == 1:
            value = value * tl.load(scales).to(tl.float32)[:, None]
        if HAS_COLS:
            value = value * tl.load(cols + first + at)[None, :]
        if HAS_INPUTS:
            value = tl.where((tl.load(inputs + first + at) >= 0)[None, :], value, 0.0)
        tl.store(out + at, narrow(value, out.dtype.element_ty, ASSEMBLY))


@no_type_check
@triton.jit
def next_plane(bits, PACK: tl.constexpr, ASSEMBLY: tl.constexpr):
    """Move the next bit to the top; what crosses into the register's other codes never gets to their top."""
    if ASSEMBLY:
        text: tl.constexpr = "shl.b32 $0, $1, 1;"
        moved = tl.inline_asm_elementwise(text, "=r,r", [bits], bits.dtype, is_pure=True, pack=PACK)
    else:
        moved = bits << 1
    return moved


@no_type_check
@triton.jit
def narrow(values, DTYPE: tl.constexpr, ASSEMBLY: tl.constexpr):
    """Return float32 as another dtype, rounded to the nearest, ties to even."""
    if (not ASSEMBLY) and DTYPE.is_bf16():
        bits = values.to(tl.float32).to(tl.int32, bitcast=True)
        values = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).to(tl.float32, bitcast=True)
    return values.to(DTYPE)


@no_type_check
@triton.jit
def write(out, result, entry, row, token, tokens, width, ASSEMBLY: tl.constexpr):
    """Write (rows, tokens) to their place in the output, or in this program's part of it."""
    out += (tl.program_id(1) * tokens + token).to(tl.int64)[None, :] * width + (tl.load(entry + 5) + row)[:, None]
    there = (token < tokens)[None, :] & (row < tl.load(entry + 6))[:, None]
    tl.store(out, narrow(result, out.dtype.element_ty, ASSEMBLY), mask=there)


@no_type_check
@triton.jit
def _read(
    x, cols, inputs, at, known, entry, positions, ALIGNED: tl.constexpr, HAS_COLS: tl.constexpr,
    HAS_INPUTS: tl.constexpr,
):  # fmt: skip
    """Return the inputs of some positions of a job, times the factors of the columns."""
    first = tl.multiple_of(tl.load(entry + 2), 32)
    if HAS_INPUTS:
        source = tl.load(inputs + first + at, mask=at < positions, other=-1)
        values = tl.load(x + source, mask=known & (source >= 0), other=0.0)
    else:
        start = tl.multiple_of(tl.load(entry + 7), ALIGNED)
        columns = tl.multiple_of(tl.load(entry + 8), ALIGNED)
        values = tl.load(x + (start + at), mask=known & (at < columns), other=0.0)
    if HAS_COLS:
        values = values.to(tl.float32) * tl.load(cols + first + at, mask=at < positions, other=0.0)
    return values


@no_type_check
@triton.jit
def _multiply(signs, x, total, PARTS: tl.constexpr, ASSEMBLY: tl.constexpr):
    """Return total + signs @ x, x being read as a sum of PARTS numbers of bfloat16."""
    part = narrow(x, tl.bfloat16, ASSEMBLY)
    total = _dot(signs, part, total, ASSEMBLY)
    if PARTS > 1:
        rest = x.to(tl.float32) - part.to(tl.float32)
        for _ in tl.static_range(PARTS - 1):
            part = narrow(rest, tl.bfloat16, ASSEMBLY)
            total = _dot(signs, part, total, ASSEMBLY)
            rest -= part.to(tl.float32)
    return total


@no_type_check
@triton.jit
def _dot(signs, part, total, ASSEMBLY: tl.constexpr):
    if ASSEMBLY:
        total = tl.dot(signs, part, total)
    else:
        total = tl.dot(signs, part.to(tl.float32), total, input_precision="ieee")
    return total


@no_type_check
@triton.jit
def _top_signs(bits, ASSEMBLY: tl.constexpr):
    """Return -1 where the top bit of int16 is set and +1 elsewhere: (bits & 0x8000) | 0x3f80, twice in a register."""
    if ASSEMBLY:
        text: tl.constexpr = "lop3.b32 $0, $1, 0x80008000, 0x3f803f80, 0xea;"
        signs = tl.inline_asm_elementwise(text, "=r,r", [bits], tl.bfloat16, is_pure=True, pack=2)
    else:
        signs = tl.where(bits < 0, -1.0, 1.0)
    return signs
