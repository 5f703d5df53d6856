"""Options of the decompose stage: how a weight is factored, and how the bits are shared out."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Count, Options


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


class Decompose(Options):
    """The decompose stage."""

    factor: Annotated[Identity | TensorTrain, Field(discriminator="kind")] = Identity()
    allocator: Uniform = Uniform()
