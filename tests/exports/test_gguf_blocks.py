"""GGUF's blocks: signs come back to the bit, by decoders of the format's own package or by its layout."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liptt_cli.exports.carrying import BLOCK_COLUMNS
from liptt_cli.exports.gguf_blocks import decode_q1_0, encode_q8_0, encode_signs

EXTREME = [0.0, -0.0, 6e-8, -6e-8, 65504.0, -1.5]


def decoded(name: str, data: np.ndarray) -> np.ndarray:
    if name == "Q1_0":
        return decode_q1_0(data)
    found: np.ndarray = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
    return found


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(list(BLOCK_COLUMNS)), rows=st.integers(1, 4), blocks=st.integers(1, 3), seed=st.integers(0))
def test_signs_under_scales_come_back_to_the_bit(name: str, rows: int, blocks: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = BLOCK_COLUMNS[name]
    codes = random.integers(0, 2, (rows, blocks * columns), dtype=np.uint8)
    scales = random.choice([*EXTREME, *random.standard_normal(6)], (rows, blocks)).astype(np.float16)
    data = encode_signs(name, codes, scales)
    _, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert data.shape == (rows, blocks * block_bytes) and data.dtype == np.uint8
    meant = np.repeat(scales.astype(np.float32), columns, axis=1) * (2.0 * codes - 1)
    assert np.array_equal(decoded(name, data), meant.astype(np.float32))


def test_q1_0_is_a_scale_then_bits_from_the_least_significant() -> None:
    codes = np.zeros((1, 128), dtype=np.uint8)
    codes[0, [0, 9, 127]] = 1
    data = encode_signs("Q1_0", codes, np.array([[1.5]], dtype=np.float16))
    assert data[0].tolist() == [0x00, 0x3E, 1, 2, *[0] * 13, 128]


def test_every_byte_of_base_3_digits_that_signs_make_comes_back() -> None:
    patterns = (np.arange(32)[:, None] >> np.arange(5) & 1).astype(np.uint8)
    codes = np.zeros((1, 256), dtype=np.uint8)
    codes[0, :160] = patterns.T.reshape(-1)  # byte k holds entries k, k + 32, ..
    data = encode_signs("TQ1_0", codes, np.array([[1.0]], dtype=np.float16))
    assert len(set(data[0, :32].tolist())) == 32
    assert np.array_equal(decoded("TQ1_0", data), 2.0 * codes - 1)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e4])
def test_q8_0_of_plain_numbers_is_within_half_a_step(scale: float) -> None:
    matrix = (np.random.default_rng(0).standard_normal((3, 96)) * scale).astype(np.float32)
    found = decoded("Q8_0", encode_q8_0(matrix))
    step = np.abs(matrix.reshape(-1, 32)).max(1, keepdims=True) / 127
    assert (np.abs(found - matrix).reshape(-1, 32) <= 0.51 * step + 6e-8 * 127).all()
