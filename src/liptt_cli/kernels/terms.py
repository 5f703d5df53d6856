"""What a compressed weight is in sign products: the lowering of a value to matrices of -1 and +1 between scales.

    y = sum over terms of  rows * sum over groups of  scales * sum over columns of  (+-1) * cols * x[gather]

Planes and ranks of a magnitude are a term each. A chain of two sign cores is two products, one after the other, its
diagonals folded into `rows` and `cols`. A shift of one number a row is a chain of rank one over ones. Codes of a zone
of whole columns are a term over gathered columns; of single entries, half the difference of two sign matrices:
m * s = ((m and s>0) - (m and s<0)), each written as signs. Trits are half the sum of two sign matrices; indices of k
bits are k of them, each counting twice the one before, and a constant. Columns of plain numbers stay with torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.alphabets import ALPHABETS


@dataclass(frozen=True)
class Term:
    """One matrix of signs: `codes` are True for +1; group g of `scales` has the columns up to `group_ends[g]`."""

    codes: Bool[Tensor, "rows columns"]
    group_ends: tuple[int, ...]
    scales: Float[Tensor, "rows groups"] | None = None
    rows: Float[Tensor, " rows"] | None = None
    cols: Float[Tensor, " columns"] | None = None
    gather: Int[Tensor, " columns"] | None = None

    def scaled(
        self, *, rows: Float[Tensor, " rows"] | None = None, cols: Float[Tensor, " columns"] | None = None
    ) -> "Term":
        """Return the term between two more diagonals."""
        return replace(self, rows=_times(self.rows, rows), cols=_times(self.cols, cols))


@dataclass(frozen=True)
class Lowered:
    """One weight: terms on x, pairs (first, second) of terms in a row, and columns of plain numbers for torch."""

    direct: tuple[Term, ...] = ()
    pairs: tuple[tuple[tuple[Term, ...], tuple[Term, ...]], ...] = ()
    columns: tuple[Zones, ...] = ()

    def __add__(self, other: "Lowered") -> "Lowered":
        """Add two weights."""
        return Lowered(self.direct + other.direct, self.pairs + other.pairs, self.columns + other.columns)


def lower(value: Encoded) -> Lowered:
    """Return the sign products of a value; `fits.misfit(value.form)` must have found nothing against it."""
    if isinstance(value, Sum):
        return sum((lower(part) for part in value.parts), Lowered())
    if isinstance(value, Chain):
        return _lower_chain(value)
    if isinstance(value, Zones):
        return _lower_zones(value)
    if isinstance(value, Grid):
        return Lowered(_grid_terms(value)) + _lower_shift(value.shift, value.codes.shape[1:])
    return Lowered()


def _signs(grid: Grid) -> tuple[Grid, tuple[float, ...]]:
    """Return codes as planes of signs under the same scales, and how much each plane counts.

    The bits of an index i are signs s: level = first + step * i = sum over bits of step * 2^b / 2 * s + a constant.
    """
    known = ALPHABETS[grid.alphabet]
    if grid.alphabet == "sign":
        return grid, (1.0,) * len(grid.codes)
    if grid.alphabet == "trit":
        planes, counts = [grid.codes >= 1, grid.codes >= 2], [0.5, 0.5]
    else:
        planes = [(grid.codes >> bit) & 1 for bit in range(known.bits)]
        counts = [known.step * 2.0**bit / 2 for bit in range(known.bits)]
        planes.append(torch.ones_like(grid.codes))
        counts.append(known.first + known.step * (known.count - 1) / 2)
    scale = grid.scale
    if scale is not None:
        cols = None if scale.cols is None else scale.cols.repeat(len(planes), 1, 1)
        scale = Envelope(scale.rows.repeat(len(planes), 1, 1, 1), cols, scale.group_columns)
    codes = torch.cat([plane.to(torch.uint8) for plane in planes])
    return Grid(codes, scale, grid.shift), tuple(count for count in counts for _ in grid.codes)


def _grid_terms(grid: Grid, *, columns: Tensor | None = None) -> tuple[Term, ...]:
    """Return a term for each plane of signs and rank; `columns` are the numbers of the columns that the codes have."""
    signs, counts = _signs(grid)
    terms = []
    for plane, (codes, count) in enumerate(zip(signs.codes.bool(), counts, strict=True)):
        rows = None if count == 1 else torch.full((len(codes),), count, device=codes.device)
        if signs.scale is None:
            terms.append(Term(codes, (codes.shape[1],), gather=columns).scaled(rows=rows))
            continue
        for rank in range(signs.scale.rows.shape[1]):
            terms.append(_under_envelope(codes, signs.scale, (plane, rank), columns).scaled(rows=rows))
    return tuple(terms)


def _under_envelope(
    codes: Bool[Tensor, "rows columns"], envelope: Envelope, place: tuple[int, int], columns: Tensor | None
) -> Term:
    rows, width = codes.shape
    scales = envelope.rows[place].expand(rows, -1)
    cols = None if envelope.cols is None else envelope.cols[place].float()
    if columns is not None and cols is not None:
        cols = cols[columns]
    if scales.shape[1] == 1:
        return Term(codes, (width,), None, scales[:, 0].float(), cols, columns)
    numbers = torch.arange(width) if columns is None else columns
    bounds = torch.arange(1, scales.shape[1] + 1) * envelope.group_columns
    ends = torch.searchsorted(numbers.cpu().contiguous(), bounds)
    return Term(codes, tuple(ends.tolist()), scales, None, cols, columns)


def _lower_shift(shift: Envelope | None, shape: Sequence[int]) -> Lowered:
    """Return a shift of one number a row and one a column, for each rank, as a chain over ones."""
    if shift is None:
        return Lowered()
    rows, columns = shape
    pairs = []
    for rank in range(shift.rows.shape[1]):
        cols = None if shift.cols is None else shift.cols[0, rank].float()
        scale = shift.rows[0, rank, :, 0].float().expand(rows)
        first = Term(torch.ones(1, columns, dtype=torch.bool, device=scale.device), (columns,), cols=cols)
        second = Term(torch.ones(rows, 1, dtype=torch.bool, device=scale.device), (1,), rows=scale)
        pairs.append(((first,), (second,)))
    return Lowered(pairs=tuple(pairs))


def _lower_chain(chain: Chain) -> Lowered:
    """Return the two products of a chain of two sign cores."""
    first, middle, last = (None if scale is None else scale.float() for scale in chain.scales)
    rows, columns = chain.shape
    left, right = (core for core in chain.cores if isinstance(core, Grid))
    right_terms = _grid_terms(_cropped(right, right.codes.shape[1], columns))
    left_terms = _grid_terms(_cropped(left, rows, left.codes.shape[2]))
    return Lowered(
        pairs=(
            (
                tuple(term.scaled(rows=middle, cols=last) for term in right_terms),
                tuple(term.scaled(rows=first) for term in left_terms),
            ),
        )
    )


def _cropped(grid: Grid, rows: int, columns: int) -> Grid:
    """Return the first rows and columns of a grid whose modes overshoot the shape."""
    scale = grid.scale
    if scale is not None:
        kept = scale.rows[:, :, :rows, : -(-columns // scale.group_columns)]
        cols = None if scale.cols is None else scale.cols[..., :columns]
        scale = Envelope(kept, cols, scale.group_columns)
    return replace(grid, codes=grid.codes[:, :rows, :columns], scale=scale)


def _lower_zones(zones: Zones) -> Lowered:
    regions = zones.regions()
    found = Lowered()
    for number, (part, region) in enumerate(zip(zones.whole_parts(), regions, strict=True)):
        if isinstance(part, Grid):
            columns = region[0].nonzero().flatten() if zones.layout == "column" else None
            found += Lowered(_masked(part, region) if columns is None else _gathered(part, columns, zones.shape[0]))
        elif isinstance(part, Dense):
            found += Lowered(columns=(_alone(zones, number),))
    return found


def _gathered(part: Grid, columns: Tensor, rows: int) -> tuple[Term, ...]:
    if not len(columns):
        return ()
    return _grid_terms(replace(part, codes=part.codes.reshape(len(part.codes), rows, -1)), columns=columns)


def _masked(part: Grid, region: Bool[Tensor, "out in"]) -> tuple[Term, ...]:
    """Return the codes of some entries, zero elsewhere: half of the signs that are + there, less those that are -."""
    signs, counts = _signs(part)
    spread = torch.zeros(len(counts), *region.shape, dtype=torch.uint8, device=region.device)
    codes = spread.masked_scatter(region.expand(spread.shape), signs.codes).bool()
    ranks = 1 if signs.scale is None else signs.scale.rows.shape[1]
    halves = [torch.full((region.shape[0],), count / 2, device=region.device) for count in counts for _ in range(ranks)]
    above = _grid_terms(replace(signs, codes=(region & codes).to(torch.uint8)))
    below = _grid_terms(replace(signs, codes=(region & ~codes).to(torch.uint8)))
    return tuple(term.scaled(rows=half) for term, half in zip(above, halves, strict=True)) + tuple(
        term.scaled(rows=-half) for term, half in zip(below, halves, strict=True)
    )


def _alone(zones: Zones, number: int) -> Zones:
    """Return a zone of whole columns of plain numbers, nothing beside it: torch multiplies these columns alone."""
    start, stop = zones.form.bounds[number - 1]
    parts = (Zero(zones.shape), zones.parts[number])
    return Zones(zones.labels[:, start:stop], parts, zones.shape, zones.layout, (stop - start,))


def _times(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left * right
