"""The gain of a block in one direction of its input, by finite differences, and the direction where it is largest.

    gain(v) = ||f(h + v) - f(h)|| / ||v||            f the residual branch of a block; norms over a whole window
    v <- J^T J v, made unit, from a random start     J v by finite differences, J^T u by automatic differentiation
    ||v|| = 1e-2 x the median token's norm           small enough to be a derivative, large enough for float32

Forward differences work with every attention kernel, which forward-mode differentiation does not. The median and not
the mean, since a first token may be larger than the others by a factor of hundreds. Windows do not mix in a block, so
that one pass finds the direction of each.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Branch = Callable[[Tensor], Tensor]
_SHARE = 1e-2


def worst_push(
    branch: Branch, at: Float[Tensor, "windows tokens width"], *, steps: int, generator: torch.Generator
) -> Float[Tensor, "windows tokens width"]:
    """Return a small change of the input along which each window's gain is largest, after some power iterations.

    Args:
        branch: differentiable in its input; gradients reach nothing else.
        at: where the gain is taken, in float32 or float64.
        steps: power iterations; each costs one run of the branch and one gradient with respect to its input.
        generator: of the start, which is the same for each window.
    """
    size = _SHARE * torch.linalg.vector_norm(at, dim=2).median(dim=1).values.reshape(-1, 1, 1)
    v = _unit(torch.randn(at.shape[1:], generator=generator).to(at).expand_as(at))
    with torch.enable_grad():
        point = at.detach().requires_grad_()
        value = branch(point)
    for _ in range(steps):
        with torch.no_grad():
            u = _unit(branch(at + size * v) - value)
        (pulled,) = torch.autograd.grad(value, point, u, retain_graph=True)
        v = _unit(pulled)
    push: Tensor = size * v
    return push


def stretch(
    branch: Branch, at: Float[Tensor, "windows tokens width"], push: Float[Tensor, "windows tokens width"]
) -> Float[Tensor, " windows"]:
    """Return each window's ||branch(at + push) - branch(at)|| / ||push||, 0 where nothing is pushed."""
    moved: Tensor = torch.linalg.vector_norm((branch(at + push) - branch(at)).flatten(1), dim=1)
    length: Tensor = torch.linalg.vector_norm(push.flatten(1), dim=1)
    return moved / length.clamp_min(torch.finfo(push.dtype).tiny)


def _unit(direction: Float[Tensor, "windows tokens width"]) -> Float[Tensor, "windows tokens width"]:
    length: Tensor = torch.linalg.vector_norm(direction.flatten(1), dim=1).reshape(-1, 1, 1)
    return direction / length.clamp_min(torch.finfo(direction.dtype).tiny)
