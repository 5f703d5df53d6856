"""A dimension as a product of modes, and what a chain's bonds can hold; whole numbers only, no torch.

`split` gives the first cores an out mode and the others an in mode: d = 2 is 1 + 1, d = 3 is 2 + 1 (one
in-mode core, so that a core's metric is exact), 4 is 2 + 2, 5 is 3 + 2, 6 is 3 + 3. `mpo` pairs a mode of
each side in every core, large with small, so that the cores come out alike.

Balanced means least sum of modes (Saten's rule). A dimension without a factorisation whose largest mode is
at most 8 times its smallest is padded, by at most 2 %.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isqrt, prod
from typing import Literal

from liptt_cli.errors import ShapeError

PADDING_PERCENT = 2
MODE_RATIO = 8

_Modes = tuple[int, ...]


def chain_modes(
    shape: tuple[int, int],
    layout: Literal["split", "mpo"],
    *,
    cores: int,
    modes: tuple[Sequence[int], Sequence[int]] | None = None,
) -> tuple[_Modes, _Modes]:
    """Return each core's out mode and in mode; `modes` are those named by hand, None is balanced.

    Raises:
        ShapeError: if a dimension does not factor, or the modes named do not fit shape or layout.
    """
    if modes is not None:
        out_modes, in_modes = tuple(modes[0]), tuple(modes[1])
        _check_named(shape, layout, (out_modes, in_modes), cores=cores)
        return out_modes, in_modes
    rows, columns = shape
    if layout == "mpo":
        return balanced_modes(rows, cores)[::-1], balanced_modes(columns, cores)
    out_cores = (cores + 1) // 2
    in_cores = cores - out_cores
    out_modes = (*balanced_modes(rows, out_cores), *(1,) * in_cores)
    return out_modes, (*(1,) * out_cores, *balanced_modes(columns, in_cores))


def bond_caps(out_modes: Sequence[int], in_modes: Sequence[int]) -> tuple[int, ...]:
    """Return the d - 1 ranks beyond which a chain of float cores gains nothing (exact TT ranks)."""
    products = [m * n for m, n in zip(out_modes, in_modes, strict=True)]
    return tuple(min(prod(products[:k]), prod(products[k:])) for k in range(1, len(products)))


@lru_cache(maxsize=1024)
def balanced_modes(dimension: int, count: int) -> _Modes:
    """Return `count` modes, ascending, of least padding and then least sum.

    Raises:
        ShapeError: if no factorisation lies within the padding; the message names the nearest.
    """
    most = dimension * (100 + PADDING_PERCENT) // 100
    for padded in range(dimension, most + 1):
        found = _least_sum(padded, count)
        if found is not None:
            return found
    raise ShapeError(
        f"dimension {dimension} does not factor into {count} modes of at most 1:{MODE_RATIO}, nor does any up to "
        f"{most} ({PADDING_PERCENT} % of padding){_nearest(dimension, count)}; use fewer cores, or name the modes"
    )


def _least_sum(dimension: int, count: int) -> _Modes | None:
    if count == 1:
        return (dimension,)
    even = [modes for modes in _ascending(dimension, count, 2) if modes[-1] <= MODE_RATIO * modes[0]]
    return min(even, key=sum, default=None)


def _ascending(dimension: int, count: int, least: int) -> Iterator[_Modes]:
    if count == 1:
        if dimension >= least:
            yield (dimension,)
        return
    for mode in range(least, isqrt(dimension) + 1):
        if mode**count > dimension:
            return
        if dimension % mode == 0:
            yield from ((mode, *rest) for rest in _ascending(dimension // mode, count - 1, mode))


def _nearest(dimension: int, count: int) -> str:
    for padded in range(dimension, 2 * dimension + 2**count):
        found = _least_sum(padded, count)
        if found is not None:
            return f"; the nearest is {' x '.join(map(str, found))} = {padded}"
    return ""


def _check_named(
    shape: tuple[int, int], layout: Literal["split", "mpo"], modes: tuple[_Modes, _Modes], *, cores: int
) -> None:
    for name, dimension, named in zip(("modes.out", "modes.into"), shape, modes, strict=True):
        if len(named) != cores or min(named, default=0) < 1:
            raise ShapeError(f"{name}: {list(named)} must be {cores} numbers from 1 up, one a core")
        if prod(named) < dimension:
            raise ShapeError(f"{name}: {list(named)} multiply to {prod(named)}, but the dimension is {dimension}")
    last_out = max((k for k, mode in enumerate(modes[0]) if mode > 1), default=-1)
    first_in = min((k for k, mode in enumerate(modes[1]) if mode > 1), default=cores)
    if layout == "split" and last_out >= first_in:
        raise ShapeError(
            f"layout split wants out modes before in modes, but core {first_in} has an in mode and core {last_out} "
            "an out mode; put 1 in their place, or use layout mpo"
        )
