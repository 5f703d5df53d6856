"""A sum of compressed weights of one shape: paths, or a main part and what makes up for its error."""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.forms.sum import SumForm


@dataclass(frozen=True)
class Sum:
    """Two or more parts that are added."""

    parts: tuple[Encoded, ...]

    @property
    def form(self) -> SumForm:
        """Return what is stored."""
        return SumForm(tuple(part.form for part in self.parts))

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the sum of the parts' matrices."""
        return reduce(torch.add, [part.dense(dtype) for part in self.parts])

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return the sum of what the parts make of x."""
        return reduce(torch.add, [part.apply(x) for part in self.parts])

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return the sum of the parts' rows."""
        return reduce(torch.add, [part.rows(index, dtype) for part in self.parts])

    def fields(self) -> dict[str, Tensor]:
        """Return the parts' sections in order."""
        return {f"parts.{k}.{name}": t for k, part in enumerate(self.parts) for name, t in part.fields().items()}

    def settled(self) -> "Sum":
        """Return the parts as they are stored."""
        return Sum(tuple(part.settled() for part in self.parts))
