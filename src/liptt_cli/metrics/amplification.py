"""What a block of the student does to the error that reaches it, and what it adds of its own.

    f_S(h_S) - f_T(h_T)  =  [f_S(h_S) - f_S(h_T)]  +  [f_S(h_T) - f_T(h_T)]
    error out                passed on: amplification   the block's own error
                             x error in

so what leaves is at most amplification x what came in, plus the own error, and chained over the blocks each own error
is multiplied by all amplifications behind it. Norms are Frobenius over all windows, the residual stream included;
errors are told relative to the teacher's states at that place. All is measured at these inputs: no constant of
self-attention is claimed (Kim et al. 2021, arXiv:2006.04710).

`spectral_norm` is of weights alone. The quotient of a student's and a teacher's bounds what a linear can amplify beyond
the dense one, for any input; a block's product of them bounds a path through all of its linears, not the block: norms,
softmax and gates are outside of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Run = Callable[[int, Tensor], Tensor]
_VECTORS, _ROUNDS = 8, 20


@dataclass(frozen=True)
class Pass:
    """A batch of windows through one model: its hidden states (-1 is the input of block 0), and how to run a block."""

    hidden: Mapping[int, Tensor]
    run: Run


@torch.no_grad()
def block_errors(passes: Iterable[tuple[Pass, Pass]]) -> list[dict[str, int | float | None]]:
    """Return for each block what it makes of errors; amplifications are None where no error comes in.

    Args:
        passes: the same windows through student and teacher.
    """
    sums: dict[int, Tensor] = {}
    for student, teacher in passes:
        for b in sorted(b for b in teacher.hidden if b >= 0):
            row = _squares(b, student, teacher)
            sums[b] = sums[b] + row if b in sums else row
    return [_row(b, *sums[b].sqrt().tolist()) for b in sorted(sums)]


@torch.no_grad()
def spectral_norm(weight: Float[Tensor, "out in"]) -> float:
    """Return the largest singular value, by subspace iteration; below it by less than a hundredth."""
    wide = weight.float()
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(wide.shape[1], min(_VECTORS, *wide.shape), generator=generator).to(wide.device)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(wide.mT @ (wide @ basis)).Q
    return float(torch.linalg.matrix_norm(wide @ basis, ord=2))


def _squares(b: int, student: Pass, teacher: Pass) -> Tensor:
    """Return squared norms of what came in wrong, is passed on, would be by the teacher, is own, left, of states."""
    before, after = teacher.hidden[b - 1], teacher.hidden[b]
    wrong, left = student.hidden[b - 1], student.hidden[b]
    clean = student.run(b, before)
    parts = (wrong - before, left - clean, teacher.run(b, wrong) - after, clean - after, left - after, before, after)
    return torch.stack([part.double().square().sum().cpu() for part in parts])


def _row(block: int, *norms: float) -> dict[str, int | float | None]:
    wrong, passed, by_teacher, own, left, before, after = norms
    return {
        "block": block,
        "error_in": wrong / before,
        "amplification": passed / wrong if wrong else None,
        "teacher_amplification": by_teacher / wrong if wrong else None,
        "own_error": own / after,
        "error_out": left / after,
    }
