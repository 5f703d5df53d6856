"""Conjugate gradients with a preconditioner (Hestenes and Stiefel 1952), for tensors of any shape.

A fixed number of steps: as many as the caller can pay, from where it stands.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Values = Float[Tensor, "*axes"]
Map = Callable[[Values], Values]


def conjugate_gradients(apply: Map, right: Values, *, start: Values, precondition: Map, steps: int) -> Values:
    """Return an X nearer to `apply(X) = right` than `start`, for a symmetric positive `apply`; no step if it is one.

    Args:
        apply: the operator.
        right: what it should give.
        start: where to begin.
        precondition: symmetric and positive too, and near the inverse of `apply`.
        steps: how often `apply` is used, beside once for the start.
    """
    found, residual = start, right - apply(start)
    direction = preconditioned = precondition(residual)
    descent = float((residual * preconditioned).sum())
    for _ in range(steps):
        if not descent > 0:
            break
        image = apply(direction)
        length = descent / float((direction * image).sum())
        found, residual = found + length * direction, residual - length * image
        preconditioned = precondition(residual)
        before, descent = descent, float((residual * preconditioned).sum())
        direction = preconditioned + descent / before * direction
    return found
