"""A compressed weight times numbers: one for all of it, or one for each row and column, taken by what it stores."""

from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.turned import Turned
from liptt_cli.formats.zones import Zones

_Value = TypeVar("_Value", bound=Encoded)


def multiplied(value: _Value, gain: float) -> _Value:
    """Return a value times a number: a chain's first scale takes it, or its first core if it has none.

    Raises:
        ValueError: if the value is codes without any scale.
    """
    found: Encoded = value
    if isinstance(value, Chain):
        found = _chain(value, gain)
    elif isinstance(value, Sum):
        found = Sum(tuple(multiplied(part, gain) for part in value.parts))
    elif isinstance(value, Zones):
        found = replace(value, parts=tuple(multiplied(part, gain) for part in value.parts))
    elif isinstance(value, Turned):
        found = replace(value, inner=multiplied(value.inner, gain))
    elif isinstance(value, Dense):
        found = replace(value, values=value.values * gain)
    elif isinstance(value, Grid):
        if value.scale is None:
            raise ValueError("codes without any scale cannot take a gain")
        shift = None if value.shift is None else replace(value.shift, rows=value.shift.rows * gain)
        found = replace(value, scale=replace(value.scale, rows=value.scale.rows * gain), shift=shift)
    return found  # type: ignore[return-value]  # `replace` keeps the type


def absorbed(core: Grid, rows: Float[Tensor, " a"] | None, cols: Float[Tensor, " b"] | None) -> Grid:
    """Return codes under their envelope times a vector over rows and one over columns.

    Of an envelope over both, the halves come out of equal size.
    """
    if core.scale is not None and core.scale.cols is None and cols is None:
        return core if rows is None else replace(core, scale=_by_rows(core.scale, rows))
    if core.scale is None or core.scale.cols is None:
        raise ValueError("only an envelope over rows and columns can take vectors over them")
    left, right = core.scale.rows, core.scale.cols
    left = left if rows is None else left * rows.reshape(1, 1, -1, 1)
    right = right if cols is None else right * cols
    sizes = left.abs().mean((2, 3), keepdim=True), right.abs().mean(2, keepdim=True)
    there = (sizes[0].squeeze(3) > 0) & (sizes[1] > 0)
    share = torch.where(there, (sizes[1] / sizes[0].squeeze(3)).sqrt(), torch.ones_like(sizes[1]))
    return replace(core, scale=Envelope(left * share.unsqueeze(3), right / share, core.scale.group_columns))


def _by_rows(scale: Envelope, rows: Float[Tensor, " a"]) -> Envelope:
    return Envelope(scale.rows * rows.reshape(1, 1, -1, 1), None, scale.group_columns)


def _chain(chain: Chain, gain: float) -> Chain:
    for k, scale in enumerate(chain.scales):
        if scale is not None:
            return replace(chain, scales=(*chain.scales[:k], scale * gain, *chain.scales[k + 1 :]))
    return replace(chain, cores=(multiplied(chain.cores[0], gain), *chain.cores[1:]))
