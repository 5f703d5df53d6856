"""The steps of a turn as values: square matrices that are never formed; forms/turned.py lists them.

Each has three directions along the last axis of whatever it is given, T being its matrix:

    inward    T x           what an input of the weight becomes on its way to the inner matrix
    outward   T^T x         what an output of the inner matrix becomes, and a row of it on its way to the weight's row
    undone    T^-T x        outward the other way round: a row of the weight on its way to the inner one
"""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from jaxtyping import Float, Int, UInt8
from torch import Tensor

from liptt_cli.formats.rounding import index_dtype, indices, levels, to_half
from liptt_cli.forms.turned import StepForm
from liptt_cli.tensors.haar import haar, inverse_haar
from liptt_cli.tensors.hadamard import hadamard


@runtime_checkable
class Step(Protocol):
    """One square factor of a turn."""

    @property
    def form(self) -> StepForm:
        """Return what it is."""
        ...

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return T x."""
        ...

    def outward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return T^T x."""
        ...

    def undone(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return T^-T x."""
        ...

    def fields(self) -> dict[str, Tensor]:
        """Return the tensor that is stored, if any."""
        ...

    def settled(self) -> Self:
        """Return the step as it is stored."""
        ...


@dataclass(frozen=True)
class Signs:
    """-1 or +1 for each channel."""

    signs: UInt8[Tensor, " n"]
    form = StepForm("signs")

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the channels, some of them negated."""
        return x * levels(self.signs, alphabet="sign", dtype=x.dtype)

    outward = undone = inward

    def fields(self) -> dict[str, Tensor]:
        """Return the signs as indices."""
        return {"signs": self.signs}

    def settled(self) -> "Signs":
        """Return the signs as indices."""
        return Signs(indices(self.signs, "sign"))


@dataclass(frozen=True)
class Scale:
    """A number other than zero for each channel."""

    scale: Float[Tensor, " n"]
    form = StepForm("scale")

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the channels times their numbers."""
        return x * self.scale.to(x.dtype)

    outward = inward

    def undone(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the channels over their numbers."""
        return x / self.scale.to(x.dtype)

    def fields(self) -> dict[str, Tensor]:
        """Return the numbers."""
        return {"scale": self.scale}

    def settled(self) -> "Scale":
        """Return the numbers in float16."""
        return Scale(to_half(self.scale, "scale of a turn"))


@dataclass(frozen=True)
class Permutation:
    """The channels in another order: `order` has the old number of each."""

    order: Int[Tensor, " n"] | UInt8[Tensor, " n"]
    form = StepForm("permutation")

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the channels in the new order."""
        return x[..., self.order.long()]

    undone = inward

    def outward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the channels in the old order."""
        return x[..., self.order.long().argsort()]

    def fields(self) -> dict[str, Tensor]:
        """Return the order."""
        return {"order": self.order}

    def settled(self) -> "Permutation":
        """Return the order in the dtype of its indices."""
        section = self.form.section(len(self.order))
        return Permutation(self.order.to(index_dtype(section.bits if section else 0)))


@dataclass(frozen=True)
class Hadamard:
    """The Walsh-Hadamard transform of runs of channels."""

    block: int

    @property
    def form(self) -> StepForm:
        """Return what it is."""
        return StepForm("hadamard", self.block)

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the transform."""
        return hadamard(x, block=self.block)

    outward = undone = inward

    def fields(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def settled(self) -> "Hadamard":
        """Return itself."""
        return self


@dataclass(frozen=True)
class Haar:
    """The Haar wavelet of runs of channels."""

    block: int
    levels: int = 1

    @property
    def form(self) -> StepForm:
        """Return what it is."""
        return StepForm("haar", self.block, self.levels)

    def inward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the coefficients."""
        return haar(x, block=self.block, levels=self.levels)

    undone = inward

    def outward(self, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
        """Return the values that have these coefficients."""
        return inverse_haar(x, block=self.block, levels=self.levels)

    def fields(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def settled(self) -> "Haar":
        """Return itself."""
        return self
