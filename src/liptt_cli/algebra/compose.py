"""One weight through factor, solver and codec: the equation of the whole program.

The diagonal leaves first: W' = diag(sqrt o) W diag(sqrt i) is fitted in the correlations that remain, and the
roots are divided out of s_out and s_in, exactly. So a diagonal metric costs nothing, and a full one is well
conditioned. It stays in the metric of a side without a scale.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec
from liptt_cli.algebra.factors.base import Factor
from liptt_cli.algebra.metric import Metric, Moment, diagonal, times
from liptt_cli.algebra.scales import balanced, refit, repaired, with_scales
from liptt_cli.algebra.solvers.base import Solver
from liptt_cli.errors import IntegrityError
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import GridForm


@dataclass(frozen=True)
class LinearPlan:
    """What is done to one weight: the form to fill, and the pieces that fill it."""

    form: Form
    factor: Factor
    codec: Codec
    solver: Solver
    refit: bool = False
    scale_repair: bool = False


@dataclass(frozen=True)
class Solved:
    """A settled weight; errors are relative, squared, of the numbers as stored.

    `sources` are the values before rounding at unit scale, one for each core, in the shape of its codes.
    """

    value: Encoded
    sources: tuple[Tensor, ...] | None
    error: float
    plain_error: float


def compress(
    weight: Float[Tensor, "out in"], *, plan: LinearPlan, metric: Metric, generator: torch.Generator
) -> Solved:
    """Return the weight in the plan's form (its ranks may come out lower, if TT-SVD needs no more).

    Raises:
        IntegrityError: if the weight or the metric is not finite.
        DivergenceError: if a fit is not finite.
    """
    dense = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    metric = metric.to(dense.dtype)
    _check_finite(dense, metric)
    roots, whitened = _diagonal_out(plan.form, metric)
    target = times(times(dense, roots[0], axis=0), roots[1], axis=1)
    start = plan.factor.start(target, form=plan.form, generator=generator)
    fitted = plan.solver.solve(target, start=start, codec=plan.codec, metric=whitened)
    chain = refit(fitted.chain, target, whitened) if plan.refit else fitted.chain
    chain = repaired(chain, target, whitened) if plan.scale_repair else chain
    value = _in_form(balanced(_undone(chain, roots)), plan.form).settled()
    difference = dense - value.dense(dense.dtype)
    return Solved(value, fitted.sources, _relative(difference, dense, metric), _relative(difference, dense, Metric()))


def _diagonal_out(form: Form, metric: Metric) -> tuple[tuple[Tensor | None, Tensor | None], Metric]:
    """Return the roots of the diagonals that end scales can take, and what is left of the metric."""
    by_row = by_column = False
    if isinstance(form, ChainForm):
        by_row, by_column = form.scales[0], form.scales[-1]
    elif isinstance(form, GridForm) and form.scale is not None:
        by_row, by_column = form.scale.rows == form.shape[0], form.scale.cols
    roots, rest = zip(
        *(_root_out(moment, there) for moment, there in ((metric.rows, by_row), (metric.cols, by_column))), strict=True
    )
    return (roots[0], roots[1]), Metric(*rest)


def _root_out(moment: Moment | None, there: bool) -> tuple[Tensor | None, Moment | None]:
    if moment is None or not there:
        return None, moment
    spread = diagonal(moment)
    root = torch.where(spread > 0, spread, torch.ones_like(spread)).sqrt()
    if moment.ndim == 1:
        return root, None
    return root, moment / torch.outer(root, root)


def _undone(chain: Chain, roots: tuple[Tensor | None, Tensor | None]) -> Chain:
    scales = list(chain.scales)
    for end, root in ((0, roots[0]), (-1, roots[1])):
        scale = scales[end]
        if scale is not None and root is not None:
            scales[end] = scale / root
    return with_scales(chain, scales)


def _in_form(chain: Chain, form: Form) -> Encoded:
    """Return a chain as what the form asks for: one core is a grid under an envelope, or plain numbers."""
    core = chain.cores[0]
    if isinstance(form, ChainForm):
        return chain
    if isinstance(core, Dense):
        return Dense(chain.dense(core.values.dtype), core.stored)
    rows, cols = chain.scales
    rows = core.codes.new_ones(1, dtype=torch.float32) if rows is None else rows
    scale = Envelope(rows.reshape(1, 1, -1, 1), None if cols is None else cols.reshape(1, 1, -1), chain.shape[1])
    return Grid(core.codes, scale)


def _check_finite(weight: Float[Tensor, "out in"], metric: Metric) -> None:
    for name, tensor in (("weight", weight), ("rows of the metric", metric.rows), ("cols of the metric", metric.cols)):
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise IntegrityError(f"{name}: {count} of {tensor.numel()} numbers are not finite")


def _relative(difference: Float[Tensor, "out in"], weight: Float[Tensor, "out in"], metric: Metric) -> float:
    whole = float(metric.error(weight).sum())
    return float(metric.error(difference).sum()) / whole if whole > 0 else 0.0
