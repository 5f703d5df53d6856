"""Options of the binarize stage: the metric of errors, the codec, the solver, further terms, the block's tuning."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from liptt_cli.menu.base import Count, NotNegative, Options
from liptt_cli.menu.decompose import Identity, TensorTrain
from liptt_cli.menu.tuning import Trained, Tuning

GROUP_COLUMNS = 128  # as in GGUF's Q1_0


class MetricOptions(Options):
    """What an error costs, by what calibration saw of the inputs."""

    cols: Annotated[
        Literal["none", "diagonal", "full"], Field(description="inputs' second moment: ignored, diagonal, whole")
    ] = "none"
    rows: Annotated[
        Literal["none", "diagonal"], Field(description="outputs' squared gradients: ignored, one weight a row")
    ] = "none"


class FloatCodec(Options):
    """Numbers as they are."""

    kind: Literal["float"] = "float"
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"


class BinaryCodec(Options):
    """Signs under a rank-one magnitude (SVID: sign(W) times the best rank-one fit of |W|)."""

    kind: Literal["binary"]
    scale: Annotated[
        list[Literal["row", "column", "axes", "group"]],
        Field(
            min_length=1,
            description="row, column or both of a weight, or alone group: of columns in a row; axes: bonds and modes "
            "of a core",
        ),
    ] = ["row", "column"]
    group_columns: Annotated[
        Count | None, Field(description="columns that share a scale, where scale is [group]; null: 128 there")
    ] = None
    iterations: Annotated[Count, Field(description="rounds of the fit of the magnitude")] = 8
    rank: Annotated[Count, Field(description="of the magnitude; above 1 it is kept on each core, rows and columns")] = 1

    @model_validator(mode="after")
    def _both_axes(self) -> Self:
        if self.rank > 1 and "axes" not in self.scale and not {"row", "column"} <= set(self.scale):
            raise ValueError(f"rank: a magnitude of rank {self.rank} needs scale: [row, column] or [axes]")
        return self

    @model_validator(mode="after")
    def _groups_alone(self) -> Self:
        if "group" in self.scale and len(self.scale) > 1:
            raise ValueError("scale: group is a scale for each row and group of columns; leave the others out")
        if self.group_columns is not None and "group" not in self.scale:
            raise ValueError("group_columns: only scale: [group] has groups of columns")
        return self

    @property
    def columns_a_scale(self) -> int | None:
        """Return how many columns of a row share a scale, None if there are no groups."""
        return (self.group_columns or GROUP_COLUMNS) if "group" in self.scale else None


Score = Annotated[
    Literal["magnitude", "energy"], Field(description="squares, or squares weighed by the metric's diagonal")
]


class TopColumns(Options):
    """The whole columns of largest score."""

    kind: Literal["top_columns"]
    share: Annotated[float, Field(gt=0, lt=1, description="of the columns; at least one")]
    score: Score = "energy"


class TopShare(Options):
    """The entries of largest score, as many in each row."""

    kind: Literal["top_share"]
    share: Annotated[float, Field(gt=0, lt=1, description="of each row's entries; at least one")]
    score: Score = "energy"


class SparseCodec(Options):
    """A few entries as numbers, zeros elsewhere: outliers beside a chain."""

    kind: Literal["sparse"]
    mask: Annotated[TopColumns | TopShare, Field(discriminator="kind")]
    values: FloatCodec = FloatCodec()


class Direct(Options):
    """Encode each core on its own."""

    kind: Literal["direct"] = "direct"


class Procrustes(Options):
    """Rotate the bond of two cores so that their signs fit, then encode each (Joint-ITQ, arXiv:2603.00042)."""

    kind: Literal["procrustes"]
    iterations: Annotated[Count, Field(description="rounds of signs and rotation")] = 50


class Admm(Options):
    """Alternating direction method of multipliers, core by core (arXiv:2505.11076, arXiv:2602.06694)."""

    kind: Literal["admm"]
    iterations: Count = 80
    rho: Annotated[Literal["linear", "cubic"], Field(description="how the penalty grows from 0 to 1")] = "linear"
    ridge: Annotated[NotNegative, Field(description="share of the mean eigenvalue added to each solve")] = 0.03
    inner: Annotated[Count, Field(description="solves of a core in each sweep, from the second on at rho 1")] = 1
    tolerance: Annotated[
        NotNegative | None,
        Field(description="end where a tenth of the iterations takes at most this share off the error; null: never"),
    ] = None
    cg_steps: Annotated[
        int, Field(ge=0, description="of each solve where the metric is no product over the modes; 0: fit a product")
    ] = 4


Codec = Annotated[FloatCodec | BinaryCodec | SparseCodec, Field(discriminator="kind")]
Solver = Annotated[Direct | Admm | Procrustes, Field(discriminator="kind")]


class Term(Options):
    """One of several parts of a weight that are added."""

    factor: Annotated[Identity | TensorTrain, Field(discriminator="kind")] = Identity()
    codec: Codec = FloatCodec()
    solver: Solver = Direct()

    @property
    def asks(self) -> bool:
        """Say whether its rank is what the dial affords."""
        return isinstance(self.factor, TensorTrain) and self.factor.rank == "auto"

    @model_validator(mode="after")
    def _pieces_fit(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Refuse pieces that do not go together.

        Raises:
            ValueError: with what would go.
        """
        if isinstance(self.codec, SparseCodec) and not isinstance(self.factor, Identity):
            raise ValueError("codec sparse keeps entries of the weight itself; use it with factor: {kind: identity}")
        factor = self.factor
        if isinstance(self.codec, BinaryCodec) and "group" in self.codec.scale and not isinstance(factor, Identity):
            raise ValueError("codec.scale: [group] scales a weight itself; use it with factor: {kind: identity}")
        bond = isinstance(factor, TensorTrain) and (factor.layout, factor.cores, factor.start) == ("split", 2, "svd")
        if isinstance(self.solver, Procrustes) and not bond:
            raise ValueError(
                "solver procrustes rotates the one bond of factor: {kind: tensor_train, start: svd, cores: 2}"
            )


class CodesTuning(Tuning):
    """Training of what was compressed against the dense block's output."""

    when: Annotated[
        Literal["linear", "block"],
        Field(description="each linear once it is compressed, and its codes are frozen then; or a block's all at once"),
    ] = "block"
    finished_scales: Annotated[
        bool, Field(description="when: linear, the scales of a block's finished linears move on")
    ] = False


class RestTuning(Tuning):
    """Training of a block's linears that are still dense, so that they take up the error of the compressed ones."""

    train: Annotated[list[Trained], Field(description="groups of parameters that move: weights, norms")] = ["weights"]
    before: Annotated[
        Literal["all"] | list[str],
        Field(description="before every turn of the order, or those of linears of these roles"),
    ] = "all"

    @model_validator(mode="after")
    def _dense_only(self) -> Self:
        wrong = [group for group in self.train if group not in ("weights", "norms")]
        if wrong:
            raise ValueError(f"train: {wrong[0]} are not dense; the rest has weights and norms")
        return self


class Binarize(Options):
    """The binarize stage."""

    inputs: Annotated[
        Literal["prefix", "clean"],
        Field(description="statistics behind the compressed blocks before, or behind the dense ones"),
    ] = "prefix"
    metric: MetricOptions = MetricOptions()
    codec: Codec = FloatCodec()
    solver: Solver = Direct()
    residual: Annotated[
        list[Term], Field(description="further terms, each fitted to what those before it leave over, and added")
    ] = []
    rounds: Annotated[Count, Field(description="rounds over all terms, each against the others; the best is kept")] = 1
    refit: Annotated[bool, Field(description="closed-form scales for the fixed codes, in the metric")] = False
    scale_repair: Annotated[
        bool, Field(description="rescale each linear so that its output keeps the dense one's energy")
    ] = False
    order: Annotated[
        Literal["shared"] | list[str],
        Field(description="linears that share an input together, in call order; or one by one, role by role"),
    ] = "shared"
    rest: Annotated[
        RestTuning, Field(description="training of a block's dense linears against its dense output, before a turn")
    ] = RestTuning()
    codes: Annotated[
        CodesTuning, Field(description="training of compressed linears against the dense block's output")
    ] = CodesTuning()

    @field_validator("order")
    @classmethod
    def _once(cls, order: Literal["shared"] | list[str]) -> Literal["shared"] | list[str]:
        twice = [role for role in order if order.count(role) > 1] if order != "shared" else []
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        return order
