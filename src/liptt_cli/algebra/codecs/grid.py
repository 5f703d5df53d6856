"""Codes on evenly spaced levels: W = sum_p scale_p * level(codes_p) + shift, a scale for each row, group or column.

    fit      scales and shift by a rule of `grid_start` (mean magnitude, range, search, ..), then each `refit`
    round    the nearest levels under them; several planes are chosen together

With signs, a shift and groups it is the binary block codec of BiLLM (arXiv:2402.04291, as its code does): the shift is
the mean, the scale the mean magnitude around it; its residual order two is two planes, whose two means are one shift
here, and whose signs are the nearest of the four sums instead of one after the other. With integers it is that of GPTQ
(arXiv:2210.17323), with trits BitNet b1.58's or TWN's. Scales are float16 as soon as they are fitted, so codes are the
nearest under the scales that are stored. A group without entries has scale and shift zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.codecs.grid_fit import GridFit
from liptt_cli.algebra.codecs.grid_start import Groups, Kind, Rule, Search, start_of
from liptt_cli.algebra.codecs.refit import Refit, refitted
from liptt_cli.algebra.metric import Metric
from liptt_cli.forms.alphabets import Alphabet


@dataclass(frozen=True)
class GridCodec:
    """A grid whose scales are shared by `group_columns` columns, by all if None, and by all rows unless `by_row`."""

    alphabet: Alphabet = "sign"
    planes: int = 1
    by_row: bool = True
    by_column: bool = False
    shift: bool = False
    group_columns: int | None = None
    rule: Rule = "absmean"
    search: Search = Search()
    refit: Sequence[Refit] = ()
    needs_pivot: bool = False
    step_columns: int | None = 1

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "GridCodec":
        """Return itself."""
        return self

    def columns(self, start: int, stop: int) -> "GridCodec":
        """Return itself."""
        return self

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> GridFit:
        """Return scales and shift by the rule, refitted as often as asked."""
        there = torch.ones_like(values, dtype=torch.bool) if where is None else where
        width = min(self.group_columns or values.shape[1], values.shape[1])
        groups, kind = Groups(there, width, self.by_row), Kind(self.alphabet, self.planes, self.by_column, self.shift)
        scale, shift = start_of(values, groups, kind=kind, rule=self.rule, search=self.search).envelopes(width)
        fit = GridFit(scale, shift, self.alphabet)
        for each in self.refit:
            fit = refitted(fit, values, there, metric=metric, how=each)
        return fit
