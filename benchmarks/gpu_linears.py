"""One linear in each of its guises on a GPU: bfloat16 in cuBLAS, one bit in liptt's kernels, one bit in gemlite.

A guise is made in as many copies as fill more than the L2, since a matrix of one bit a weight would stay there between
calls and flatter every kernel. Codes are random; scales are one for 128 columns, or one a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import ceil

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from liptt_cli.kernels.terms import Lowered, Term
from liptt_cli.kernels.triton_layout import Launch
from liptt_cli.kernels.triton_program import DeviceProducts, write_products

GROUP_COLUMNS = 128
BFLOAT16, GROUPS, ROWS, ROUNDED, HALF_BIT, GEMLITE = (
    "bfloat16, cuBLAS",
    "1 bit, groups of 128",
    "1 bit, a scale a row",
    "1 bit, groups of 128, 8-bit inputs",
    "two factors, 0.5 bit",
    "gemlite A16W1, groups of 128",
)
EXACT_INSTRUCTIONS, ROUNDED_INSTRUCTIONS = 1.125, 0.5625
"""Instructions that a lane must spend on a weight: half a shift and half a logical one, or a quarter of each for 8-bit
inputs, and its share of an instruction of the tensor cores with 8 tokens."""

Call = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Guise:
    """A linear: calls that each have weights of their own, the bytes and lane instructions of one, and its matrix."""

    name: str
    calls: tuple[Call, ...]
    bytes: int
    instructions: float | None
    matrix: Tensor


@dataclass(frozen=True)
class Place:
    """Where the linears are, and how many bytes all copies of one guise have at least."""

    device: torch.device
    rotated_bytes: int

    def copies(self, size_bytes: int) -> int:
        """Return how many copies are rotated."""
        return max(2, ceil(self.rotated_bytes / size_bytes)) if self.rotated_bytes else 1


def guises(columns: int, rows: int, place: Place, *, gemlite: bool = True) -> Iterator[Guise]:
    """Make one guise after the other, so that only one is in memory until it is kept."""
    yield _dense(columns, rows, place)
    grouped = products_of([random_term(rows, columns, place, grouped=True)])
    yield _signs(GROUPS, grouped, place, rounded=False)
    yield _signs(ROWS, products_of([random_term(rows, columns, place, grouped=False)]), place, rounded=False)
    yield _signs(ROUNDED, grouped, place, rounded=True)
    rank = max(8, rows * columns // (2 * (rows + columns)) // 8 * 8)
    factors = [random_term(rank, columns, place, grouped=False), random_term(rows, rank, place, grouped=False)]
    yield _signs(HALF_BIT, products_of(factors), place, rounded=False)
    if gemlite and find_spec("gemlite") is not None and place.device.type == "cuda":
        yield _gemlite(columns, rows, place)


def _dense(columns: int, rows: int, place: Place) -> Guise:
    weights = [
        torch.randn(rows, columns, dtype=torch.bfloat16, device=place.device) / columns**0.5
        for _ in range(place.copies(2 * rows * columns))
    ]
    calls = tuple(lambda x, weight=weight: F.linear(x, weight) for weight in weights)
    return Guise(BFLOAT16, calls, 2 * rows * columns, None, weights[0])


def random_term(rows: int, columns: int, place: Place, *, grouped: bool) -> Term:
    """Return random codes under random scales, one for each group of columns or each row."""
    codes = torch.rand(rows, columns, device=place.device) > 0.5
    scale = columns**-0.5
    if not grouped:
        return Term(codes, (columns,), rows=(torch.rand(rows, device=place.device) * scale).half().float())
    ends = tuple(min(columns, end) for end in range(GROUP_COLUMNS, columns + GROUP_COLUMNS, GROUP_COLUMNS))
    return Term(codes, ends, (torch.rand(rows, len(ends), device=place.device) * scale).half())


def products_of(terms: list[Term]) -> tuple[DeviceProducts, Tensor]:
    """Return one term, or the second after the first, and the matrix that they are."""
    lowered = Lowered(direct=(terms[0],)) if len(terms) == 1 else Lowered(pairs=(((terms[0],), (terms[1],)),))
    matrix = _matrix(terms[0]) if len(terms) == 1 else _matrix(terms[1]) @ _matrix(terms[0])
    return write_products([lowered], [len(terms[-1].codes)]), matrix


def _matrix(term: Term) -> Tensor:
    matrix = term.codes.float() * 2 - 1
    if term.scales is not None:
        matrix = matrix * term.scales.float().repeat_interleave(GROUP_COLUMNS, dim=1)[:, : matrix.shape[1]]
    return matrix if term.rows is None else matrix * term.rows[:, None]


def _signs(name: str, made: tuple[DeviceProducts, Tensor], place: Place, *, rounded: bool) -> Guise:
    products, matrix = made
    size = sum(_bytes_of(launch) for launch in products.launches)
    copies = [products, *(copied(products) for _ in range(place.copies(size) - 1))]
    calls = tuple(lambda x, copy=copy: copy(x, rounded=rounded) for copy in copies)
    weights = sum(job.rows * job.x_columns for launch in products.launches for job in launch.jobs)
    each = ROUNDED_INSTRUCTIONS if rounded else EXACT_INSTRUCTIONS
    return Guise(name, calls, size, each * weights, matrix)


def _bytes_of(launch: Launch) -> int:
    scales = 0 if launch.scales is None else launch.scales.nbytes
    return launch.codes.nbytes + scales


def copied(products: DeviceProducts) -> DeviceProducts:
    """Return the same products from codes and scales of their own."""
    launches = [
        replace(launch, codes=launch.codes.clone(), scales=None if launch.scales is None else launch.scales.clone())
        for launch in products.launches
    ]
    return replace(products, launches=tuple(launches))


def _gemlite(columns: int, rows: int, place: Place) -> Guise:
    """Make it by gemlite's own helper: a code of 0 or 1, less a zero point of a half, times twice the scale."""
    from gemlite import helper

    term = random_term(rows, columns, place, grouped=True)
    codes, scales = term.codes.to(torch.uint8), term.scales.to(torch.bfloat16)
    maker = helper.A16W1_HQQ_INT(device=str(place.device), dtype=torch.bfloat16)
    size = codes.numel() // 8 + 2 * scales.nbytes
    linears = [
        maker.from_weights(codes, 2 * scales.reshape(-1, 1), torch.full_like(scales.reshape(-1, 1), 0.5))
        for _ in range(place.copies(size))
    ]
    return Guise(GEMLITE, tuple(linears), size, None, _matrix(replace(term, scales=scales)))
