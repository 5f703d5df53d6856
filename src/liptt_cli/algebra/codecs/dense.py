"""Numbers as they are, stored in a float type: the codec of float chains and of controls."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Axes
from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.dense import Dense
from liptt_cli.forms.leaves import Float as FloatName


@dataclass(frozen=True)
class DenseFit:
    """Nothing fitted: the scales are ones."""

    dtype: FloatName
    vectors: tuple[Tensor, Tensor, Tensor, Tensor]

    @property
    def magnitude(self) -> Tensor:
        """Return ones."""
        left, out, into, right = self.vectors
        return torch.kron(left, out).unsqueeze(1) * torch.kron(into, right)

    def round(self, values: Float[Tensor, "a b"]) -> Dense:
        """Return the values; settling rounds them to the stored type."""
        return Dense(values, self.dtype)

    def bare(self, values: Float[Tensor, "a b"]) -> Dense:
        """Return the values."""
        return Dense(values, self.dtype)


@dataclass(frozen=True)
class DenseCodec:
    """Floats of one type."""

    dtype: FloatName = "float16"
    exact: bool = True

    def fit(self, values: Float[Tensor, "a b"], *, metric: Metric, axes: Axes | None = None) -> DenseFit:
        """Return scales of ones; there is nothing to fit, whatever the metric."""
        left, out, into, right = axes.lengths if axes else (1, *values.shape, 1)
        ones = values.new_ones
        return DenseFit(self.dtype, (ones(left), ones(out), ones(into), ones(right)))
