"""Nothing as a compressed weight: what a zone without numbers holds."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.forms.leaves import ZeroForm


@dataclass(frozen=True)
class Zero:
    """All zeros."""

    shape: tuple[int, int]

    @property
    def form(self) -> ZeroForm:
        """Return what is stored: its shape alone."""
        return ZeroForm(self.shape)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return zeros, on the default device."""
        return torch.zeros(self.shape, dtype=dtype)

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return zeros."""
        return x.new_zeros(*x.shape[:-1], self.shape[0])

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return zeros."""
        return torch.zeros(*index.shape, self.shape[1], dtype=dtype, device=index.device)

    def fields(self) -> dict[str, Tensor]:
        """Return no tensor."""
        return {}

    def settled(self) -> "Zero":
        """Return itself."""
        return self
