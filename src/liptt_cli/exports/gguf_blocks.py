"""GGUF's block types, written: signs under scales exactly, plain numbers as they are.

A row is cut into blocks; each is a float16 scale d and codes q, and stands for d times the level of q. Layouts after
the public headers of ggml; bits are filled from the least significant one.

    Q1_0   128   d, then a bit an entry: 1 is +d, 0 is -d
    TQ1_0  256   base-3 digits, five in a byte (entries 32 or 16 apart), the last 16 four in a byte; then d
    TQ2_0  256   two bits an entry, four in a byte (entries 32 apart), twice 128 entries; then d
    Q4_0   32    d, then a nibble an entry, entry k beside entry k + 16; level q - 8
    Q8_0   32    d, then a signed byte an entry

The package `gguf` decodes them all but Q1_0; its encoders are not used, since those of Q4_0 and Q8_0 choose a d of
their own, by which signs come out rounded.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float16, UInt8

from liptt_cli.exports.carrying import BLOCK_COLUMNS, GgufType

Bytes = UInt8[np.ndarray, "rows row_bytes"]
Codes = UInt8[np.ndarray, "blocks columns"]
Scales = UInt8[np.ndarray, "blocks 2"]
Blocks = UInt8[np.ndarray, "blocks block_bytes"]
_POWERS = np.array([81, 27, 9, 3, 1], dtype=np.uint16)


def encode_signs(
    name: GgufType, codes: UInt8[np.ndarray, "rows columns"], scales: Float16[np.ndarray, "rows blocks"]
) -> Bytes:
    """Return the rows of bytes that stand for codes 0 (minus) and 1 (plus) under one scale a block."""
    block = BLOCK_COLUMNS[name]
    rows = len(codes)
    d = np.ascontiguousarray(scales).reshape(-1, 1).view(np.uint8)
    return _ENCODERS[name](codes.reshape(-1, block), d).reshape(rows, -1)


def decode_q1_0(data: Bytes) -> Float[np.ndarray, "rows columns"]:
    """Return the numbers of rows of Q1_0, entry by entry as the layout says."""
    blocks = data.reshape(len(data), -1, 18)
    d = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    entries = np.arange(BLOCK_COLUMNS["Q1_0"])
    bits = (blocks[..., 2 + entries // 8] >> (entries % 8).astype(np.uint8)) & 1
    return np.where(bits == 1, d, -d).reshape(len(data), -1)


def encode_q8_0(matrix: Float[np.ndarray, "rows columns"]) -> Bytes:
    """Return rows of Q8_0 of plain numbers, each rounded to the nearest of 255 levels of its block."""
    blocks = matrix.astype(np.float32).reshape(-1, BLOCK_COLUMNS["Q8_0"])
    d = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    steps = np.where(d == 0, np.float32(1), d.astype(np.float32))
    codes = np.clip(np.rint(blocks / steps), -127, 127).astype(np.int8)
    return np.concatenate([d.view(np.uint8), codes.view(np.uint8)], axis=1).reshape(len(matrix), -1)


def _q1_0(codes: Codes, d: Scales) -> Blocks:
    return np.concatenate([d, np.packbits(codes, axis=1, bitorder="little")], axis=1)


def _tq1_0(codes: Codes, d: Scales) -> Blocks:
    digits = 2 * codes.astype(np.uint16)  # levels -1, 0, +1 are the digits 0, 1, 2
    parts = (
        (digits[:, :160].reshape(-1, 5, 32), _POWERS),
        (digits[:, 160:240].reshape(-1, 5, 16), _POWERS),
        (digits[:, 240:].reshape(-1, 4, 4), _POWERS[:4]),
    )
    numbers = np.concatenate([(part * powers[:, None]).sum(1) for part, powers in parts], axis=1)
    fractions = (
        numbers.astype(np.uint32) * 256 + 242
    ) // 243  # of 243, rounded up, so that digits come off from the top
    return np.concatenate([fractions.astype(np.uint8), d], axis=1)


def _tq2_0(codes: Codes, d: Scales) -> Blocks:
    quarters = 2 * codes.reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    packed = np.bitwise_or.reduce(quarters << shifts, axis=2)
    return np.concatenate([packed.reshape(len(codes), -1), d], axis=1)


def _q4_0(codes: Codes, d: Scales) -> Blocks:
    nibbles = 7 + 2 * codes
    return np.concatenate([d, nibbles[:, :16] | nibbles[:, 16:] << 4], axis=1)


def _q8_0(codes: Codes, d: Scales) -> Blocks:
    signs = 2 * codes.astype(np.int8) - 1
    return np.concatenate([d, signs.view(np.uint8)], axis=1)


_ENCODERS: dict[GgufType, Callable[[Codes, Scales], Blocks]] = {
    "Q1_0": _q1_0,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "Q4_0": _q4_0,
    "Q8_0": _q8_0,
}
