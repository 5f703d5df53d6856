"""Options of the binarize stage: the metric of errors, the codec, the solver, the block's tuning."""

from typing import Annotated, Literal

from pydantic import Field

from liptt_cli.menu.base import Count, NotNegative, Options
from liptt_cli.menu.tuning import Tuning


class MetricOptions(Options):
    """What an error costs, by what calibration saw of the inputs."""

    cols: Annotated[
        Literal["none", "diagonal", "full"], Field(description="inputs' second moment: ignored, diagonal, whole")
    ] = "none"


class FloatCodec(Options):
    """Numbers as they are."""

    kind: Literal["float"] = "float"
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"


class BinaryCodec(Options):
    """Signs under a rank-one magnitude (SVID: sign(W) times the best rank-one fit of |W|)."""

    kind: Literal["binary"]
    scale: Annotated[
        list[Literal["row", "column", "axes"]],
        Field(min_length=1, description="row, column or both of a weight; axes: bonds and modes of a core"),
    ] = ["row", "column"]
    iterations: Annotated[Count, Field(description="power iterations of the rank-one fit")] = 8


class Direct(Options):
    """Encode each core on its own."""

    kind: Literal["direct"] = "direct"


class Admm(Options):
    """Alternating direction method of multipliers, core by core (arXiv:2505.11076, arXiv:2602.06694)."""

    kind: Literal["admm"]
    iterations: Count = 80
    rho: Annotated[Literal["linear", "cubic"], Field(description="how the penalty grows from 0 to 1")] = "linear"
    ridge: Annotated[NotNegative, Field(description="share of the mean eigenvalue added to each solve")] = 0.03


class Binarize(Options):
    """The binarize stage."""

    inputs: Annotated[
        Literal["prefix", "clean"],
        Field(description="statistics behind the compressed blocks before, or behind the dense ones"),
    ] = "prefix"
    metric: MetricOptions = MetricOptions()
    codec: Annotated[FloatCodec | BinaryCodec, Field(discriminator="kind")] = FloatCodec()
    solver: Annotated[Direct | Admm, Field(discriminator="kind")] = Direct()
    refit: Annotated[bool, Field(description="closed-form scales for the fixed codes, in the metric")] = False
    scale_repair: Annotated[
        bool, Field(description="rescale each linear so that its output keeps the dense one's energy")
    ] = False
    codes: Annotated[Tuning, Field(description="training of each block against the dense block's output")] = Tuning()
