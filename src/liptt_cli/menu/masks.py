"""Options of masks: which zones a weight's entries fall into, by which score, chosen once or anew in each range."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.menu.base import Count, Options, Positive

Norm = Annotated[Literal[1, 2], Field(description="of a column's scores: their sum, or the root of the sum of squares")]
Quantile = Annotated[float, Field(ge=0, le=1)]


class MaskOptions(Options):
    """What all masks have; `names` are those of their zones, in order."""

    names: ClassVar[tuple[str, ...]] = ("rest", "top")
    judges: ClassVar[tuple[str, ...]] = ("error",)

    score: Annotated[
        Literal["magnitude", "obs", "wanda", "relative", "standardised"],
        Field(
            description="|w|; squares over squared pivots; |w| times the inputs' root mean square; shares of row and "
            "column sums, times its root; the same standardised, times all of it"
        ),
    ] = "magnitude"
    scope: Annotated[
        Literal["weight", "fit"], Field(description="chosen once on the whole weight, or in each range that is fitted")
    ] = "fit"

    judge: Annotated[
        Literal["error", "row_error", "output_kl"],
        Field(
            description="of several candidates the one of least squared error, one for each row, or the one whose "
            "outputs diverge least"
        ),
    ] = "error"
    judged_on: Annotated[
        Literal["values", "scores"], Field(description="what signs stand in for while candidates are judged")
    ] = "values"

    @property
    def zones(self) -> tuple[str, ...]:
        """Return the names of the zones."""
        return self.names

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.judge not in self.judges:
            raise ValueError(f"judge: {self.judge}; this mask is judged by {' or '.join(self.judges)}")
        return self


class TopShare(MaskOptions):
    """The entries of largest score, zone `top`."""

    kind: Literal["top_share"]
    share: Annotated[float, Field(gt=0, lt=1, description="of the entries; at least one")]
    by_row: Annotated[bool, Field(description="as many in each row")] = False


class TopColumns(MaskOptions):
    """The whole columns of largest score, zone `top`."""

    kind: Literal["top_columns"]
    share: Annotated[float, Field(gt=0, lt=1, description="of the columns; at least one")]
    norm: Norm = 1


class SalientColumns(MaskOptions):
    """Zone `salient` is as many of the columns of largest score as leave the least error."""

    names: ClassVar[tuple[str, ...]] = ("rest", "salient")

    kind: Literal["salient_columns"]
    most: Annotated[Count, Field(description="columns of a range that may be salient")] = 50
    norm: Norm = 1
    trial_planes: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=4)]],
        Field(
            description="planes of signs that stand in for a zone in the search; as many as it has where it is left out"
        ),
    ] = {}

    @model_validator(mode="after")
    def _of_zones(self) -> Self:
        unknown = sorted(set(self.trial_planes) - set(self.names))
        if unknown:
            raise ValueError(f"trial_planes: {unknown[0]}; the zones are {list(self.names)}")
        return self


class MagnitudeSplit(MaskOptions):
    """Zones `low` and `high`, with a ratio `middle` between them, by the thresholds of least error."""

    judges: ClassVar[tuple[str, ...]] = ("error", "row_error")

    kind: Literal["magnitude_split"]
    grid: Annotated[Count, Field(description="thresholds tried")] = 81
    low: Annotated[Quantile, Field(description="where the grid begins")] = 0.1
    high: Annotated[Quantile, Field(description="where it ends")] = 0.9
    of: Annotated[
        Literal["quantile", "maximum"], Field(description="quantiles of the scores, or shares of the largest one")
    ] = "quantile"
    ratio: Annotated[Positive | None, Field(description="a second threshold, so many times the first; null: none")] = (
        None
    )

    @property
    def zones(self) -> tuple[str, ...]:
        """Return the names of the zones."""
        return ("low", "high") if self.ratio is None else ("low", "middle", "high")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low > self.high or (self.ratio is not None and self.ratio < 1):
            raise ValueError(f"low: {self.low}, high: {self.high}, ratio: {self.ratio}: thresholds must ascend")
        return self


class NOfM(MaskOptions):
    """Zone `kept` is the `keep` entries of largest score of each run of `of` columns of a row, `pruned` the others."""

    names: ClassVar[tuple[str, ...]] = ("pruned", "kept")

    kind: Literal["n_of_m"]
    keep: Annotated[Count, Field(description="entries of a run that stay")]
    of: Annotated[int, Field(ge=2, le=16, description="entries of a run")]
    scope: Literal["weight", "fit"] = "weight"

    @model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.keep >= self.of:
            raise ValueError(f"keep: {self.keep} of {self.of} prunes nothing")
        return self


class BlockBits(MaskOptions):
    """Blocks of columns: as many of least score `lowered` as of largest `raised`, the others `kept`."""

    names: ClassVar[tuple[str, ...]] = ("lowered", "kept", "raised")
    judges: ClassVar[tuple[str, ...]] = ("error", "output_kl")

    kind: Literal["block_bits"]
    columns: Annotated[Count, Field(description="of a block")] = 128
    judge: Literal["error", "row_error", "output_kl"] = "output_kl"
    scope: Literal["weight", "fit"] = "weight"


Mask = Annotated[
    TopShare | TopColumns | SalientColumns | MagnitudeSplit | NOfM | BlockBits, Field(discriminator="kind")
]
