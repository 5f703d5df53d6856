"""A scale for each input channel, so that weights of channels with large activations are rounded finely.

    W x = (W diag(s)) (x / s),      s_j = (E x_j^2)^(a/2) / mean|w_j|^b,      geometric mean 1

The error of a rounding spreads evenly over a group of weights; dividing by s afterwards makes it small where
activations are large. With b = 0 it is AWQ's (Lin et al. 2023, arXiv:2306.00978, which searches a), with b = 1 - a
SmoothQuant's (Xiao et al. 2022, arXiv:2211.10438, by the largest instead of the mean). Nothing is folded into the layer
before: 1 / s is stored, 16 bits an input.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, diagonal
from liptt_cli.algebra.turn import Turn
from liptt_cli.formats.rounding import to_half
from liptt_cli.formats.steps import Scale

_WIDEST = 2.0**12  # of a scale and of its inverse: float16 holds both


@dataclass(frozen=True)
class ScaleTransform:
    """Powers `exponent` of the activations' root mean square and `weight_exponent` of the weights' mean magnitude."""

    exponent: float = 0.5
    weight_exponent: float = 0.0

    def fit(self, weight: Float[Tensor, "out in"], *, metric: Metric, generator: torch.Generator) -> Turn:
        """Return one over the scales, in float16; a channel without activations or weights counts as the mean one."""
        sizes = weight.abs().mean(0)
        squares = torch.ones_like(sizes) if metric.cols is None else diagonal(metric.cols).to(sizes)
        logs = self.exponent * _centred(squares.sqrt()) - self.weight_exponent * _centred(sizes)
        inverse = (-logs).exp().clamp(1 / _WIDEST, _WIDEST)
        return Turn(right=(Scale(to_half(inverse, "scale of a turn").to(weight.dtype)),))


def _centred(sizes: Float[Tensor, " in"]) -> Float[Tensor, " in"]:
    """Return logarithms of mean zero, zero where there is nothing."""
    there = sizes > 0
    logs = torch.where(there, sizes, 1.0).log()
    mean = logs.sum() / there.sum().clamp_min(1)
    return torch.where(there, logs - mean, 0.0)
