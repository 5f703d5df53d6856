"""What an entry of a weight counts: pure functions of the values and of what calibration saw of their inputs.

    magnitude      |w|
    obs            w^2 / pivot^2: what fixing the entry costs once later columns make up for it   (OBS, as in GPTQ)
    wanda          |w| sqrt(E x^2)                                             (Sun et al., arXiv:2306.11695)
    relative       (|w| / its row's sum + |w| / its column's sum) (E x^2)^(1/4)        (RIA, Zhang et al., ICLR 2024)
    standardised   its first factor less the mean, over its row's deviation, times sqrt(E x^2)
                                                                               (STBLLM, arXiv:2408.01803)

Sums, means and deviations are those of the values in hand: of a whole weight, or of a range of columns.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, diagonal

Score = Callable[[Float[Tensor, "out some"], Metric], Float[Tensor, "out some"]]

_INPUT_POWER = 0.5  # of the inputs' root mean square, in `relative`
_LEAST_DEVIATION = 1e-5  # of the mean relative importance


def magnitude(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, "out some"]:
    """Return the absolute values."""
    return values.abs()


def obs(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, "out some"]:
    """Return squares over the squared pivots.

    Raises:
        ValueError: if the metric has no pivot.
    """
    if metric.pivot is None:
        raise ValueError("the score obs divides by pivots, which a solver that sweeps over columns computes")
    return (values / metric.pivot).square()


def wanda(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, "out some"]:
    """Return absolute values times the inputs' root mean square."""
    return values.abs() * _roots(values, metric)


def relative(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, "out some"]:
    """Return the relative importance times a power of the inputs' root mean square."""
    return _shares(values) * _roots(values, metric).pow(_INPUT_POWER)


def standardised(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, "out some"]:
    """Return the standardised relative importance times the inputs' root mean square."""
    shares = _shares(values)
    spread = shares.std(dim=1, keepdim=True, correction=0) + _LEAST_DEVIATION * shares.mean()
    return (shares - shares.mean()) / spread * _roots(values, metric)


def _shares(values: Float[Tensor, "out some"]) -> Float[Tensor, "out some"]:
    """Return each entry's share of its row's and of its column's absolute sum, added."""
    sizes = values.abs()
    least = torch.finfo(sizes.dtype).tiny
    return sizes / sizes.sum(1, keepdim=True).clamp_min(least) + sizes / sizes.sum(0).clamp_min(least)


def _roots(values: Float[Tensor, "out some"], metric: Metric) -> Float[Tensor, " some"]:
    """Return the root mean square of each input, ones without a metric."""
    return values.new_ones(values.shape[1]) if metric.cols is None else diagonal(metric.cols).sqrt()


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "obs": obs,
    "wanda": wanda,
    "relative": relative,
    "standardised": standardised,
}
