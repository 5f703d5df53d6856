"""The CUDA kernels against float64: on a GPU where there is one, else in Triton's interpreter on tiny shapes.

The interpreter knows no PTX, so that the two instructions that make signs are tested apart, bit by bit.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor

from drawn import seeded
from liptt_cli.kernels.triton_layout import Launch, lay_out
from sign_terms import dense, error, meaning, term

pytestmark = pytest.mark.triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_GUARD = 64


class Guarded:
    """A source of empty tensors that are full of poison, with a wall of poison around each."""

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device = DEVICE) -> Tensor:
        buffer = torch.full((prod(shape) + 2 * _GUARD,), torch.nan if dtype.is_floating_point else 77, device=device)
        self.buffers.append(buffer.to(dtype))
        return self.buffers[-1][_GUARD:-_GUARD].reshape(shape)

    def walls(self) -> Iterator[Tensor]:
        for buffer in self.buffers:
            for wall in (buffer[:_GUARD], buffer[-_GUARD:]):
                yield wall.isnan() if wall.dtype.is_floating_point else wall == 77


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that launches, its outputs poisoned before and their surroundings looked at after."""
    from liptt_cli.kernels import triton_launch

    guarded = Guarded()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", guarded.empty)
        yield triton_launch
    assert guarded.buffers
    assert all(bool(wall.all()) for wall in guarded.walls())


def launch_of(found: Any) -> Launch:
    return lay_out([[(0, found)]]).to(DEVICE)


def inputs(tokens: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(tokens, columns, generator=seeded(tokens)).to(dtype).to(DEVICE)


@pytest.mark.parametrize(
    ("tokens", "dtype"),
    [
        *((tokens, torch.bfloat16) for tokens in (1, 7, 8, 9, 16, 17, 33, 65)),
        *((tokens, dtype) for dtype in (torch.float32, torch.float16) for tokens in (1, 10, 33)),
    ],
)
def test_any_number_of_tokens_of_any_dtype_is_exact(host: Any, tokens: int, dtype: torch.dtype) -> None:
    found, x = term(70, 300, group=128), inputs(tokens, 300, dtype)
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=host.PARTS[dtype])
    assert error(y.cpu(), meaning(found, x.cpu())) < 2e-7


@pytest.mark.parametrize(
    ("rows", "columns", "group"),
    [(1, 1, None), (129, 33, None), (31, 257, 32), (40, 200, 100), (3, 40, 7), (20, 1030, 64), (8, 2060, None)],
)
@pytest.mark.parametrize("tokens", [2, 16])
def test_ragged_shapes_and_groups(host: Any, rows: int, columns: int, group: int | None, tokens: int) -> None:
    found, x = term(rows, columns, group=group), inputs(tokens, columns, torch.bfloat16)
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=1)
    assert error(y.cpu(), meaning(found, x.cpu())) < 2e-7


@pytest.mark.parametrize("tokens", [3, 40])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 2.5e-3), (torch.float16, 2e-5)])
def test_factors_of_columns_cost_the_rounding_of_the_inputs(
    host: Any, tokens: int, dtype: torch.dtype, bound: float
) -> None:
    found, x = term(40, 300, group=128, cols=True), inputs(tokens, 300, dtype)
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=host.PARTS[dtype])
    assert error(y.cpu(), meaning(found, x.cpu())) < bound


@pytest.mark.parametrize("tokens", [2, 20])
def test_extreme_scales_and_inputs(host: Any, tokens: int) -> None:
    """Row by row, from the least to the largest number of float16; inputs from 1e-30 to 1e30."""
    found = term(6, 300, group=128)
    scales = torch.tensor([2.0**-24, 6e-5, 1.0, 65504.0, 0.0, -3.0]).half()[:, None].expand(6, 3).contiguous()
    found = replace(found, scales=scales)
    x = inputs(tokens, 300) * torch.logspace(-30, 30, tokens).to(DEVICE)[:, None]
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=3).cpu().double()
    wanted = meaning(found, x.cpu())
    sizes = x.cpu().double().norm(dim=1)[:, None] * scales[:, 0].double().abs()
    assert bool(((y - wanted).abs() <= 2e-6 * sizes + 1e-42).all())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, of rows that are not there
def test_infinities_and_nan_stay_with_their_token(host: Any) -> None:
    found, x = term(20, 100), inputs(3, 100, torch.bfloat16)
    clean = host.multiply(launch_of(found), x, dtype=torch.float32, parts=1)
    x[1, 5], x[2, 7] = torch.inf, torch.nan
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=1)
    assert torch.equal(y[0], clean[0])
    assert torch.equal(y[1].cpu(), torch.where(found.codes[:, 5], torch.inf, -torch.inf))
    assert bool(y[2].isnan().all())


@pytest.mark.parametrize("tokens", [2, 12])
def test_shares_of_k_are_added_in_order(host: Any, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    found, x = term(20, 1100, group=32), inputs(tokens, 1100)
    launch = launch_of(found)
    whole = host.multiply(launch, x, dtype=torch.float32, parts=3)
    monkeypatch.setattr(host, "_processors", lambda device: 64)
    assert host.shape_of(launch, tokens, processors=64).splits > 1
    shared = [host.multiply(launch, x, dtype=torch.float32, parts=3) for _ in range(2)]
    assert torch.equal(*shared)
    assert error(shared[0].cpu(), meaning(found, x.cpu())) < 2e-7
    assert error(whole.cpu(), meaning(found, x.cpu())) < 2e-7


@pytest.mark.parametrize(
    ("tokens", "cut"),
    [
        (3, (2, 16, 8, 4, 1, 2)),
        (3, (8, 64, 8, 8, 3)),
        (3, (4, 128, 8, 4, 2)),
        (20, (4, 32, 16, 4, 1)),
        (20, (None, 32, 16, 4, 2, 3)),
    ],
)
def test_any_cut_gives_the_same(host: Any, tokens: int, cut: tuple[int | None, ...]) -> None:
    found, x = term(70, 600, group=32), inputs(tokens, 600)
    y = host.multiply(launch_of(found), x, dtype=torch.float32, parts=3, shape=host.Shape(*cut))
    assert error(y.cpu(), meaning(found, x.cpu())) < 2e-7


def test_few_rows_are_cut_finer() -> None:
    from liptt_cli.kernels.triton_launch import Shape, shape_of

    few, many = lay_out([[(0, term(300, 5000))]]), lay_out([[(0, term(3000, 64))]])
    assert shape_of(many, 1, processors=4) == Shape(4, 32, 8, 4, 2)
    assert shape_of(few, 1, processors=16) == Shape(4, 16, 8, 4, 2)
    assert shape_of(few, 1, processors=64) == Shape(4, 16, 8, 4, 2, splits=2)
    assert shape_of(few, 40, processors=64).splits == 5


def test_parts_are_added_from_the_first_to_the_last(host: Any) -> None:
    parts = torch.tensor([1e8, 1.0, -1e8, 1.0]).repeat(1500, 1).T.reshape(4, 3, 500).contiguous().to(DEVICE)
    out = host.add_parts(parts, host.torch.empty(3, 500, dtype=torch.bfloat16, device=DEVICE))
    assert torch.equal(out.float().cpu(), torch.ones(3, 500))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_rounded_once(host: Any, dtype: torch.dtype) -> None:
    found, x = term(70, 100), inputs(2, 100)
    exact = host.multiply(launch_of(found), x, dtype=torch.float32, parts=3)
    assert torch.equal(host.multiply(launch_of(found), x, dtype=dtype, parts=3), exact.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_tokens_are_multiplied_by_torch(host: Any, dtype: torch.dtype) -> None:
    """Two outputs, one of two terms over gathered columns, so that every branch of the matrix is there."""
    plain, gather = term(30, 60, cols=True, seed=1), torch.tensor([50, 3, 7, 20])
    gathered = replace(term(140, 4, group=2, seed=2), gather=gather)
    launch = lay_out([[(0, plain)], [(0, gathered), (0, gathered)]]).to(DEVICE)
    x = inputs(300, 60, dtype)
    y = host.multiply_by_torch(launch, x, dtype=dtype).cpu()
    wanted = torch.cat([meaning(plain, x.cpu()), 2 * meaning(gathered, x.cpu())], dim=1)
    assert error(y, wanted) < (1e-6 if dtype == torch.float32 else 5e-3)


@pytest.mark.parametrize("group", [None, 32])
def test_the_matrix_is_written_whole(host: Any, group: int | None) -> None:
    found = term(130, 300, group=group)
    launch = launch_of(found)
    matrix = host.matrix(launch, launch.jobs[0], dtype=torch.float32).cpu()
    torch.testing.assert_close(matrix[:, :300].double(), dense(found), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("tokens", "columns", "group", "cols"),
    [(1, 300, 128, False), (9, 300, None, True), (33, 300, 128, True), (2, 90, 7, False), (33, 90, None, False)],
)
def test_rounded_inputs_cost_a_percent(host: Any, tokens: int, columns: int, group: int | None, cols: bool) -> None:
    found, x = term(40, columns, group=group, cols=cols), inputs(tokens, columns)
    y = host.multiply_rounded(launch_of(found), x, dtype=torch.float32).cpu()
    assert 1e-5 < error(y, meaning(found, x.cpu())) < 1.5e-2


def test_integers_of_8_bits_are_multiplied_exactly(host: Any) -> None:
    """Under a scale of 127 nothing is rounded, and the sums are integers."""
    found = replace(term(40, 2100), rows=None)
    x = torch.randint(-126, 127, (5, 2100), generator=seeded()).float()
    x[:, 0] = 127
    y = host.multiply_rounded(launch_of(found), x.to(DEVICE), dtype=torch.float32).cpu()
    assert torch.equal(y.double(), meaning(found, x))


def test_zeros_give_zeros_whatever_is_rounded(host: Any) -> None:
    y = host.multiply_rounded(launch_of(term(10, 40)), torch.zeros(2, 40, device=DEVICE), dtype=torch.float32)
    assert not y.any()


@pytest.mark.parametrize(("module", "bytes_a_code"), [("triton_signs", 2), ("triton_int8", 1)])
def test_the_assembly_means_what_the_plain_lines_mean(module: str, bytes_a_code: int) -> None:
    """All 8 planes of every byte, packed in registers of 32 bits beside others: the top bits come out, one by one."""
    source = _source(module)
    shift, keep = _source("triton_signs"), re.search(r'"((?:lop3|and)\.b32 .*?;)"', source)
    assert '"shl.b32 $0, $1, 1;"' in shift and keep is not None
    bytes_ = torch.randint(0, 256, (4096,), generator=seeded()).tolist()
    count = 4 // bytes_a_code
    for start in range(0, len(bytes_), count):
        codes = bytes_[start : start + count]
        register = sum((code << (8 * (bytes_a_code - 1))) << (8 * bytes_a_code * at) for at, code in enumerate(codes))
        for plane in range(8):
            kept = _run(keep[1], register)
            for at, code in enumerate(codes):
                lane = kept >> (8 * bytes_a_code * at) & ((1 << 8 * bytes_a_code) - 1)
                minus = bool(code >> (7 - plane) & 1)
                assert lane == ((0xBF80 if minus else 0x3F80) if bytes_a_code == 2 else (0x80 if minus else 0))
            register = register << 1 & 0xFFFFFFFF


def _source(module: str) -> str:
    import importlib
    import inspect

    return inspect.getsource(importlib.import_module(f"liptt_cli.kernels.{module}"))


def _run(instruction: str, register: int) -> int:
    """Return what `and` or `lop3` makes of a register: bit by bit, `lop3` looks its inputs up in its last operand."""
    name, *operands = re.split(r"[ ,;]+", instruction.strip("; "))
    numbers = [register if operand == "$1" else int(operand, 16) for operand in operands[1:]]
    if name == "and.b32":
        return numbers[0] & numbers[1]
    a, b, c, table = numbers
    bits = [table >> ((a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)) & 1 for bit in range(32)]
    return sum(value << bit for bit, value in enumerate(bits))
