"""Two magnitudes for the small and the large entries of a group, which two planes of signs hold (HBLLM, 2512.00862).

A bitmap that marks the large entries, and a sign each under one of two scales a < b, are the four levels +-a and +-b.
So are two planes of signs with the scales (b + a) / 2 and (b - a) / 2, at the same two bits an entry, and without a
shift of its own for each of the halves. The threshold between them is searched on a grid of quantiles, in each row and
group.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_GRID, _LOW, _HIGH = 41, 0.1, 0.9


def split_scales(
    sizes: Float[Tensor, "rows groups width"], inside: Bool[Tensor, "rows groups width"]
) -> Float[Tensor, "2 rows groups"]:
    """Return the scales of the two planes: those of the threshold with the least squared error."""
    ordered = torch.where(inside, sizes, torch.inf).sort(dim=2).values
    finite = torch.where(torch.isfinite(ordered), ordered, 0)
    count = inside.sum(2, keepdim=True)
    places = (torch.linspace(_LOW, _HIGH, _GRID, dtype=sizes.dtype) * (count - 1).clamp_min(0)).round().long()
    sums, squares = finite.cumsum(2), finite.square().cumsum(2)
    low = _mean_and_error(sums.gather(2, places), squares.gather(2, places), (places + 1).clamp_max(count))
    high = _mean_and_error(
        sums[..., -1:] - sums.gather(2, places), squares[..., -1:] - squares.gather(2, places), count - places - 1
    )
    best = (low[1] + high[1]).argmin(2, keepdim=True)
    small, large = (mean.gather(2, best).squeeze(2) for mean, _ in (low, high))
    large = torch.maximum(small, large)  # nothing may be above the threshold
    return torch.stack([large + small, large - small]) / 2


def _mean_and_error(
    total: Float[Tensor, "rows groups grid"], energy: Float[Tensor, "rows groups grid"], count: Tensor
) -> tuple[Float[Tensor, "rows groups grid"], Float[Tensor, "rows groups grid"]]:
    """Return the mean size of some entries, and the squared error of giving it to each of them."""
    mean = total / count.clamp_min(1)
    return mean, energy - total * mean
