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

DBF is `inner` 3, `rho` cubic, 260 iterations: it solves each core three times in a sweep, the second and third
time under the whole penalty. (It starts from unrounded cores without duals, and takes the shorter side first.)
LB-ADMM is `inner` 1, `rho` linear, 400 iterations. Where the metric is no product over the modes, a core is
solved by `cg_steps` of conjugate gradients under the metric itself (`whole_metric`); 0 trusts the product.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec, Fit
from liptt_cli.algebra.environment import absorb_left, absorb_right, weighted_modes
from liptt_cli.algebra.metric import Metric, times
from liptt_cli.algebra.mode_metric import CoreMetric, ModeMetric, mode_metric
from liptt_cli.algebra.solvers.base import Fitted, assemble, core_axes
from liptt_cli.algebra.whole_metric import WholeCoreMetric, whole_metric, whole_modes
from liptt_cli.errors import DivergenceError
from liptt_cli.formats.chain import Chain
from liptt_cli.tensors.chain import Core, as_core, as_matrix, contract, identity_core

_SETTLED = 0.5
_WINDOW = 0.1


@dataclass(frozen=True)
class _Rounded:
    """One core: its rounded value Z, the dual U, what was rounded, and the scales that it was rounded under."""

    core: Core
    dual: Core
    before: Core
    fit: Fit


@dataclass(frozen=True)
class AdmmSolver:
    """`iterations` sweeps over the cores; `ridge` is a share of each system's mean eigenvalue.

    With a `tolerance` it ends where a tenth of the iterations, all at half of the penalty or more, took no more
    than this share off the least error.
    """

    iterations: int = 80
    rho: Literal["linear", "cubic"] = "linear"
    ridge: float = 0.03
    inner: int = 1
    tolerance: float | None = None
    cg_steps: int = 4

    def solve(self, target: Float[Tensor, "out in"], *, start: Chain, codec: Codec, metric: Metric) -> Fitted:
        """Return the best rounded iterate as a chain.

        Raises:
            DivergenceError: if an iterate is not finite.
        """
        sweeps, parts = self._begun(target, start, codec=codec, metric=metric)
        best, best_bonds = parts, [target.new_ones(rank) for rank in start.ranks]
        least = [inf]
        while len(least) <= self.iterations and not self._ended(least, sweeps):
            parts, bonds, loss = sweeps.sweep(parts, penalties=self._penalties(len(least), codec), ridge=self.ridge)
            if not isfinite(loss):
                raise DivergenceError(
                    f"the fit of a {start.shape} weight is not finite after {len(least)} of {self.iterations} "
                    f"iterations; a larger ridge than {self.ridge:g} or more damping may hold it"
                )
            if loss < least[-1]:
                best, best_bonds = parts, bonds
            least.append(min(loss, least[-1]))
        fitted = assemble(start, [part.fit for part in best], [part.before for part in best], best_bonds)
        return replace(fitted, sources=None if codec.exact else fitted.sources, iterations=len(least) - 1)

    def _begun(
        self, target: Float[Tensor, "out in"], start: Chain, *, codec: Codec, metric: Metric
    ) -> tuple["_Sweeps", list[_Rounded]]:
        """Return what all sweeps share, and the start rounded; swept once under a product where there is none."""
        modes = mode_metric(metric, out_modes=start.out_modes, in_modes=start.in_modes)
        bare = whole_modes(target, start, Metric())
        sweeps = _Sweeps(start, codec, modes, weighted_modes(target, start, modes), bare)
        parts = [sweeps.rounded(start.core(k, target.dtype), k) for k in range(len(start.cores))]
        whole = whole_metric(metric, out_modes=start.out_modes, in_modes=start.in_modes) if self.cg_steps else None
        if whole is None:
            return sweeps, parts
        parts, _, _ = sweeps.sweep(parts, penalties=self._penalties(1, codec), ridge=self.ridge)
        return replace(sweeps, weighted=whole_modes(target, start, whole), whole=whole, cg_steps=self.cg_steps), parts

    def _penalties(self, iteration: int, codec: Codec) -> list[float]:
        """Return rho of each solve of a core in an iteration, the first being 1."""
        return [0.0] if codec.exact else [self._penalty(iteration), *[1.0] * (self.inner - 1)]

    def _penalty(self, iteration: int) -> float:
        """Return rho: linear up to the last iteration; DBF's cube is 0 in the first one and 1 in the last three."""
        if self.rho == "linear":
            return iteration / self.iterations
        return min(1.0, (iteration - 1) / max(1, self.iterations - 3)) ** 3

    def _ended(self, least: Sequence[float], sweeps: "_Sweeps") -> bool:
        """Say whether the least losses so far fall no more, late enough to believe it; a loss is less the energy."""
        window = ceil(_WINDOW * self.iterations)
        before = len(least) - 1 - window
        if self.tolerance is None or before < 1:
            return False
        if not sweeps.codec.exact and self._penalty(before) < _SETTLED:
            return False
        return least[before] - least[-1] <= self.tolerance * (least[-1] + sweeps.energy)


@dataclass(frozen=True)
class _Sweeps:
    """What stays the same over all sweeps."""

    start: Chain
    codec: Codec
    modes: ModeMetric
    weighted: Float[Tensor, "*modes"]
    bare: Float[Tensor, "*modes"]
    whole: Metric | None = None
    cg_steps: int = 0

    @property
    def energy(self) -> float:
        """Return the metric error of a zero weight."""
        return float((self.weighted * self.bare).sum())

    def rounded(self, values: Core, k: int) -> _Rounded:
        """Round core k."""
        matrix = as_matrix(values)
        fit = self.codec.fit(matrix, metric=Metric(), axes=core_axes(self.start, k))
        core = as_core(fit.round(matrix).dense(values.dtype), left=values.shape[0], right=values.shape[3])
        return _Rounded(core, values - core, values, fit)

    def sweep(
        self, parts: Sequence[_Rounded], *, penalties: Sequence[float], ridge: float
    ) -> tuple[list[_Rounded], list[Tensor], float]:
        """Update every core, first to last, once for each of the penalties.

        Returns:
            The new parts, the factors at the inner bonds, and the metric error less that of a zero weight.
        """
        parts = list(parts)
        rights, bonds = self._right_grams(parts)
        left, rest = self.weighted.new_ones(1, 1), self.weighted.reshape(1, -1)
        before: list[Tensor] = []
        for k, part in enumerate(parts):
            target = _contract_right(rest, [p.core for p in parts[k + 1 :]], bonds[k:]).reshape(part.core.shape)
            fitted = self.modes.of_core(k, left=left, right=rights[k])
            system = fitted if self.whole is None else self._under_the_whole(fitted, parts, bonds, before=before)
            for rho in penalties:
                part = self.rounded(self._solved(part, target, system, rho=rho, ridge=ridge) + part.dual, k)
            parts[k] = part
            if k + 1 < len(parts):
                gram = self.modes.left_gram(left, parts[k].core, k)
                before.append(bonds[k])
                bonds[k] = self._normaliser(gram, k + 1)
                left = times(times(gram, bonds[k], axis=0), bonds[k], axis=1)
                rest = times(absorb_left(rest, parts[k].core), bonds[k], axis=0)
        last = parts[-1].core
        return parts, bonds, float(((system.apply(last) - 2 * target) * last).sum())

    def _under_the_whole(
        self, fitted: CoreMetric, parts: Sequence[_Rounded], bonds: Sequence[Tensor], *, before: Sequence[Tensor]
    ) -> WholeCoreMetric:
        """Return the system of the core behind the bonds that changed, `before` which they were others.

        It starts from the core that keeps the chain what it is, under the factors that are now at its bonds.
        """
        k = len(before)
        lefts = [times(part.core, bond, axis=3) for part, bond in zip(parts[:k], bonds, strict=False)]
        rights = [times(part.core, bond, axis=0) for part, bond in zip(parts[k + 1 :], bonds[k:], strict=True)]
        end, core = identity_core(1, like=self.weighted), parts[k].core
        if k > 0:
            core = times(core, before[-1] / bonds[k - 1], axis=0)
        elif bonds:
            own = self._normaliser(self.modes.left_gram(end[0, :, :, 0], core, 0), 1)
            core = times(core, own / bonds[0], axis=3)
        sides = contract([end, *lefts]), contract([*rights, end])
        return WholeCoreMetric(sides, self.whole or Metric(), fitted, core, self.cg_steps)

    def _solved(
        self, part: _Rounded, target: Core, system: CoreMetric | WholeCoreMetric, *, rho: float, ridge: float
    ) -> Core:
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
