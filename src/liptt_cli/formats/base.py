"""The contract of a compressed weight: a tree of tensors that is a linear map.

Law: `apply(x) == x @ dense().T`. Codes are uint8 indices when packed, or float levels with gradients
when trained; both run through the same lines, so that training and the packed model are one computation.
"""

from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.forms.base import Form


@runtime_checkable
class Stored(Protocol):
    """What a blob stands for: one compressed weight W, mostly, or one with something around it (formats/around.py)."""

    @property
    def form(self) -> Form:
        """Return what is stored of it."""
        ...

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return what becomes of x, in the dtype of x: the meaning of every kernel."""
        ...

    def fields(self) -> dict[str, Tensor]:
        """Return one tensor for each section of the form, under its name."""
        ...

    def settled(self) -> Self:
        """Return the stored numbers: codes as uint8 indices, scales rounded to float16.

        Raises:
            IntegrityError: if a scale is not finite in float16.
        """
        ...


@runtime_checkable
class Encoded(Stored, Protocol):
    """One compressed weight W of shape (out, in); `apply` is `x @ dense().T` by the cheap route."""

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix that it stands for."""
        ...

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return `dense()[index]`: what a table of embeddings is asked for."""
        ...
