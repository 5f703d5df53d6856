"""A codec in other coordinates: a range of columns is turned, encoded there, and turned back (HBLLM, 2512.00862).

A turn of the inputs mixes the columns of a range, which is therefore rounded as a whole. Its coefficients are encoded
in bands of `band_columns`: one level of the Haar wavelet on runs of 128 columns has 64 of the sums, then 64 of the
differences, and each band gets its own scales. A turn of the outputs mixes rows, and leaves columns to themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import WeightCodec, WeightFit
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.turn import Turn
from liptt_cli.formats.pieces import Piece, Turning, join


@dataclass(frozen=True)
class TurnedFit:
    """What was fitted to the bands of a range; all of them are as wide as the first but perhaps the last."""

    turn: Turn
    bands: Sequence[WeightFit]
    band_columns: int

    def round(self, values: Float[Tensor, "out some"], *, start: int = 0) -> Piece:
        """Return the values rounded in the new coordinates; those of a turned range are all of its columns."""
        turned = self.turn.forward(values)
        pieces = []
        for number, fit in enumerate(self.bands):
            first, last = number * self.band_columns, (number + 1) * self.band_columns
            low, high = max(first, start), min(last, start + values.shape[1])
            if low < high:
                pieces.append(fit.round(turned[:, low - start : high - start], start=low - first))
        return Turning(join(pieces), self.turn.left, self.turn.right)


@dataclass(frozen=True)
class TurnedCodec:
    """An inner codec behind a turn whose steps store nothing; `block_columns` is the run of a turn of the inputs."""

    turn: Turn
    inner: WeightCodec
    block_columns: int | None = None
    band_columns: int | None = None

    @property
    def needs_pivot(self) -> bool:
        """Return what the inner codec needs."""
        return self.inner.needs_pivot

    @property
    def group_columns(self) -> int | None:
        """Return the columns that are turned together, or the inner codec's."""
        return self.block_columns if self.turn.right else self.inner.group_columns

    @property
    def step_columns(self) -> int | None:
        """Return None for whole ranges if columns are mixed, else the inner codec's."""
        return None if self.turn.right else self.inner.step_columns

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "TurnedCodec":
        """Return the codec prepared for the turned weight."""
        return replace(self, inner=self.inner.prepare(self.turn.forward(weight), metric=self._metric(weight, metric)))

    def columns(self, start: int, stop: int) -> "TurnedCodec":
        """Return the codec of a range of whole runs."""
        return replace(self, inner=self.inner.columns(start, stop))

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> TurnedFit:
        """Return the bands' fits; `where` is of the coordinates that are encoded, as whole columns are."""
        turned, known = self.turn.forward(values), self._metric(values, metric)
        columns = values.shape[1]
        width = min(self.band_columns or columns, columns)
        ranges = [(start, min(start + width, columns)) for start in range(0, columns, width)]
        fits = [
            self.inner.columns(start, stop).fit(
                turned[:, start:stop],
                metric=known.columns(start, stop),
                where=None if where is None else where[:, start:stop],
            )
            for start, stop in ranges
        ]
        return TurnedFit(self.turn, fits, width)

    def _metric(self, weight: Float[Tensor, "out some"], metric: Metric) -> Metric:
        """Return the metric in the new coordinates; pivots are those of columns, which a turn of the outputs keeps."""
        rows, columns = weight.shape
        found = self.turn.metric(metric, shape=(rows, columns))
        return found if self.turn.right else replace(found, pivot=metric.pivot)
