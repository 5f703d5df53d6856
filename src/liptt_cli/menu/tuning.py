"""Options of a training with gradients: of one block's codes, or of all blocks end to end."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Count, NotNegative, Options, Positive, Share

Trained = Literal["codes", "scales", "norms", "weights"]


class LearningRates(Options):
    """Adam's step by group of parameters."""

    codes: Annotated[
        Positive, Field(description="per step, in units of a latent's mean magnitude; of low_rank's factors, absolute")
    ] = 0.03
    scales: Annotated[Positive, Field(description="per step, as a share of the scale vector's mean")] = 3e-3
    norms: Annotated[Positive, Field(description="per step, absolute")] = 3e-4
    weights: Annotated[Positive, Field(description="per step, absolute; of linears that stay dense")] = 3e-4


class LatentOptions(Options):
    """Where trainable codes come from, and how the gradient passes their rounding."""

    kind: Annotated[
        Literal["none", "dense", "low_rank", "flips"],
        Field(
            description="none: codes stay fixed; dense: one float behind each code; low_rank: fixed ones, moved by a "
            "product of low rank inside the rounding; flips: signs without floats, of which the worst turn now and then"
        ),
    ] = "dense"
    source: Annotated[
        Literal["solver", "signs"],
        Field(description="the solver's values before rounding, or the codes' own levels"),
    ] = "solver"
    ste: Annotated[
        Literal["identity", "clip", "tanh", "ede"],
        Field(description="straight-through estimator: the backward of sign; ede steepens over the training"),
    ] = "clip"
    ste_slope: Annotated[Positive, Field(description="steepness of tanh")] = 1.0
    scales: Annotated[
        Literal["learned", "closed", "fixed"],
        Field(
            description="learned: by gradients, where train names scales; closed: those of grids follow the mean "
            "magnitude of what they scale, all others stay; fixed: all stay"
        ),
    ] = "learned"
    rank: Annotated[Count, Field(description="of low_rank")] = 32
    alpha: Annotated[Positive, Field(description="of low_rank: alpha / rank is the gain of the product")] = 32.0
    phi: Annotated[
        Literal["float32", "bfloat16", "fixed"],
        Field(description="of low_rank, what the fixed values are kept in; fixed: 8 bits over the range of the levels"),
    ] = "float32"
    unit: Annotated[
        bool,
        Field(
            description="latents in units of their envelope and mean; false: as the factors' own numbers, the cores "
            "balanced"
        ),
    ] = True
    flip_share: Annotated[
        float, Field(gt=0, le=1, description="of flips: share of each core's signs that may turn at once")
    ] = 1e-4
    flip_every: Annotated[Count, Field(description="of flips: steps that gradients are gathered before")] = 50


class LabelNats(Options):
    """Cross-entropy of the next token."""

    kind: Literal["label_nats"]
    weight: NotNegative = 1.0


class TeacherNats(Options):
    """Kullback-Leibler divergence of the student's next-token distribution from the teacher's."""

    kind: Literal["teacher_nats"]
    weight: NotNegative = 1.0
    temperature: Positive = 1.0
    entropy_power: Annotated[
        NotNegative, Field(description="tokens weighed by this power of student's and teacher's mean entropy; 0: alike")
    ] = 0.0


class HiddenSquare(Options):
    """Squared error of the block outputs, over the teacher's squared norm if `normalise`."""

    kind: Literal["hidden_square"]
    weight: NotNegative = 1.0
    normalise: bool = True
    weights: Annotated[
        Literal["none", "fisher"],
        Field(description="of the outputs' entries: all one, or squared gradients; in the tuning of blocks only"),
    ] = "none"


class HiddenCosine(Options):
    """Angle between the block outputs of student and teacher, token by token."""

    kind: Literal["hidden_cosine"]
    weight: NotNegative = 1.0
    form: Annotated[Literal["gap", "log"], Field(description="1 - cos, or -log((1 + cos) / 2)")] = "gap"
    first: Annotated[int, Field(ge=0, description="the first block that counts")] = 0
    drop_last: Annotated[bool, Field(description="the last block's output does not count")] = False


class Lipschitz(Options):
    """Block-wise Lipschitz retention: the squared log ratio of student's to teacher's gain."""

    kind: Literal["lipschitz"]
    weight: NotNegative
    estimator: Annotated[
        Literal["retention", "directional", "error_direction"],
        Field(
            description="of a block's gain: leading value of the retention matrix; along the direction that the "
            "teacher's block amplifies most; along the student's own error"
        ),
    ] = "retention"
    sided: Annotated[
        Literal["two", "one"], Field(description="one: only a gain above the teacher's costs anything")
    ] = "two"
    blocks_each_step: Annotated[
        Count | None, Field(description="blocks drawn a batch; null: all under retention, otherwise one")
    ] = None
    power_steps: Annotated[
        Count | None, Field(description="power iterations; null: 4 under retention, otherwise 1")
    ] = None
    positions: Annotated[Count, Field(description="token positions that the retention matrix is taken over")] = 512


Objective = Annotated[LabelNats | TeacherNats | HiddenSquare | HiddenCosine | Lipschitz, Field(discriminator="kind")]


def weighs_by_gradient(tuning: "Tuning") -> bool:
    """Say whether a training weighs the outputs of blocks by squared gradients."""
    return tuning.trains and any(isinstance(o, HiddenSquare) and o.weights == "fisher" for o in tuning.objectives)


def refuse_few_blocks(tuning: "Tuning") -> None:
    """Refuse objectives that leave blocks out where there is one.

    Raises:
        ValueError: with what would do.
    """
    if any(isinstance(o, HiddenCosine) and (o.first or o.drop_last) for o in tuning.objectives):
        raise ValueError("objectives: hidden_cosine leaves no block here; first and drop_last are for finetune")


class Tuning(Options):
    """One training. `steps: 0` without epochs is none."""

    steps: Annotated[int, Field(ge=0, description="optimiser steps")] = 0
    epochs: Annotated[Count | None, Field(description="instead of steps: passes over the windows")] = None
    windows: Annotated[Count | None, Field(description="calibration windows used; null: all")] = None
    batch_windows: Annotated[Count, Field(description="windows a step and process")] = 4
    accumulate: Annotated[Count, Field(description="batches a step")] = 1
    learning_rate: LearningRates = LearningRates()
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_share: Share = 0.05
    clip_norm: Annotated[Positive | None, Field(description="gradient norm; null: no clipping")] = 1.0
    train: Annotated[list[Trained], Field(description="groups of parameters that move")] = ["codes", "scales"]
    latent: LatentOptions = LatentOptions()
    objectives: list[Objective] = []
    checkpoint_steps: Annotated[Count, Field(description="steps between checkpoints of an end-to-end training")] = 50

    @property
    def trains(self) -> bool:
        """Say whether there is any step."""
        return self.steps > 0 or self.epochs is not None

    @property
    def takes_sources(self) -> bool:
        """Say whether it starts from the solver's values before rounding."""
        floats = "codes" in self.train and self.latent.kind in ("dense", "low_rank")
        return self.trains and floats and self.latent.source == "solver"

    def in_steps(self, windows: int, *, processes: int = 1) -> Self:
        """Return the options with epochs over `windows` windows, or those of `self.windows`, counted in steps."""
        if self.epochs is None:
            return self
        batch = self.batch_windows * self.accumulate * processes
        steps = math.ceil((self.windows or windows) / batch) * self.epochs
        return self.model_copy(update={"steps": steps, "epochs": None})

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.steps and self.epochs is not None:
            raise ValueError(f"steps: {self.steps} and epochs: {self.epochs} say the same; set one of them (steps: 0)")
        if self.trains and not any(objective.weight for objective in self.objectives):
            raise ValueError("objectives: a training needs one with a weight above 0")
        if "codes" in self.train and self.latent.kind == "none" and self.trains:
            raise ValueError('train: "codes" cannot move under latent.kind: none; use latent.kind: dense')
        if self.latent.scales == "closed" and not ("codes" in self.train and self.latent.kind in ("dense", "low_rank")):
            raise ValueError("latent.scales: closed scales follow latents; train codes, under latent.kind: dense")
        return self


class FineTuning(Tuning):
    """The training of the whole model, end to end."""

    gradient_checkpointing: Annotated[
        bool, Field(description="keep only the inputs of blocks for the backward pass, and run each block again there")
    ] = False

    @model_validator(mode="after")
    def _end_to_end(self) -> Self:
        if weighs_by_gradient(self):
            raise ValueError("objectives: weights: fisher is for the tuning of blocks; use weights: none here")
        return self
