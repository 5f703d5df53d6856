"""Signs and scales of a packed linear, as block formats want them: a scale for each row and run of columns."""

import numpy as np
import torch
from jaxtyping import Float16, UInt8

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.grid import Grid


def codes_of(value: Encoded) -> UInt8[np.ndarray, "rows columns"]:
    """Return 1 for plus and 0 for minus."""
    return np.asarray(_signs(value).codes[0])


def scales_of(value: Encoded, *, columns: int) -> Float16[np.ndarray, "rows runs"]:
    """Return the scale of each row and run of so many columns, inside of which it does not change."""
    grid = _signs(value)
    rows, width = grid.codes.shape[1:]
    starts = torch.arange(0, width, columns)
    if grid.scale is None:
        return np.ones((rows, len(starts)), dtype=np.float16)
    scales = grid.scale.rows[0, 0][:, starts // grid.scale.group_columns]
    return np.ascontiguousarray(scales.expand(rows, -1).numpy())


def _signs(value: Encoded) -> Grid:
    if not isinstance(value, Grid):
        raise TypeError(f"{type(value).__name__} is no matrix of signs")
    return value
