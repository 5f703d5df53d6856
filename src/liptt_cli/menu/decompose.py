"""Options of the decompose stage: how a weight is factored, and how the bits are shared out."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from liptt_cli.menu.base import Count, Options, Positive
from liptt_cli.menu.tuning import Trained, Tuning


class Identity(Options):
    """One core: the weight itself."""

    kind: Literal["identity"] = "identity"


class Modes(Options):
    """Modes named by hand, one a core; their products are at least the shape."""

    out: Annotated[list[Count], Field(description="out mode of each core")]
    into: Annotated[list[Count], Field(description="in mode of each core")]


class TensorTrain(Options):
    """A chain of cores (Oseledets 2011; paired modes: Novikov et al. 2015)."""

    kind: Literal["tensor_train"]
    start: Annotated[
        Literal["svd", "random"], Field(description="cores by TT-SVD, or seeded normal ones for a solver to fit")
    ] = "svd"
    layout: Annotated[
        Literal["split", "mpo"], Field(description="out modes before in modes, or the two paired in each core")
    ] = "split"
    cores: Annotated[int, Field(ge=2, le=6, description="number of cores")] = 2
    modes: Annotated[
        Literal["balanced"] | Modes, Field(description="balanced factors of each dimension, or lists by core")
    ] = "balanced"
    rank: Annotated[
        Literal["auto"] | Count, Field(description="largest inner rank; auto: what bits_per_weight affords")
    ] = "auto"
    bond_scales: Annotated[bool, Field(description="a scale on each inner bond; the ends always have theirs")] = True

    @model_validator(mode="after")
    def _one_mode_a_core(self) -> Self:
        if isinstance(self.modes, Modes) and {len(self.modes.out), len(self.modes.into)} != {self.cores}:
            raise ValueError(f"modes.out and modes.into each need {self.cores} entries, one a core")
        return self


class Uniform(Options):
    """The same bits per weight for every linear, the remainder going to the first that can use it."""

    kind: Literal["uniform"] = "uniform"


class Knapsack(Options):
    """One form a linear by measured error curves: the least summed cost within the budget, exactly (HiGHS)."""

    kind: Literal["knapsack"]
    at_bits: Annotated[
        list[Positive], Field(min_length=2, description="bits per weight at which each linear is fitted, ascending")
    ] = [0.3, 0.55, 0.8, 1.1]
    at_unit: Annotated[
        Literal["bits", "dial"], Field(description="of at_bits: bits per weight, or times what the dial affords")
    ] = "bits"
    iterations: Annotated[Count, Field(description="of the solver, in these short fits")] = 30
    weight_by: Annotated[
        Literal["none", "output", "gradient", "divergence"],
        Field(description="what makes errors comparable: nothing, energy, squared gradients, or the loss itself"),
    ] = "none"
    windows: Annotated[Count, Field(description="calibration windows that weight_by: divergence measures on")] = 6
    tie: Annotated[
        Literal["none", "shared"], Field(description="shared: one form for linears of one input and one shape")
    ] = "none"
    candidates: Annotated[
        list[TensorTrain], Field(description="factors to choose from beside decompose.factor, each with its own curves")
    ] = []

    @field_validator("at_bits")
    @classmethod
    def _ascending(cls, at_bits: list[float]) -> list[float]:
        if any(low >= high for low, high in pairwise(at_bits)):
            raise ValueError(f"{at_bits} must ascend")
        return at_bits


class Healing(Tuning):
    """A training of float cores."""

    train: Annotated[list[Trained], Field(description="weights alone: float cores")] = ["weights"]

    @model_validator(mode="after")
    def _cores_only(self) -> Self:
        if self.trains and self.train != ["weights"]:
            raise ValueError(f"train: {self.train} is not [weights], and nothing but float cores is kept of a healing")
        return self


class Decompose(Options):
    """The decompose stage."""

    factor: Annotated[Identity | TensorTrain, Field(discriminator="kind")] = Identity()
    allocator: Annotated[Uniform | Knapsack, Field(discriminator="kind")] = Uniform()
    heal: Annotated[
        Healing,
        Field(description="training of float trains of the dial's ranks, end to end, before they are binarised"),
    ] = Healing()

    @model_validator(mode="after")
    def _heals_trains(self) -> Self:
        if self.heal.trains and not isinstance(self.factor, TensorTrain):
            raise ValueError("heal: there are float cores to train in a tensor_train only; set heal.steps: 0")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        for candidate in self.allocator.candidates if isinstance(self.allocator, Knapsack) else ():
            if not isinstance(self.factor, TensorTrain) or candidate.start != self.factor.start:
                start = self.factor.start if isinstance(self.factor, TensorTrain) else "no chain at all"
                raise ValueError(f"allocator.candidates start from {candidate.start}, but factor from {start}")
        return self
