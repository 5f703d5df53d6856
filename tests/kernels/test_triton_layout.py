"""The layout of the CUDA kernels: read back, it is the codes, at the positions and under the scales that it tells."""

from dataclasses import replace

import pytest
import torch

from drawn import seeded
from liptt_cli.kernels.terms import Term
from liptt_cli.kernels.triton_layout import BLOCK_ROWS, PLANES, Job, Launch, lay_out
from sign_terms import dense, term


def read_back(launch: Launch, job: Job) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the signs (rows, positions) of a job, and the column of x that each position reads."""
    tiles = []
    for block in launch.table[job.first_block : job.first_block + -(-job.rows // BLOCK_ROWS)].tolist():
        size = BLOCK_ROWS * launch.plane_columns
        words = launch.codes[block[0] * size : (block[0] + block[1]) * size].reshape(block[1], BLOCK_ROWS, 1, -1)
        bits = words >> torch.arange(PLANES - 1, -1, -1).to(torch.uint8)[:, None] & 1
        tiles.append(bits.permute(1, 0, 2, 3).reshape(BLOCK_ROWS, -1))
    minus = torch.cat(tiles)
    positions = torch.arange(minus.shape[1])
    if launch.inputs is None:
        sources = torch.where(positions < job.x_columns, positions + job.x_start, -1)
    else:
        sources = launch.inputs[job.first_position :][: len(positions)].long()
    return 1 - 2 * minus.double(), sources


def scale_of(launch: Launch, job: Job, positions: int) -> torch.Tensor:
    """Return the scale (padded rows, positions) of each sign of a job."""
    padded = -(-job.rows // BLOCK_ROWS) * BLOCK_ROWS
    if launch.scales is None:
        return torch.ones(padded, positions)
    first = launch.table[job.first_block].tolist()[3]
    if not launch.by_plane:
        return launch.scales[first : first + padded].double()[:, None].expand(-1, positions)
    planes = positions // launch.plane_columns
    numbers = launch.scales[first : first + planes * padded].reshape(planes, padded)
    return numbers.double().T.repeat_interleave(launch.plane_columns, dim=1)


def matrix_of(launch: Launch, job: Job, columns: int) -> torch.Tensor:
    """Return the matrix (rows, columns of x) that a job stands for."""
    signs, sources = read_back(launch, job)
    values = signs * scale_of(launch, job, signs.shape[1])
    if launch.cols is not None:
        values = values * launch.cols[job.first_position :][: signs.shape[1]].double()
    there = sources >= 0
    found = torch.zeros(len(signs), columns, dtype=torch.float64)
    return found.index_add(1, sources[there], values[:, there])[: job.rows]


@pytest.mark.parametrize(
    ("rows", "columns", "group"),
    [(1, 1, None), (5, 33, None), (128, 1024, 128), (200, 1100, 128), (130, 300, 100), (64, 192, 64), (3, 40, 7)],
)
@pytest.mark.parametrize("cols", [False, True])
def test_it_stands_for_the_matrix(rows: int, columns: int, group: int | None, cols: bool) -> None:
    found = term(rows, columns, group=group, cols=cols)
    launch = lay_out([[(0, found)]])
    torch.testing.assert_close(matrix_of(launch, launch.jobs[0], columns), dense(found), rtol=0, atol=0)


def test_whole_tiles_have_one_bit_a_weight_and_one_scale_a_group() -> None:
    launch = lay_out([[(0, term(256, 2048, group=128))]])
    assert launch.codes.numel() * 8 == 256 * 2048
    assert launch.scales is not None
    assert (launch.scales.dtype, launch.scales.numel()) == (torch.float16, 256 * 16)
    assert (launch.cols, launch.inputs, launch.plane_columns) == (None, None, 128)


def test_outputs_lie_side_by_side_and_read_from_where_they_are_told() -> None:
    terms = [term(140, 64, seed=1), term(20, 96, seed=2)]
    launch = lay_out([[(8, terms[0])], [(40, terms[1])]])
    assert launch.width == 160
    assert [(job.out_start, job.rows, job.x_start) for job in launch.jobs] == [(0, 140, 8), (140, 20, 40)]
    for job, found in zip(launch.jobs, terms, strict=True):
        wanted = torch.nn.functional.pad(dense(found), (job.x_start, 200 - job.x_start - found.codes.shape[1]))
        torch.testing.assert_close(matrix_of(launch, job, 200), wanted, rtol=0, atol=0)


def test_terms_of_one_output_are_added() -> None:
    """Under scales by row and by group, with factors, over columns that are gathered, and over all."""
    gather = torch.randperm(50, generator=seeded())[:30]
    first, second = term(40, 50, cols=True, seed=3), term(40, 30, group=12, seed=4)
    second = Term(second.codes, second.group_ends, second.scales, gather=gather)
    launch = lay_out([[(0, first), (0, second)]])
    wanted = dense(first).index_add(1, gather, dense(second))
    torch.testing.assert_close(matrix_of(launch, launch.jobs[0], 50), wanted, rtol=0, atol=1e-6)


def test_scales_that_are_no_float16_are_kept_as_they_are() -> None:
    found = term(4, 40)
    found = found.scaled(rows=torch.full((4,), 1 / 3))
    scales = lay_out([[(0, found)]]).scales
    assert scales is not None and found.rows is not None
    assert scales.dtype == torch.float32
    assert torch.equal(scales[:4], found.rows)


def test_scales_of_one_are_not_stored() -> None:
    plain = replace(term(4, 40), rows=None)
    assert lay_out([[(0, plain)]]).scales is None
    assert lay_out([[(0, plain)], [(0, term(4, 40))]]).scales is not None


def test_it_moves_as_a_whole() -> None:
    launch = lay_out([[(0, term(4, 40, group=10, cols=True))]]).to(torch.device("meta"))
    assert launch.codes.is_meta and launch.table.is_meta and launch.first_blocks.is_meta
    assert launch.scales is not None and launch.scales.is_meta
    assert launch.cols is not None and launch.cols.is_meta
