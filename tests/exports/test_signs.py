"""Codes and scales of signs, cut into runs of columns."""

import numpy as np
import pytest
import torch

from liptt_cli.exports.signs import codes_of, scales_of
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid

CODES = torch.randint(0, 2, (1, 4, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def scaled(rows: int, group: int) -> Grid:
    scales = torch.arange(1, 1 + rows * -(-96 // group)).reshape(1, 1, rows, -1).half()
    return Grid(CODES, Envelope(scales, None, group))


@pytest.mark.parametrize("grid", [Grid(CODES), scaled(1, 96), scaled(4, 96), scaled(4, 64), scaled(4, 32)])
def test_codes_times_scales_of_runs_are_the_matrix(grid: Grid) -> None:
    scales = scales_of(grid, columns=32)
    assert scales.shape == (4, 3) and scales.dtype == np.float16
    matrix = np.repeat(scales.astype(np.float32), 32, axis=1) * (2.0 * codes_of(grid) - 1)
    assert np.array_equal(matrix, grid.dense().numpy())


def test_what_is_no_signs_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="Dense is no matrix of signs"):
        codes_of(Dense(torch.ones(2, 2), "float32"))
