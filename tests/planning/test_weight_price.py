"""Honest bits of zones are the formulas of the papers' own counts with nothing left out, on a 4096 x 4096 linear."""

import pytest

from liptt_cli.config import load_config
from liptt_cli.planning.price import ladder

WIDTH = 4096
BLOCK = 16 / 128  # bits a weight of one float16 for each row and 128 columns
ROW = COLUMN = 16 / WIDTH
LIST = 1 / WIDTH  # a bit for each column that tells the salient ones


def bits(method: str, *overrides: str) -> float:
    config = load_config(f"methods/{method}", overrides=[f"binarize.codec.mask.{each}" for each in overrides]).config
    return ladder(config, (WIDTH, WIDTH)).bits[0]


@pytest.mark.parametrize(
    ("method", "overrides", "expected"),
    [
        ("pb-llm", [], 0.9 * 1 + 0.1 * 8 + 1 + 4 * ROW),
        ("pb-llm", ["share=0.3"], 0.7 * 1 + 0.3 * 8 + 1 + 4 * ROW),
        ("billm", [], 1 + 1 + 4 * BLOCK + LIST),  # a second sign of a salient weight, or the group of another one
        ("billm-code", [], 1 + 1 + 7 * BLOCK + LIST),
        ("arb-llm-plain", [], 1 + 1 + 7 * BLOCK + LIST),
        ("arb-llm-rc", [], 1 + 1 + 4 * BLOCK + 4 * COLUMN + LIST),
        ("arb-llm", [], 1 + 1 + 49 / 128 + 6 * BLOCK + 6 * COLUMN + LIST),  # at most 49 of 128 columns are salient
        ("arb-llm-x", [], 1 + 1 + 49 / 128 + 10 * BLOCK + LIST),
        ("stbllm", [], 4 / 8 * (1 + 2) + 7 / 8 + 9 * BLOCK + LIST),  # 70 choices of 4 in 8: 7 bits
        ("stbllm", ["keep=6"], 6 / 8 * (1 + 2) + 5 / 8 + 9 * BLOCK + LIST),
        ("slim-llm", [], 2 + 2 * BLOCK + 2 / 128 / WIDTH),
    ],
)
def test_bits_are_those_of_the_formula(method: str, overrides: list[str], expected: float):
    assert bits(method, *overrides) == pytest.approx(expected, abs=1e-4)


def test_blocks_that_are_not_whole_are_counted():
    config = load_config("methods/stbllm").config
    short = ladder(config, (64, 172)).forms[0]  # 172 = 21 x 8 + 4: no patterns, a label for each entry
    assert short.layout == "entry"
    assert short.entries[1] == 64 * (21 * 4 + 2)


@pytest.mark.parametrize(
    ("method", "codec", "expected"),
    [
        ("rtn", {}, 4 + BLOCK),
        ("rtn", {"alphabet": "int2"}, 2 + BLOCK),
        ("rtn", {"alphabet": "trit", "fit": "absmean"}, 1.6 + BLOCK),
        ("rtn", {"alphabet": "sign", "fit": "absmean", "planes": 2}, 2 + 2 * BLOCK),
        ("gptq", {}, 4 + 2 * BLOCK),
        ("gptq", {"alphabet": "uint8", "group_columns": 64}, 8 + 4 * BLOCK),
    ],
)
def test_grids_have_codes_and_a_number_for_each_group(method: str, codec: dict[str, object], expected: float):
    overrides = [f"binarize.codec.{key}={value}" for key, value in codec.items()]
    config = load_config(f"methods/{method}", overrides=overrides).config
    assert ladder(config, (WIDTH, WIDTH)).bits[0] == pytest.approx(expected, abs=2e-3)  # rows of trits are whole bytes
