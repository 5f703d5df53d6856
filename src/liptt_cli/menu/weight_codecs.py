"""Options of the codecs that encode a weight itself, with factor identity: grids of levels, what is made of them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from liptt_cli.forms.alphabets import Alphabet
from liptt_cli.menu.base import Count, Options, Positive
from liptt_cli.menu.masks import BlockBits, MagnitudeSplit, Mask, NOfM, SalientColumns, TopColumns
from liptt_cli.menu.transforms import Haar

GROUP_COLUMNS = 128
_SMALL = ("sign", "trit")


class Refit(Options):
    """Least-squares scales and shift for fixed codes, then the nearest codes again; never a larger error."""

    iterations: Annotated[Count, Field(description="rounds; it ends where none is better")] = 1
    metric: Annotated[
        Literal["none", "diagonal", "full"], Field(description="errors counted alike, or by the inputs' moment")
    ] = "none"
    codes: Annotated[bool, Field(description="nearest codes behind each round; false: they stay")] = True


class GridCodec(Options):
    """Codes on evenly spaced levels, each plane times its scale, and a shift added."""

    kind: Literal["grid"]
    alphabet: Annotated[Alphabet, Field(description="the levels of a code")] = "sign"
    planes: Annotated[int, Field(ge=1, le=4, description="codes of an entry, each plane with scales of its own")] = 1
    scale: Annotated[
        list[Literal["row", "column", "group", "tensor"]],
        Field(min_length=1, description="one a row, one a row and group of columns, or one in all; and one a column"),
    ] = ["group"]
    shift: Annotated[bool, Field(description="a number added, one for each scale that is not a column's")] = False
    group_columns: Annotated[Count | None, Field(description="columns of a group; null: 128 where scale has group")] = (
        None
    )
    fit: Annotated[
        Literal["absmean", "rms", "minmax", "search", "twn", "split"],
        Field(
            description="scales from the mean magnitude, the root mean square, the range, the best share of the range, "
            "the mean magnitude beyond 0.7 of it, or split: two of small and large entries, in two planes of signs"
        ),
    ] = "absmean"
    search_norm: Annotated[Positive, Field(description="fit: search, power of the errors that are added up")] = 2.4
    search_range: Annotated[
        list[Positive], Field(min_length=2, max_length=2, description="fit: search, shares of the range, from and to")
    ] = [0.2, 1.0]
    search_steps: Annotated[Count, Field(description="fit: search, shares tried, evenly spaced")] = 81
    refit: Annotated[list[Refit], Field(description="improvements of the fit, one after the other")] = []

    @property
    def columns_a_scale(self) -> int | None:
        """Return how many columns of a row share a scale, None if all do."""
        return (self.group_columns or GROUP_COLUMNS) if "group" in self.scale else None

    @property
    def by_row(self) -> bool:
        """Say whether rows differ in scale."""
        return "row" in self.scale or "group" in self.scale

    @model_validator(mode="after")
    def _scales_fit(self) -> Self:
        if len({"row", "group", "tensor"} & set(self.scale)) > 1 or len(set(self.scale)) < len(self.scale):
            raise ValueError(f"scale: {self.scale}: one of row, group and tensor, and column beside it or alone")
        if self.group_columns is not None and "group" not in self.scale:
            raise ValueError("group_columns: only a scale by group has groups of columns")
        if "column" in self.scale and self.fit not in ("absmean", "rms"):
            raise ValueError(f"scale: column is fitted by absmean or rms, not by {self.fit}")
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        means, signed = self.fit in ("absmean", "rms", "twn", "split"), self.alphabet in _SMALL
        split = (self.alphabet, self.planes, self.by_row) == ("sign", 2, True)
        if self.fit == "split" and not split:
            raise ValueError(
                "fit: split is two planes of signs; set alphabet: sign, planes: 2 and scale: [row] or [group]"
            )
        if means and not signed:
            raise ValueError(f"fit: {self.fit} is for signs and trits; {self.alphabet} needs minmax or search")
        if self.fit == "twn" and self.alphabet != "trit":
            raise ValueError(f"fit: twn is for trits, not for {self.alphabet}")
        if self.planes > 1 and not (means if signed else self.alphabet == "bit"):
            raise ValueError(f"planes: several of {self.alphabet} are not fitted by {self.fit}; one plane is")
        upwards = self.alphabet.startswith("uint") or (self.alphabet, self.planes) == ("bit", 1)
        if upwards and not self.shift:
            raise ValueError(f"alphabet: {self.alphabet} has no level below zero; set shift: true, or an int alphabet")
        if self.search_range[0] > self.search_range[1]:
            raise ValueError(f"search_range: {self.search_range} must ascend")
        return self


class ZeroCodec(Options):
    """Zeros: what a zone is that is pruned."""

    kind: Literal["zero"]


class ZonesCodec(Options):
    """Entries of several kinds: a mask says which, and each zone has a codec of its own, which may be zones again."""

    kind: Literal["zones"]
    mask: Mask
    parts: Annotated[dict[str, "ZonePart"], Field(description="the codec of each of the mask's zones, by its name")]

    @property
    def in_order(self) -> tuple["ZonePart", ...]:
        """Return the parts in the order of the zones."""
        return tuple(self.parts[name] for name in self.mask.zones)

    @property
    def divides_by_pivots(self) -> bool:
        """Say whether a score needs what only a sweep over columns computes."""
        return self.mask.score == "obs" or any(
            part.divides_by_pivots for part in self.in_order if isinstance(part, ZonesCodec)
        )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if set(self.parts) != set(self.mask.zones):
            raise ValueError(f"parts: {sorted(self.parts)}; zones of mask {self.mask.kind}: {list(self.mask.zones)}")
        for name, part in self.parts.items():
            inner = part.mask if isinstance(part, ZonesCodec) else None
            if inner is not None and (inner.scope == "weight" or isinstance(inner, NOfM | BlockBits)):
                raise ValueError(
                    f"parts.{name}: mask {inner.kind} with scope {inner.scope} looks at the whole weight; only the "
                    "outermost zones can, those inside have scope: fit"
                )
            if self._judged_by_signs and isinstance(part, GridCodec) and part.alphabet != "sign":
                raise ValueError(f"parts.{name}: mask {self.mask.kind} is judged by signs, not by {part.alphabet}")
        return self

    @property
    def _judged_by_signs(self) -> bool:
        searched = isinstance(self.mask, SalientColumns | MagnitudeSplit)
        return searched or (isinstance(self.mask, BlockBits) and self.mask.judge == "error")


ZonePart = Annotated[GridCodec | ZeroCodec | ZonesCodec, Field(discriminator="kind")]
ZonesCodec.model_rebuild()


class TurnedCodec(Options):
    """A range of columns in other coordinates, encoded there; nothing is stored of the turn."""

    kind: Literal["turned"]
    transform: Annotated[Haar, Field(description="of each block of columns (side: in), or of the rows (side: out)")]
    inner: Annotated[GridCodec | ZonesCodec, Field(discriminator="kind", description="encodes the coefficients")]

    @property
    def turns_inputs(self) -> bool:
        """Say whether columns are mixed."""
        return self.transform.side != "out"

    @property
    def band_columns(self) -> int:
        """Return how many columns of a block are coefficients of the last level, which have scales of their own."""
        return self.transform.block >> self.transform.levels

    @property
    def divides_by_pivots(self) -> bool:
        """Say whether a score inside needs what only a sweep over columns computes."""
        return isinstance(self.inner, ZonesCodec) and self.inner.divides_by_pivots

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if not self.turns_inputs:
            return self
        if self.transform.block % (1 << self.transform.levels):
            block, levels = self.transform.block, self.transform.levels
            raise ValueError(f"transform.block: {block} does not divide into {levels} levels")
        for grid in _grids(self.inner):
            group = grid.columns_a_scale
            if group is None or self.band_columns % group:
                raise ValueError(
                    f"inner: {group or 'all'} columns share a scale, but a band of the wavelet has "
                    f"{self.band_columns}; use scale: [group] and group_columns: {self.band_columns} or a divisor of it"
                )
        if self.divides_by_pivots:
            raise ValueError("inner.mask.score: obs divides by pivots, which columns that are mixed do not have")
        return self


class ResidualCodec(Options):
    """Parts that are added, each fitted to what those before it leave over."""

    kind: Literal["residual"]
    parts: Annotated[
        list[Annotated[GridCodec | ZonesCodec | TurnedCodec, Field(discriminator="kind")]],
        Field(min_length=2, description="in the order in which they are fitted"),
    ]
    mask: Annotated[
        Annotated[SalientColumns | TopColumns, Field(discriminator="kind")] | None,
        Field(description="columns that the parts after the first are for; null: all"),
    ] = None
    fill_columns: Annotated[
        Count | None,
        Field(description="the first part sees these columns as the mean of the others within so many; null: as is"),
    ] = None

    @property
    def divides_by_pivots(self) -> bool:
        """Say whether a score needs what only a sweep over columns computes."""
        inside = [part.divides_by_pivots for part in self.parts if isinstance(part, ZonesCodec | TurnedCodec)]
        return any(inside) or (self.mask is not None and self.mask.score == "obs")

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.fill_columns is not None and self.mask is None:
            raise ValueError("fill_columns: only columns that a mask chooses are filled")
        if self.mask is not None and self.mask.scope == "weight":
            raise ValueError("mask.scope: weight; columns of a residual are chosen in each range, with scope: fit")
        for number, part in enumerate(self.parts[1:], 1):
            if self.mask is not None and isinstance(part, TurnedCodec) and part.turns_inputs:
                raise ValueError(f"parts.{number}: a turn of the inputs mixes the columns that the mask chooses")
        return self


def _grids(codec: GridCodec | ZeroCodec | ZonesCodec) -> tuple[GridCodec, ...]:
    """Return all grids that a codec is made of."""
    if isinstance(codec, ZonesCodec):
        return tuple(grid for part in codec.in_order for grid in _grids(part))
    return (codec,) if isinstance(codec, GridCodec) else ()


WeightOptions = GridCodec | ZeroCodec | ZonesCodec | TurnedCodec | ResidualCodec
