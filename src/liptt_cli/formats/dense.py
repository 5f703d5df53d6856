"""Plain numbers as a compressed weight: cores of a float chain, controls, outliers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.forms.leaves import DenseForm
from liptt_cli.forms.leaves import Float as FloatName

_NAMES: dict[torch.dtype, FloatName] = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
}
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class Dense:
    """Values (out, in), stored as `stored` whatever dtype they are held in."""

    values: Float[Tensor, "out in"]
    stored: FloatName

    @property
    def form(self) -> DenseForm:
        """Return what is stored."""
        rows, columns = self.values.shape
        return DenseForm((rows, columns), self.stored)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the values."""
        return self.values.to(dtype)

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ values.T`."""
        return x @ self.values.to(x.dtype).T

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return some rows of the values."""
        return self.values[index].to(dtype)

    def fields(self) -> dict[str, Tensor]:
        """Return the values."""
        return {"values": self.values}

    def settled(self) -> "Dense":
        """Return the values in the dtype that they are stored in."""
        return Dense(self.values.detach().to(DTYPES[self.stored]), self.stored)
