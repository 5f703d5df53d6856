"""What fitting one linear costs, in multiply-additions, before any weight is read.

Counted are the solver's matrix products and factorisations (`algebra/solvers/admm.py` has its system) and the power
steps of the scales at each rounding; the start and the closing refit are left out. A factorisation of an n x n matrix
counts n^3/3 where one axis is solved by Cholesky, and 9 n^3 for eigenvalues and vectors (Golub and Van Loan 2013,
8.3.3). The inputs' own eigenvectors are shared by linears that see the same inputs; each counts them in full.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from liptt_cli.forms.around import weight_form
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import TurnedForm
from liptt_cli.menu.binarize import BinaryCodec, MetricOptions, Term
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.solvers import Admm
from liptt_cli.planning.evidence import ladders_of, points_of
from liptt_cli.planning.sites import SiteShape

_EIGEN = 9
_CHOLESKY = 1 / 3


def fit_multiplications(config: RunConfig, form: Form) -> int | None:
    """Return the multiply-additions of fitting a form by the recipe's solvers; None where there is no formula.

    There is one for ADMM on chains, unless the metric is whole on a paired layout; other solvers of a form without a
    chain cost next to nothing.
    """
    terms = list(config.terms.values())
    form = weight_form(form)
    inner = form.inner if isinstance(form, TurnedForm) else form
    parts = inner.parts if isinstance(inner, SumForm) and len(terms) > 1 else (inner,)
    costs = [_of_part(part, term, config.binarize.metric) for part, term in zip(parts, terms, strict=True)]
    if any(cost is None for cost in costs):
        return None
    rounds = config.binarize.rounds if len(costs) > 1 else 1
    return rounds * sum(cost for cost in costs if cost is not None)


def evidence_multiplications(config: RunConfig, sites: Sequence[SiteShape]) -> int | None:
    """Return what the short fits of a knapsack's evidence cost; 0 for a split that needs none, None without a formula.

    The rates must be in bits per weight (`plan.with_rates`).
    """
    allocator = config.decompose.allocator
    if not isinstance(allocator, Knapsack):
        return 0
    total = 0
    for shape, count in Counter(site.shape for site in sites).items():
        fits = [_short(config, form) for _, form in points_of(allocator.at_bits, ladders_of(config, shape))]
        total += count * sum(fits)
    return total or None


def training_multiplications(config: RunConfig, parameters: int) -> int:
    """Return what the end-to-end trainings cost: 4 for each parameter and token.

    The student's forward is 1, its backward 2, the teacher's forward 1; attention's own products are left out.
    """
    calibration = config.calibration
    trainings = [each.in_steps(calibration.windows) for each in (config.decompose.heal, config.finetune)]
    windows = sum(each.steps * each.batch_windows * each.accumulate for each in trainings)
    return 4 * parameters * windows * calibration.most_tokens


def _short(config: RunConfig, form: Form) -> int:
    """Return what fitting a form costs in the few iterations of a measurement; 0 without a formula."""
    allocator, solver = config.decompose.allocator, config.binarize.solver
    if not isinstance(allocator, Knapsack) or not isinstance(solver, Admm):
        return 0
    quick = config.binarize.model_copy(
        update={"solver": solver.model_copy(update={"iterations": allocator.iterations})}
    )
    return fit_multiplications(config.model_copy(update={"binarize": quick}), form) or 0


def _of_part(form: Form, term: Term, metric: MetricOptions) -> int | None:
    if not isinstance(form, ChainForm):
        return 0
    if not isinstance(term.solver, Admm):
        return None
    modes = [length for length in form.in_modes if length > 1] or [1]
    if metric.cols == "full" and len(modes) > 1 and term.solver.cg_steps:
        return None
    steps = term.codec.iterations if isinstance(term.codec, BinaryCodec) else 0
    return round(_Sweeps(form, metric.cols == "full", term.solver, steps).total())


@dataclass(frozen=True)
class _Sweeps:
    """The sweeps of ADMM over the cores of one chain; `full`: there is a matrix on each in mode."""

    form: ChainForm
    full: bool
    solver: Admm
    power_steps: int

    def total(self) -> float:
        """Return what all iterations cost, and the eigenvectors of the modes once."""
        cores = range(len(self.form.cores))
        grams = sum(self._gram(k) for k in cores[1:]) + sum(self._gram(k) for k in cores[:-1])
        sweep = grams + self._targets() + sum(self._solved(k, self.solver.inner) for k in cores) + self._loss()
        modes = sum(_EIGEN * n**3 for n in self.form.in_modes if self.full and n > 1)
        return float(self.solver.iterations * sweep + modes)

    def _bonds(self, k: int) -> list[int]:
        """Return the ranks beside a core that are not open ends."""
        return [rank for rank in self.form.bonds[k : k + 2] if rank > 1]

    def _modes(self, k: int) -> list[int]:
        """Return the lengths of a core's modes under a matrix."""
        return [self.form.in_modes[k]] if self.full and self.form.in_modes[k] > 1 else []

    def _entries(self, k: int) -> int:
        return prod(self.form.bonds[k : k + 2]) * self.form.out_modes[k] * self.form.in_modes[k]

    def _gram(self, k: int) -> int:
        """Return a core under the modes' matrices and the gram behind it, times itself."""
        return self._entries(k) * (sum(self._modes(k)) + sum(self._bonds(k)))

    def _targets(self) -> int:
        """Return the target contracted with all cores but one, from the right, and then from the left for the next."""
        bonds, total = self.form.bonds, 0
        sizes = [m * n for m, n in zip(self.form.out_modes, self.form.in_modes, strict=True)]
        for k in range(len(sizes)):
            rest = bonds[k] * prod(sizes[k:])
            for j in range(len(sizes) - 1, k, -1):
                total += rest * bonds[j]
                rest = rest // (sizes[j] * bonds[j + 1]) * bonds[j]
            if k + 1 < len(sizes):
                total += bonds[k] * prod(sizes[k:]) * bonds[k + 1]
        return total

    def _solved(self, k: int, times: int) -> float:
        """Return a core's factorisations (Cholesky for one axis, else eigenvectors), solves and their rounding."""
        axes, entries = [*self._bonds(k), *self._modes(k)], self._entries(k)
        rounding = times * self._rounding(k)
        if len(axes) == 1:
            return rounding + times * (_CHOLESKY * axes[0] ** 3 + entries * axes[0])
        return float(rounding + _EIGEN * sum(rank**3 for rank in self._bonds(k)) + times * 2 * entries * sum(axes))

    def _rounding(self, k: int) -> int:
        lengths = [*self.form.bonds[k : k + 2], self.form.out_modes[k], self.form.in_modes[k]]
        return self.power_steps * sum(length > 1 for length in lengths) * self._entries(k)

    def _loss(self) -> int:
        last = len(self.form.cores) - 1
        return self._entries(last) * (sum(self._bonds(last)) + sum(self._modes(last)))
