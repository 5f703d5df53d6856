"""Cross-entropy of the next token, in nats a token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from liptt_cli.algebra.objectives.base import Trace, logits_of


@dataclass(frozen=True)
class LabelNats:
    """Mean of -log p(label) over the labelled positions; the teacher is not asked."""

    weight: float = 1.0
    kind: ClassVar[str] = "label_nats"
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "labels"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the cross-entropy."""
        if student.labels is None:
            raise ValueError("label_nats needs labels, and the student's trace has none")
        return cross_entropy(logits_of(student).flatten(0, 1), student.labels.flatten())
