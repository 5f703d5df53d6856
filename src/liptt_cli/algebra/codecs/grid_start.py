"""Scales and shifts of a grid from the values alone, group by group; entries outside of `where` count for nothing.

    absmean   the mean magnitude (signs: the least squares scale; trits: BitNet b1.58, arXiv:2402.17764)
    rms       the root mean square
    twn       the mean magnitude of all beyond 0.7 times the mean magnitude (Ternary Weight Networks, arXiv:1605.04711)
    minmax    the range; without a shift a symmetric one, half a step more than the largest level, as GPTQ's code has it
    split     two planes of signs: the magnitudes of small and of large entries (`split_start`)
    search    the share of that range with the least sum of |error|^norm (GPTQ's and LR-QAT's range estimation)

With a shift, means are taken around the mean, and the levels of integers hold an exact zero (a zero point). Further
planes of signs or trits are fitted to what is left over. Planes of bits have the scales 2s, -s (three: 4s, -2s, -s)
without a shift, which are s times the levels -1 .. 2 (DB-LLM, arXiv:2402.11960), and powers of two with one.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.codecs.split_start import split_scales
from liptt_cli.formats.grid import Envelope
from liptt_cli.formats.rounding import levels, nearest, nearest_planes, to_half
from liptt_cli.forms.alphabets import ALPHABETS, Alphabet

Rule = Literal["absmean", "rms", "minmax", "search", "twn", "split"]
_BEYOND = 0.7


@dataclass(frozen=True)
class Search:
    """Which shares of the range are tried, and the power of errors that decides."""

    norm: float = 2.4
    least: float = 0.2
    most: float = 1.0
    steps: int = 81


@dataclass(frozen=True)
class Kind:
    """What a grid has."""

    alphabet: Alphabet
    planes: int
    by_column: bool
    shift: bool


@dataclass(frozen=True)
class Groups:
    """Which entries share a scale: `width` columns of a row, or of all rows; those in `where` count."""

    where: Bool[Tensor, "rows columns"]
    width: int
    by_row: bool

    def cut(self, values: Float[Tensor, "rows columns"], *, fill: float = 0.0) -> Float[Tensor, "rows groups width"]:
        """Return the values by group, those that do not count and those that are missing in the last one filled."""
        kept = torch.where(self.where, values, fill)
        padded: Tensor = torch.nn.functional.pad(kept, (0, -values.shape[1] % self.width), value=fill)
        return padded.reshape(len(values), -1, self.width)

    def total(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "_rows groups"]:
        """Return the sum over each group."""
        sums = self.cut(values).sum(2)
        return sums if self.by_row else sums.sum(0, keepdim=True)

    def mean(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "_rows groups"]:
        """Return the mean over each group, zero of none."""
        return self.total(values) / self.total(torch.ones_like(values)).clamp_min(1)

    def largest(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "_rows groups"]:
        """Return the largest number of each group, zero of none."""
        found = self.cut(values, fill=-torch.inf).amax(2)
        found = found if self.by_row else found.amax(0, keepdim=True)
        return torch.where(found == -torch.inf, 0.0, found)

    def spread(self, each: Float[Tensor, "*lead _rows groups"]) -> Float[Tensor, "*lead _rows columns"]:
        """Return a number of each group at each of its columns."""
        return each.repeat_interleave(self.width, dim=-1)[..., : self.where.shape[1]]


@dataclass(frozen=True)
class Start:
    """Scales (planes, rows, groups), those of columns beside them, and a shift (rows, groups)."""

    scale: Float[Tensor, "planes _rows groups"]
    cols: Float[Tensor, "planes columns"] | None = None
    shift: Float[Tensor, "_rows groups"] | None = None

    def envelopes(self, width: int) -> tuple[Envelope, Envelope | None]:
        """Return scale and shift, each number one of float16."""
        dtype = self.scale.dtype
        cols = None if self.cols is None else to_half(self.cols, "scale.cols").to(dtype).unsqueeze(1)
        scale = Envelope(to_half(self.scale, "scale.rows").to(dtype).unsqueeze(1), cols, width)
        if self.shift is None:
            return scale, None
        return scale, Envelope(to_half(self.shift, "shift.rows").to(dtype)[None, None], None, width)


def start_of(values: Float[Tensor, "rows columns"], groups: Groups, *, kind: Kind, rule: Rule, search: Search) -> Start:
    """Return the scales by a rule."""
    if rule == "minmax":
        return _of_range(_range(values, groups, kind), kind)
    if rule == "split":
        shift = groups.mean(values) if kind.shift else None
        sizes = (values if shift is None else values - groups.spread(shift)).abs()
        return Start(split_scales(groups.cut(sizes), groups.cut(torch.ones_like(values)) > 0), shift=shift)
    if rule == "search":
        return _searched(values, groups, kind=kind, search=search)
    return _of_means(values, groups, kind=kind, rule=rule)


def _of_means(values: Float[Tensor, "rows columns"], groups: Groups, *, kind: Kind, rule: Rule) -> Start:
    """Fit plane by plane to what is left over."""
    left, scales, columns, shifts = values, [], [], []
    for plane in range(kind.planes):
        if kind.shift:
            shifts.append(groups.mean(left))
            left = left - groups.spread(shifts[-1])
        size = left.abs()
        scales.append(_mean_of(size, groups, rule))
        spread = groups.spread(scales[-1])
        if kind.by_column:
            alone = Groups(groups.where, 1, by_row=False)
            columns.append(_mean_of(size / torch.where(spread > 0, spread, 1.0), alone, rule)[0])
            spread = spread * columns[-1]
        if plane + 1 < kind.planes:
            codes = nearest(left / torch.where(spread > 0, spread, 1.0), kind.alphabet)
            left = left - spread * levels(codes, alphabet=kind.alphabet, dtype=left.dtype)
    shift = torch.stack(shifts).sum(0) if shifts else None
    return Start(torch.stack(scales), torch.stack(columns) if columns else None, shift)


def _mean_of(size: Float[Tensor, "rows columns"], groups: Groups, rule: Rule) -> Float[Tensor, "_rows groups"]:
    if rule == "rms":
        return groups.mean(size.square()).sqrt()
    mean = groups.mean(size)
    if rule == "absmean":
        return mean
    beyond = size > _BEYOND * groups.spread(mean)
    return groups.total(size * beyond) / groups.total(beyond.to(size.dtype)).clamp_min(1)


_Range = tuple[Float[Tensor, "_rows groups"], Float[Tensor, "_rows groups"]]


def _range(values: Float[Tensor, "rows columns"], groups: Groups, kind: Kind) -> _Range:
    """Return the ends of the range of each group: with zero between them for integers, symmetric without a shift."""
    low, high = -groups.largest(-values), groups.largest(values)
    if not kind.shift:
        top = torch.maximum(low.abs(), high.abs())
        return -top, top
    return (low, high) if kind.alphabet in ("sign", "trit") else (low.clamp_max(0), high.clamp_min(0))


def _of_range(ends: _Range, kind: Kind) -> Start:
    """Return the scales whose levels go from end to end."""
    low, high = ends
    known = ALPHABETS[kind.alphabet]
    if kind.planes > 1:
        return _of_bits(low, high, kind)
    step = _half((high - low) / (known.last - known.first))
    if not kind.shift:
        return Start(step.unsqueeze(0))
    if kind.alphabet in ("sign", "trit"):
        return Start(step.unsqueeze(0), shift=low - known.first * step)
    zero = (-low / torch.where(step > 0, step, 1.0)).round()
    return Start(step.unsqueeze(0), shift=-(zero + known.first) * step)


def _of_bits(low: Float[Tensor, "_rows groups"], high: Float[Tensor, "_rows groups"], kind: Kind) -> Start:
    powers = [2.0**k for k in reversed(range(kind.planes))]
    if kind.shift:
        step = (high - low) / (2**kind.planes - 1)
        return Start(torch.stack([power * step for power in powers]), shift=low)
    step = high / powers[0]
    return Start(torch.stack([step * powers[0], *(-power * step for power in powers[1:])]))


def _searched(values: Float[Tensor, "rows columns"], groups: Groups, *, kind: Kind, search: Search) -> Start:
    """Try each share of the range, and keep each group's best; of equal ones the largest."""
    low, high = _range(values, groups, kind)
    least = torch.full_like(low, torch.inf)
    best = torch.full_like(low, search.most)
    for share in torch.linspace(search.most, search.least, search.steps, dtype=values.dtype).tolist():
        error = _error(values, groups, _of_range((share * low, share * high), kind), kind=kind, norm=search.norm)
        best = torch.where(error < least, share, best)
        least = torch.minimum(error, least)
    return _of_range((best * low, best * high), kind)


def _error(
    values: Float[Tensor, "rows columns"], groups: Groups, start: Start, *, kind: Kind, norm: float
) -> Float[Tensor, "_rows groups"]:
    """Return the sum of |error|^norm of each group, with the scales as they are stored."""
    centred = values if start.shift is None else values - groups.spread(_half(start.shift))
    scale = groups.spread(_half(start.scale))
    codes = nearest_planes(centred, scale, kind.alphabet)
    known = (scale * levels(codes, alphabet=kind.alphabet, dtype=values.dtype)).sum(0)
    return groups.total((centred - known).abs().pow(norm))


def _half(numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return numbers.to(torch.float16).to(numbers.dtype)
