"""No code at all: what pruned entries are."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.zero import Zero


@dataclass(frozen=True)
class ZeroCodec:
    """Zeros, whatever the values are; it is its own fit."""

    needs_pivot: bool = False
    group_columns: int | None = 1
    step_columns: int | None = 1

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "ZeroCodec":
        """Return itself."""
        return self

    def columns(self, start: int, stop: int) -> "ZeroCodec":
        """Return itself."""
        return self

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> "ZeroCodec":
        """Return itself."""
        return self

    def round(self, values: Float[Tensor, "out some"], *, start: int = 0) -> Zero:
        """Return zeros of the values' shape."""
        rows, columns = values.shape
        return Zero((rows, columns))
