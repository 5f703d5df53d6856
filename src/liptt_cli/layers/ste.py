"""Straight-through estimators: a rounding in the forward pass, a chosen slope in the backward pass.

    sign   forward 1[L >= 0] - 1[L < 0];  backward, for a gradient g and a latent L of unit mean magnitude:
           identity  g
           clip      g where |L| <= 1, or where the step leads inwards (g L > 0); else 0
           tanh      g a (1 - tanh(a L)^2), a the slope
           ede       g k t (1 - tanh(t L)^2), t = 10^(2 p - 1) at progress p in 0..1, k = max(1 / t, 1)
    nearest_levels  forward: the levels, times their planes' scales nearest to the values;  backward, for the gradients
           g_p of the planes' levels under scales s_p: sum_p g_p s_p / sum_p s_p^2, that of the sum as if it were the
           values themselves (identity); clip keeps it back beyond the outermost levels, but for inward steps
    store  forward: through the dtype of the file and back;  backward g

Bengio et al. 2013, arXiv:1308.3432; ede: IR-Net, Qin et al. 2020, arXiv:1909.10788; LittleBit's SmoothSign
(arXiv:2506.13771) is tanh with a = 100. The textbook's clip (Courbariaux et al. 2016, arXiv:1602.02830) also stops the
inward steps. With latents of unit mean magnitude about half of them lie outside [-1, 1], and would never move again.
"""

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.rounding import levels, nearest_planes
from liptt_cli.forms.alphabets import ALPHABETS, Alphabet

Kind = Literal["identity", "clip", "tanh", "ede"]


def sign(latent: Float[Tensor, "*shape"], *, kind: Kind, slope: float = 1.0) -> Float[Tensor, "*shape"]:
    """Return -1 or +1 (zero goes to +1) with the gradient of `kind`; `slope` is a or t."""
    return cast(Tensor, _Sign.apply(latent, kind, slope))  # type: ignore[no-untyped-call]  # torch leaves apply untyped


def nearest_levels(
    values: Float[Tensor, "a b"], scales: Float[Tensor, "planes _a _b"], *, alphabet: Alphabet, kind: Kind
) -> Float[Tensor, "planes a b"]:
    """Return the levels of the planes that add up nearest to the values, with the gradient of `kind`.

    Args:
        values: what is rounded.
        scales: of the planes; they get no gradient, the levels are as fixed for them.
        alphabet: which levels there are.
        kind: identity or clip.
    """
    return cast(Tensor, _Nearest.apply(values, scales, alphabet, kind))  # type: ignore[no-untyped-call]  # as above


def ede_slope(progress: float) -> float:
    """Return the slope t of `ede`: from 0.1 to 10, its logarithm a straight line."""
    return float(10 ** (2 * progress - 1))


def store(values: Float[Tensor, "*shape"], dtype: torch.dtype = torch.float16) -> Float[Tensor, "*shape"]:
    """Return what a file of `dtype` would hold of the values, in their own dtype: a copy, with identity's gradient."""
    return cast(Tensor, _Store.apply(values, dtype))  # type: ignore[no-untyped-call]  # torch leaves apply untyped


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, kind: Kind, slope: float) -> Tensor:
        ctx.save_for_backward(latent)
        ctx.kind, ctx.slope = kind, slope
        one = torch.ones((), dtype=latent.dtype, device=latent.device)
        return torch.where(latent >= 0, one, -one)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (latent,) = gradients, ctx.saved_tensors
        if ctx.kind == "clip":
            gradient = gradient.masked_fill((latent.abs() > 1) & (gradient * latent <= 0), 0)
        elif ctx.kind == "tanh":
            gradient = gradient * (1 - torch.tanh(ctx.slope * latent).square()) * ctx.slope
        elif ctx.kind == "ede":
            height = max(ctx.slope, 1.0)  # k t
            gradient = gradient * (1 - torch.tanh(ctx.slope * latent).square()) * height
        return gradient, None, None


class _Nearest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scales: Tensor, alphabet: Alphabet, kind: Kind) -> Tensor:
        ctx.save_for_backward(scales, *([values] if kind == "clip" else []))
        ctx.alphabet = alphabet
        return levels(nearest_planes(values, scales, alphabet), alphabet=alphabet, dtype=values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        scales, *rest = ctx.saved_tensors
        energy = scales.square().sum(0)
        gradient = (gradients[0] * scales).sum(0) / torch.where(energy > 0, energy, 1.0)
        for values in rest:
            known = ALPHABETS[ctx.alphabet]
            ends = scales * known.first, scales * known.last
            lowest, highest = torch.minimum(*ends).sum(0), torch.maximum(*ends).sum(0)
            outwards = ((values > highest) & (gradient <= 0)) | ((values < lowest) & (gradient >= 0))
            gradient = gradient.masked_fill(outwards, 0)
        return gradient, None, None, None


class _Store(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor, dtype: torch.dtype) -> Tensor:
        return values.to(dtype, copy=True).to(values.dtype)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
