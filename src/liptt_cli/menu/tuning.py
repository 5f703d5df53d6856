"""Options of a training with gradients: of one block's codes, or of all blocks end to end."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Count, NotNegative, Options, Positive, Share

Trained = Literal["codes", "scales", "norms", "weights"]


class LearningRates(Options):
    """Adam's step by group of parameters."""

    codes: Annotated[Positive, Field(description="per step, in units of a latent's mean magnitude")] = 0.03
    scales: Annotated[Positive, Field(description="per step, as a share of the scale vector's mean")] = 3e-3
    norms: Annotated[Positive, Field(description="per step, absolute")] = 3e-4
    weights: Annotated[Positive, Field(description="per step, absolute; of linears that stay dense")] = 3e-4


class LatentOptions(Options):
    """Where trainable codes come from, and how the gradient passes their rounding."""

    kind: Annotated[
        Literal["none", "dense"], Field(description="none: codes stay fixed; dense: one float behind each code")
    ] = "dense"
    source: Annotated[
        Literal["solver", "signs"],
        Field(description="the solver's values before rounding, or the codes' own levels"),
    ] = "solver"
    ste: Annotated[
        Literal["identity", "clip", "tanh"], Field(description="straight-through estimator: the backward of sign")
    ] = "clip"
    ste_slope: Annotated[Positive, Field(description="steepness of tanh")] = 1.0


class LabelNats(Options):
    """Cross-entropy of the next token."""

    kind: Literal["label_nats"]
    weight: NotNegative = 1.0


class TeacherNats(Options):
    """Kullback-Leibler divergence of the student's next-token distribution from the teacher's."""

    kind: Literal["teacher_nats"]
    weight: NotNegative = 1.0
    temperature: Positive = 1.0


class HiddenSquare(Options):
    """Squared error of the block outputs, over the teacher's squared norm if `normalise`."""

    kind: Literal["hidden_square"]
    weight: NotNegative = 1.0
    normalise: bool = True


class Lipschitz(Options):
    """Block-wise Lipschitz retention: the squared log ratio of student's to teacher's gain."""

    kind: Literal["lipschitz"]
    weight: NotNegative
    power_steps: Annotated[Count, Field(description="power iterations on the retention matrix")] = 4
    positions: Annotated[Count, Field(description="token positions that the retention matrix is taken over")] = 512


Objective = Annotated[LabelNats | TeacherNats | HiddenSquare | Lipschitz, Field(discriminator="kind")]


class Tuning(Options):
    """One training. `steps: 0` is none."""

    steps: Annotated[int, Field(ge=0, description="optimiser steps")] = 0
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.steps and not any(objective.weight for objective in self.objectives):
            raise ValueError("objectives: a training needs one with a weight above 0")
        if "codes" in self.train and self.latent.kind == "none" and self.steps:
            raise ValueError('train: "codes" cannot move under latent.kind: none; use latent.kind: dense')
        return self
