"""Encode each core on its own and stop: rounding after the fact, the baseline of every method that fits."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec, WeightCodec
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.base import EncodedWeight, Fitted, assemble, core_axes
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.pieces import join
from liptt_cli.tensors.chain import as_matrix


@dataclass(frozen=True)
class DirectSolver:
    """One rounding a core; the metric counts where a core is the whole weight."""

    def solve(self, target: Float[Tensor, "out in"], *, start: Chain, codec: Codec, metric: Metric) -> Fitted:
        """Return the start's cores, encoded."""
        count = len(start.cores)
        values = [start.core(k, target.dtype) for k in range(count)]
        own = metric if count == 1 else Metric()
        fits = [codec.fit(as_matrix(core), metric=own, axes=core_axes(start, k)) for k, core in enumerate(values)]
        return assemble(start, fits, values, [target.new_ones(rank) for rank in start.ranks])

    def encode(self, weight: Float[Tensor, "out in"], *, codec: WeightCodec, metric: Metric) -> EncodedWeight:
        """Return a weight rounded: all at once, or fit by fit where a fit is rounded as a whole."""
        codec, columns = codec.prepare(weight, metric=metric), weight.shape[1]
        width = columns if codec.step_columns is not None else codec.group_columns or columns
        pieces = []
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            values = weight[:, start:stop]
            fit = codec.columns(start, stop).fit(values, metric=metric.columns(start, stop))
            pieces.append(fit.round(values))
        return EncodedWeight(join(pieces), weight)
