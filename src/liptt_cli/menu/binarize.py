"""Options of the binarize stage: the metric of errors, the codec, the solver, further terms, the block's tuning."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from liptt_cli.menu.base import Count, Options
from liptt_cli.menu.decompose import Identity, TensorTrain
from liptt_cli.menu.solvers import ColumnSweep, Direct, Procrustes, Solver
from liptt_cli.menu.transforms import Scale, Transform
from liptt_cli.menu.tuning import Trained, Tuning, refuse_few_blocks
from liptt_cli.menu.weight_codecs import GridCodec, ResidualCodec, TurnedCodec, ZonesCodec

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


Codec = Annotated[
    FloatCodec | BinaryCodec | SparseCodec | GridCodec | ZonesCodec | TurnedCodec | ResidualCodec,
    Field(discriminator="kind"),
]
# those that encode a weight itself, range of columns by range of columns
WEIGHT_CODECS = (GridCodec, ZonesCodec, TurnedCodec, ResidualCodec)


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
        self._whole_weights()
        bond = isinstance(factor, TensorTrain) and (factor.layout, factor.cores, factor.start) == ("split", 2, "svd")
        if isinstance(self.solver, Procrustes) and not bond:
            raise ValueError(
                "solver procrustes rotates the one bond of factor: {kind: tensor_train, start: svd, cores: 2}"
            )

    def _whole_weights(self) -> None:
        """Refuse codecs of a weight itself on anything else, and the sweep for other codecs."""
        kind, whole = self.codec.kind, isinstance(self.codec, WEIGHT_CODECS)
        if whole and not isinstance(self.factor, Identity):
            raise ValueError(f"codec {kind} encodes a weight itself; use it with factor: {{kind: identity}}")
        if whole and not isinstance(self.solver, Direct | ColumnSweep):
            raise ValueError(f"codec {kind} needs solver direct or column_sweep, not {self.solver.kind}")
        if isinstance(self.solver, ColumnSweep) and self.solver.order == "activation" and kind != "grid":
            raise ValueError(f"solver.order: activation goes column by column, which codec {kind} may not; use natural")
        pivots = isinstance(self.codec, ZonesCodec | TurnedCodec | ResidualCodec) and self.codec.divides_by_pivots
        if pivots and isinstance(self.solver, Direct):
            raise ValueError("a mask's score obs divides by pivots, which solver column_sweep alone computes")
        if isinstance(self.solver, ColumnSweep) and not whole:
            raise ValueError(
                f"solver column_sweep needs a codec that encodes a weight itself, such as grid, not {kind}"
            )


class Routed(Options):
    """Scales of each token, mixed by a router (BinaryMoS, arXiv:2406.12311)."""

    experts: Annotated[Count, Field(description="scale vectors of inputs and of outputs that are mixed")] = 4


class Around(Options):
    """What stands around a weight and is no matrix; such a model runs in liptt alone."""

    output_norm: Annotated[
        bool, Field(description="a layer norm without parameters behind each linear (OneBit, arXiv:2402.11295)")
    ] = False
    routed: Annotated[
        Routed | None, Field(description="scales of each token, in the place of those of rows and columns; null: none")
    ] = None
    input_bits: Annotated[
        Literal[0, 4, 8], Field(description="each token's input rounded, its largest magnitude the last level; 0: not")
    ] = 0

    @property
    def there(self) -> bool:
        """Say whether there is anything."""
        return self.output_norm or self.routed is not None or self.input_bits > 0


class CodesTuning(Tuning):
    """Training of what was compressed against the dense block's output."""

    when: Annotated[
        Literal["linear", "block"],
        Field(description="each linear once it is compressed, and its codes are frozen then; or a block's all at once"),
    ] = "block"
    finished_scales: Annotated[
        bool, Field(description="when: linear, the scales of a block's finished linears move on")
    ] = False

    @model_validator(mode="after")
    def _of_one_block(self) -> Self:
        refuse_few_blocks(self)
        return self


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
        refuse_few_blocks(self)
        return self


class Binarize(Options):
    """The binarize stage."""

    inputs: Annotated[
        Literal["prefix", "clean"],
        Field(description="statistics behind the compressed blocks before, or behind the dense ones"),
    ] = "prefix"
    metric: MetricOptions = MetricOptions()
    transforms: Annotated[
        list[Transform], Field(description="coordinates that a weight is encoded in, one after the other")
    ] = []
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
    around: Annotated[Around, Field(description="of each compressed linear, outside of its weight")] = Around()
    rest: Annotated[
        RestTuning, Field(description="training of a block's dense linears against its dense output, before a turn")
    ] = RestTuning()
    codes: Annotated[
        CodesTuning, Field(description="training of compressed linears against the dense block's output")
    ] = CodesTuning()

    @model_validator(mode="after")
    def _sweeps_see_correlations(self) -> Self:
        sweeps = any(isinstance(solver, ColumnSweep) for solver in (self.solver, *(t.solver for t in self.residual)))
        if sweeps and self.metric.cols != "full":
            raise ValueError(
                f"solver column_sweep pushes errors along the inputs' correlations, but metric.cols is "
                f"{self.metric.cols}; use full, or solver: {{kind: direct}}"
            )
        return self

    @model_validator(mode="after")
    def _scales_see_activations(self) -> Self:
        blind = [t for t in self.transforms if isinstance(t, Scale) and t.exponent > 0 and self.metric.cols == "none"]
        if blind:
            raise ValueError(
                "transforms: scale goes by the activations' size, but metric.cols is none; use diagonal or full, or "
                "exponent: 0"
            )
        return self

    @model_validator(mode="after")
    def _experts_take_scales_over(self) -> Self:
        codec = self.codec
        both = isinstance(codec, BinaryCodec) and codec.rank == 1 and set(codec.scale) == {"row", "column"}
        if self.around.routed is not None and (not both or self.residual or self.transforms):
            raise ValueError(
                "around.routed: its experts take over a scale a row and a column; use codec: {kind: binary, scale: "
                "[row, column]}, without residual or transforms"
            )
        return self

    @field_validator("order")
    @classmethod
    def _once(cls, order: Literal["shared"] | list[str]) -> Literal["shared"] | list[str]:
        twice = [role for role in order if order.count(role) > 1] if order != "shared" else []
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        return order
