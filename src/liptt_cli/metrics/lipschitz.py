"""Each block's gain in a student and in its teacher, by the estimator of the Lipschitz objective."""

from collections.abc import Iterable, Mapping
from math import exp

import torch
from torch import Tensor

from liptt_cli.tensors.retention import Passage, Probe

_FLOOR = 1e-30


def block_ratios(
    students: Iterable[Mapping[int, Tensor]],
    teachers: Iterable[Mapping[int, Tensor]],
    *,
    probe: Probe | None = None,
    seed: int = 0,
) -> list[dict[str, int | float]]:
    """Return for each block the geometric mean over windows of both gains, and their ratio.

    Args:
        students: hidden states of batches (windows, tokens, width), by block; -1 is the input of block 0.
        teachers: the same batches through the teacher.
        probe: how to measure.
        seed: of the positions and the start vectors; the same for each block and batch.

    Returns:
        Dicts of `block`, `student_gain`, `teacher_gain`, `ratio`, in the order of the blocks.
    """
    sums: dict[int, Tensor] = {}
    with torch.no_grad():
        for student, teacher in zip(students, teachers, strict=True):
            for b in sorted(b for b in teacher if b >= 0):
                ours, theirs = (Passage(hidden[b - 1], hidden[b]) for hidden in (student, teacher))
                generator = torch.Generator().manual_seed(seed)
                gains = (probe or Probe()).gains(ours, theirs, generator=generator)
                logs = [gain.double().clamp_min(_FLOOR).log().sum().cpu() for gain in gains]
                row = torch.stack([*logs, torch.tensor(float(ours.before.shape[0]), dtype=torch.float64)])
                sums[b] = sums.get(b, torch.zeros(3, dtype=torch.float64)) + row
    return [_row(b, *(sums[b][:2] / sums[b][2]).tolist()) for b in sorted(sums)]


def _row(block: int, student: float, teacher: float) -> dict[str, int | float]:
    return {
        "block": block,
        "student_gain": exp(student),
        "teacher_gain": exp(teacher),
        "ratio": exp(student - teacher),
    }
