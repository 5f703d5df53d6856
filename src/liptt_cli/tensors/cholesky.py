"""The triangular root of an inverse: what a sweep over columns needs to push errors to the columns that follow.

H^-1 = U^T U with U upper triangular. It is the inverse of the upper R with H = R R^T, which is the Cholesky factor of H
with its axes turned round; so one factorisation and one triangular inverse do. 1 / U_jj^2 is what of input j the inputs
behind it do not tell; where that is rounding noise, the matrix counts as not positive.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.errors import DivergenceError

_FIRST, _GROWTH, _MOST = 1e-3, 10.0, 10.0
_NOISE = 8  # times the dtype's epsilon


def inverse_root(moment: Float[Tensor, "n n"], *, damping: float) -> tuple[Float[Tensor, "n n"], float]:
    """Return U and the share of the mean diagonal that was added to the diagonal, at least `damping`.

    It grows tenfold as long as the matrix is not positive.

    Raises:
        DivergenceError: if ten times the mean is not enough.
    """
    mean = float(moment.diagonal().mean())
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    while damping <= _MOST:
        damped = moment + damping * mean * eye
        lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        alone = lower.diagonal().flip(0).square()
        if not bool(failed) and bool((alone > _NOISE * torch.finfo(moment.dtype).eps * damped.diagonal()).all()):
            return torch.linalg.solve_triangular(lower, eye, upper=False).flip(0, 1), damping
        damping = max(_FIRST, damping * _GROWTH)
    raise DivergenceError(f"the second moment of the inputs is not positive, even with {_MOST:g} times its mean added")
