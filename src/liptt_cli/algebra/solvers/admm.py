"""Codes fitted to a weight by the alternating direction method of multipliers, core by core.

For each core in turn, all others fixed and normalised (DBF, Boza and Macko 2025, arXiv:2505.11076; LB-ADMM,
Chong et al. 2026, arXiv:2602.06694; any number of cores and any metric here, `mode_metric` has the system):

    X = (metric + (rho + ridge) mean)^-1 (target + rho mean (Z - U))      mean: of the metric's eigenvalues
    Z = round(X + U);   U = X + U - Z                                     rho grows from 0 to 1

Bonds are scaled so that both sides of the core in hand have unit columns in the metric. So a core always
carries the size of the whole weight, and the chain must be read with these factors at its bonds. The best
rounded iterate is kept, with the value that was rounded. As in DBF the next core sees the new Z (LB-ADMM's
code updates both from the old ones, which measured 1 % worse). With an exact codec there is no penalty: the
method is then alternating least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec, Fit
from liptt_cli.algebra.environment import absorb_left, absorb_right, weighted_modes
from liptt_cli.algebra.metric import Metric, times
from liptt_cli.algebra.mode_metric import CoreMetric, ModeMetric, mode_metric
from liptt_cli.algebra.solvers.base import Fitted, assemble, core_axes
from liptt_cli.errors import DivergenceError
from liptt_cli.formats.chain import Chain
from liptt_cli.tensors.chain import Core, as_core, as_matrix

_POWER = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class _Rounded:
    """One core: its rounded value Z, the dual U, what was rounded, and the scales that it was rounded under."""

    core: Core
    dual: Core
    before: Core
    fit: Fit


@dataclass(frozen=True)
class AdmmSolver:
    """`iterations` sweeps over the cores; `ridge` is a share of each system's mean eigenvalue."""

    iterations: int = 80
    rho: Literal["linear", "cubic"] = "linear"
    ridge: float = 0.03

    def solve(self, target: Float[Tensor, "out in"], *, start: Chain, codec: Codec, metric: Metric) -> Fitted:
        """Return the best rounded iterate as a chain.

        Raises:
            DivergenceError: if an iterate is not finite.
        """
        modes = mode_metric(metric, out_modes=start.out_modes, in_modes=start.in_modes)
        sweeps = _Sweeps(start, codec, modes, weighted_modes(target, start, modes))
        parts = [sweeps.rounded(start.core(k, target.dtype), k) for k in range(len(start.cores))]
        least, best, best_bonds = inf, parts, [target.new_ones(rank) for rank in start.ranks]
        for iteration in range(1, self.iterations + 1):
            rho = 0.0 if codec.exact else (iteration / self.iterations) ** _POWER[self.rho]
            parts, bonds, loss = sweeps.sweep(parts, rho=rho, ridge=self.ridge)
            if not isfinite(loss):
                raise DivergenceError(
                    f"the fit of a {start.shape} weight is not finite after {iteration} of {self.iterations} "
                    f"iterations; a larger ridge than {self.ridge:g} or more damping may hold it"
                )
            if loss < least:
                least, best, best_bonds = loss, parts, bonds
        fitted = assemble(start, [part.fit for part in best], [part.before for part in best], best_bonds)
        return Fitted(fitted.chain, None) if codec.exact else fitted


@dataclass(frozen=True)
class _Sweeps:
    """What stays the same over all sweeps."""

    start: Chain
    codec: Codec
    modes: ModeMetric
    weighted: Float[Tensor, "*modes"]

    def rounded(self, values: Core, k: int) -> _Rounded:
        """Round core k."""
        matrix = as_matrix(values)
        fit = self.codec.fit(matrix, metric=Metric(), axes=core_axes(self.start, k))
        core = as_core(fit.round(matrix).dense(values.dtype), left=values.shape[0], right=values.shape[3])
        return _Rounded(core, values - core, values, fit)

    def sweep(
        self, parts: Sequence[_Rounded], *, rho: float, ridge: float
    ) -> tuple[list[_Rounded], list[Tensor], float]:
        """Update every core once, first to last.

        Returns:
            The new parts, the factors at the inner bonds, and the metric error less that of a zero weight.
        """
        parts = list(parts)
        rights, bonds = self._right_grams(parts)
        left, rest = self.weighted.new_ones(1, 1), self.weighted.reshape(1, -1)
        for k, part in enumerate(parts):
            target = _contract_right(rest, [p.core for p in parts[k + 1 :]], bonds[k:]).reshape(part.core.shape)
            system = self.modes.of_core(k, left=left, right=rights[k])
            parts[k] = self.rounded(self._solved(part, target, system, rho=rho, ridge=ridge) + part.dual, k)
            if k + 1 < len(parts):
                gram = self.modes.left_gram(left, parts[k].core, k)
                bonds[k] = self._normaliser(gram, k + 1)
                left = times(times(gram, bonds[k], axis=0), bonds[k], axis=1)
                rest = times(absorb_left(rest, parts[k].core), bonds[k], axis=0)
        last = parts[-1].core
        return parts, bonds, float(((system.apply(last) - 2 * target) * last).sum())

    def _solved(self, part: _Rounded, target: Core, system: CoreMetric, *, rho: float, ridge: float) -> Core:
        """Solve for one core; beside a dead neighbour, whose gram is 0, any positive mean will do."""
        mean = system.mean or 1.0
        least = 100 * torch.finfo(target.dtype).eps
        right = target + rho * mean * (part.core - part.dual)
        return system.solve(right, shift=max(rho + ridge, least) * mean)

    def _right_grams(self, parts: Sequence[_Rounded]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gram to the right of each core, in units that make its diagonal 1, and these units."""
        gram = self.weighted.new_ones(1, 1)
        grams, bonds = [gram], []
        for k in range(len(parts) - 1, 0, -1):
            gram = self.modes.right_gram(gram, parts[k].core, k)
            bond = self._normaliser(gram, k)
            gram = times(times(gram, bond, axis=0), bond, axis=1)
            grams.append(gram)
            bonds.append(bond)
        return grams[::-1], bonds[::-1]

    def _normaliser(self, gram: Float[Tensor, "bond bond"], k: int) -> Float[Tensor, " bond"]:
        """Return the factors that give bond k unit columns, or one factor for all if it has no scale."""
        squares = gram.diagonal()
        if self.start.scales[k] is None:
            squares = squares.mean().expand_as(squares)
        return torch.where(squares > 0, squares.rsqrt(), torch.ones_like(squares))


def _contract_right(rest: Tensor, cores: Sequence[Core], bonds: Sequence[Tensor]) -> Tensor:
    """Contract cores and the bonds before them into what is left of the target, from its end."""
    for core, bond in zip(reversed(cores), reversed(bonds), strict=True):
        rest = times(absorb_right(rest, core), bond, axis=1)
    return rest
