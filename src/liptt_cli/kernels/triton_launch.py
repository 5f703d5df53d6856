"""What is launched for how many tokens, on the host's side.

A fixed table by shape class: no tuning at run time, so that a result does not depend on what was timed.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from liptt_cli.kernels import triton_int8, triton_signs
from liptt_cli.kernels.triton_layout import BLOCK_ROWS, PLANES, Job, Launch

MOST_TOKENS = 256
"""Above, the matrix is written out and torch multiplies: its products are then worth more than bytes of weights."""
PARTS = {torch.bfloat16: 1, torch.float16: 2, torch.float32: 3}
"""How many numbers of bfloat16 make one of the dtype; float32 is exact in three, float16 in two."""

INTERPRETED = bool(triton.knobs.runtime.interpret)
_PROGRAMS_PER_PROCESSOR = 2
_INTERPRETED_PROCESSORS = 2
_SUM_BLOCK, _MATRIX_ROWS = 1024, 32
_ALIGNED = 8  # columns: 16 bytes of bfloat16, the most that one load brings


@dataclass(frozen=True)
class Shape:
    """How a launch is cut: `slices` is None for the kernel of many tokens."""

    slices: int | None
    rows: int
    tokens: int
    warps: int
    stages: int
    splits: int = 1


def shape_of(launch: Launch, tokens: int, *, processors: int, rounded: bool = False) -> Shape:
    """Return how a launch is cut: into fewer rows, then into shares of K, where there are too few programs."""
    wanted, all_rows = _PROGRAMS_PER_PROCESSOR * processors, len(launch.table) * BLOCK_ROWS
    if tokens <= 8:
        cut = Shape(4, 32 if all_rows // 32 >= wanted else 16, 8, 4, 2)
    elif tokens <= 16:
        cut = Shape(4, 32, 16, 4, 2) if rounded else Shape(None, 64, 16, 4, 2)
    else:
        cut = Shape(4, 32, 32, 4, 1) if rounded else Shape(None, 128, 32, 4, 1)
    programs = all_rows // cut.rows * -(-tokens // cut.tokens)
    rounds = -(-launch.most_tiles // (cut.slices or 1))
    return replace(cut, splits=max(1, min(rounds, wanted // programs)))


def multiply(
    launch: Launch, x: Float[Tensor, "tokens in"], *, dtype: torch.dtype, parts: int, shape: Shape | None = None
) -> Float[Tensor, "tokens out"]:
    """Return the products of a launch; x is read as sums of `parts` numbers of bfloat16."""
    shape = shape or shape_of(launch, len(x), processors=_processors(x.device))
    stages = shape.stages if parts == 1 else 1  # float32 inputs do not leave room for two stages on small GPUs
    out = torch.empty(len(x), launch.width, dtype=dtype, device=x.device)
    target, grid = _target(launch, out, shape), _grid(launch, len(x), shape)
    constants = _constants(launch) | _column_constants(launch) | {"ROWS": shape.rows, "TOKENS": shape.tokens}
    kernel = triton_signs.many_tokens
    if shape.slices is not None:
        kernel, constants["SLICES"] = triton_signs.few_tokens, shape.slices
    kernel[grid](
        x, *_tensors(launch), target, len(x), x.stride(0), launch.width, shape.splits, **constants, PARTS=parts,
        ALIGNED=_alignment(launch), num_warps=shape.warps, num_stages=stages,
    )  # fmt: skip
    return add_parts(target, out) if shape.splits > 1 else out


def multiply_rounded(
    launch: Launch, x: Float[Tensor, "tokens in"], *, dtype: torch.dtype
) -> Float[Tensor, "tokens out"]:
    """Return the products of a launch with inputs rounded to int8, one scale a token and job."""
    tokens, positions = len(x), launch.positions
    shape = shape_of(launch, tokens, processors=_processors(x.device), rounded=True)
    rounded = torch.empty(tokens, positions, dtype=torch.int8, device=x.device)
    sums = torch.empty(tokens, positions // launch.plane_columns, device=x.device)
    x_scales = torch.empty(len(launch.jobs), tokens, device=x.device)
    codes, table, scales, cols, inputs = _tensors(launch)
    triton_int8.round_inputs[(len(launch.jobs), tokens)](
        x, table, launch.first_blocks, cols, inputs, rounded, sums, x_scales, tokens, x.stride(0), positions,
        PLANE=launch.plane_columns, **_column_constants(launch), num_warps=4,
    )  # fmt: skip
    out = torch.empty(tokens, launch.width, dtype=dtype, device=x.device)
    target = _target(launch, out, shape)
    triton_int8.few_tokens[_grid(launch, tokens, shape)](
        rounded, sums, x_scales, codes, table, scales, target, tokens, positions, launch.width, shape.splits,
        **_constants(launch), SLICES=shape.slices, ROWS=shape.rows, TOKENS=shape.tokens,
        num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return add_parts(target, out) if shape.splits > 1 else out


def multiply_by_torch(
    launch: Launch, x: Float[Tensor, "tokens in"], *, dtype: torch.dtype
) -> Float[Tensor, "tokens out"]:
    """Return the products of a launch for many tokens: each matrix is written out as numbers, then multiplied."""
    found = []
    for job in launch.jobs:
        weight = matrix(launch, job, dtype=x.dtype)
        if launch.inputs is None:
            start, columns = job.x_start, job.x_columns
            found.append(x[:, start : start + columns] @ weight[:, :columns].T)
        else:
            sources = launch.inputs[job.first_position : job.first_position + weight.shape[1]]
            found.append(x[:, sources.clamp(min=0)] @ weight.T)
    return torch.cat(found, dim=1).to(dtype)


def add_parts(
    parts: Float[Tensor, "splits tokens out"], out: Float[Tensor, "tokens out"]
) -> Float[Tensor, "tokens out"]:
    """Write the sum of the parts, in their order."""
    grid = (-(-out.numel() // _SUM_BLOCK),)
    triton_signs.add_parts[grid](parts, out, out.numel(), len(parts), BLOCK=_SUM_BLOCK, ASSEMBLY=not INTERPRETED)
    return out


def matrix(launch: Launch, job: Job, *, dtype: torch.dtype) -> Float[Tensor, "rows positions"]:
    """Return one output's matrix over its positions, all scales in it."""
    blocks, columns = -(-job.rows // BLOCK_ROWS), job.tiles * PLANES * launch.plane_columns
    out = torch.empty(blocks * BLOCK_ROWS, columns, dtype=dtype, device=launch.codes.device)
    grid = (len(out) // _MATRIX_ROWS, job.tiles)
    triton_signs.write_matrix[grid](
        *_tensors(launch), out, columns, job.first_block, **_constants(launch), **_column_constants(launch),
        ROWS=_MATRIX_ROWS, num_warps=4,
    )  # fmt: skip
    return out[: job.rows]


def _tensors(launch: Launch) -> tuple[Tensor, ...]:
    """Return codes, table, scales, factors and inputs; the table stands in for what is not there and not read."""
    optional = (launch.scales, launch.cols, launch.inputs)
    return (launch.codes, launch.table, *(launch.table if part is None else part for part in optional))


def _constants(launch: Launch) -> dict[str, int]:
    scales = 0 if launch.scales is None else 2 if launch.by_plane else 1
    return {"PLANE": launch.plane_columns, "BLOCK": BLOCK_ROWS, "SCALES": scales, "ASSEMBLY": not INTERPRETED}


def _column_constants(launch: Launch) -> dict[str, int]:
    return {"HAS_COLS": launch.cols is not None, "HAS_INPUTS": launch.inputs is not None}


def _alignment(launch: Launch) -> int:
    """Return what divides the first column and the number of columns of each job: wide loads need it."""
    return _ALIGNED if all(job.x_start % _ALIGNED == job.x_columns % _ALIGNED == 0 for job in launch.jobs) else 1


def _target(launch: Launch, out: Float[Tensor, "tokens out"], shape: Shape) -> Tensor:
    """Return where the programs write: the output, or a part for each share of K."""
    return torch.empty(shape.splits, *out.shape, device=out.device) if shape.splits > 1 else out


def _grid(launch: Launch, tokens: int, shape: Shape) -> tuple[int, int, int]:
    return len(launch.table) * BLOCK_ROWS // shape.rows, shape.splits, -(-tokens // shape.tokens)


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
