"""One weight through factor, solver and codec: the equation of the whole program.

The diagonal leaves first: W' = diag(sqrt o) W diag(sqrt i) is fitted in the correlations that remain, and the
roots are divided out of s_out and s_in, exactly. So a diagonal metric costs nothing, and a full one is well
conditioned. It stays in the metric of a side without a scale.
"""

from dataclasses import dataclass, replace
from functools import reduce
from math import inf, prod

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec, WeightCodec
from liptt_cli.algebra.factors.base import Factor
from liptt_cli.algebra.gains import absorbed, multiplied
from liptt_cli.algebra.metric import Metric, Moment, diagonal, times
from liptt_cli.algebra.scales import balanced, refit, repaired, with_scales
from liptt_cli.algebra.solvers.base import Encoder, Solver
from liptt_cli.algebra.transforms.base import Transform
from liptt_cli.algebra.turn import Turn
from liptt_cli.errors import IntegrityError
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.pieces import compact
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import GridForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import TurnedForm

_Sources = tuple[Tensor, ...]


@dataclass(frozen=True)
class Term:
    """The pieces that fill one part of a form."""

    factor: Factor
    codec: Codec | WeightCodec
    solver: Solver | Encoder


@dataclass(frozen=True)
class LinearPlan:
    """What is done to one weight: the form to fill, and the pieces that fill it.

    With `residual` terms the form is a sum: the pieces above fill its first part, each further term the next one. With
    `transforms` the form is a turned one, and all pieces work on what is inside.
    """

    form: Form
    factor: Factor
    codec: Codec | WeightCodec
    solver: Solver | Encoder
    refit: bool = False
    scale_repair: bool = False
    residual: tuple[Term, ...] = ()
    rounds: int = 1
    unit_sources: bool = True
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True)
class Solved:
    """A settled weight; errors are relative, squared, of the numbers as stored; `iterations` are the solvers' own.

    `damping` is what a solver had to add to the metric's diagonal, as a share of its mean. `sources` are the values
    before rounding, one for each grid of codes in the order of the tree, in the shape of its codes: at unit scale, or
    else as factors of the weight itself, those of a chain of one norm.
    """

    value: Encoded
    sources: _Sources | None
    error: float
    plain_error: float
    iterations: int = 1
    damping: float = 0.0


@dataclass(frozen=True)
class _Filled:
    """A form that was filled, not yet settled."""

    value: Encoded
    sources: _Sources
    iterations: int = 1
    damping: float = 0.0


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
    turn, inner = _turned(dense, plan, metric, generator)
    several = isinstance(inner.form, SumForm) and (inner.residual or not isinstance(inner.codec, WeightCodec))
    fill = _sum if several else _part
    filled = fill(turn.forward(dense), inner, turn.metric(metric, shape=plan.form.shape), generator)
    value = turn.wrap(filled.value).settled()
    difference = dense - value.dense(dense.dtype)
    error, plain = (_relative(difference, dense, each) for each in (metric, Metric()))
    return Solved(value, filled.sources or None, error, plain, filled.iterations, filled.damping)


def _turned(
    weight: Float[Tensor, "out in"], plan: LinearPlan, metric: Metric, generator: torch.Generator
) -> tuple[Turn, LinearPlan]:
    """Return the turn of all transforms, each fitted behind the ones before it, and the plan of what is inside."""
    turn = Turn()
    for transform in plan.transforms:
        inside = turn.metric(metric, shape=plan.form.shape)
        turn = turn.then(transform.fit(turn.forward(weight), metric=inside, generator=generator))
    inner = plan.form.inner if plan.transforms and isinstance(plan.form, TurnedForm) else plan.form
    return turn, replace(plan, form=inner, transforms=())


def _part(weight: Float[Tensor, "out in"], plan: LinearPlan, metric: Metric, generator: torch.Generator) -> _Filled:
    """Fill a form that is no sum."""
    if isinstance(plan.codec, WeightCodec):
        return _whole(weight, plan, plan.codec, metric)
    if not isinstance(plan.solver, Solver):
        raise ValueError(f"{type(plan.solver).__name__} does not fit the cores of a chain")
    roots, whitened = _diagonal_out(plan.form, metric)
    target = times(times(weight, roots[0], axis=0), roots[1], axis=1)
    start = plan.factor.start(target, form=plan.form, generator=generator)
    fitted = plan.solver.solve(target, start=start, codec=plan.codec, metric=whitened)
    chain = refit(fitted.chain, target, whitened) if plan.refit else fitted.chain
    chain = repaired(chain, target, whitened) if plan.scale_repair else chain
    given = fitted.sources if plan.unit_sources else _own_size(fitted.raw or (), roots)
    pairs = zip(given or (), chain.cores, strict=False)
    sources = tuple(source for source, core in pairs if isinstance(core, Grid))
    return _Filled(_in_form(balanced(_undone(chain, roots)), plan.form), sources, fitted.iterations)


def _whole(weight: Float[Tensor, "out in"], plan: LinearPlan, codec: WeightCodec, metric: Metric) -> _Filled:
    """Encode the weight itself, by whatever the codec makes of it."""
    if not isinstance(plan.solver, Encoder):
        raise ValueError(f"{type(plan.solver).__name__} does not encode a weight itself")
    encoded = plan.solver.encode(weight, codec=codec, metric=metric)
    value = compact(encoded.piece)
    return _Filled(value, _weight_sources(value, encoded.values, unit=plan.unit_sources), damping=encoded.damping)


def _weight_sources(value: Encoded, rounded: Float[Tensor, "out in"], *, unit: bool) -> _Sources:
    """Return what a grid's codes were rounded from, that of several planes in the weight's unit; others have none."""
    if not isinstance(value, Grid):
        return ()
    columns, dtype = rounded.shape[1], rounded.dtype
    centred = rounded if value.shift is None else rounded - value.shift.over(columns, dtype)[0]
    if value.scale is None or not unit or len(value.codes) > 1:
        return (centred.unsqueeze(0),)
    scale = value.scale.over(columns, dtype)
    return (centred / torch.where(scale == 0, torch.ones_like(scale), scale),)


def _sum(weight: Float[Tensor, "out in"], plan: LinearPlan, metric: Metric, generator: torch.Generator) -> _Filled:
    """Fit each part to what the others leave over, in `rounds` rounds of which the best is kept.

    Refit is each part's own. Repair comes last and is one gain for the sum, since it is the sum's energy that counts.
    """
    steps = _steps(plan)
    parts: list[Encoded | None] = [None] * len(steps)
    sources: list[_Sources] = [()] * len(steps)
    least, best, best_sources, iterations, damping = inf, Sum(()), sources, 0, 0.0
    for _ in range(plan.rounds):
        for k, step in enumerate(steps):
            others = [part.dense(weight.dtype) for j, part in enumerate(parts) if part is not None and j != k]
            filled = _part(reduce(torch.sub, others, weight), step, metric, generator)
            parts[k], sources[k] = filled.value.settled(), filled.sources
            iterations, damping = iterations + filled.iterations, max(damping, filled.damping)
        value = Sum(tuple(part for part in parts if part is not None))
        error = float(metric.error(weight - value.dense(weight.dtype)).sum())
        if error < least:
            least, best, best_sources = error, value, list(sources)
    value = _repaired_sum(best, weight, metric) if plan.scale_repair else best
    return _Filled(value, tuple(source for each in best_sources for source in each), iterations, damping)


def _steps(plan: LinearPlan) -> list[LinearPlan]:
    """Return one plan for each part of a sum."""
    if not isinstance(plan.form, SumForm) or len(plan.form.parts) != 1 + len(plan.residual):
        raise ValueError(f"{1 + len(plan.residual)} terms do not fill the form {plan.form.to_json()['node']}")
    terms = (Term(plan.factor, plan.codec, plan.solver), *plan.residual)
    return [
        LinearPlan(form, term.factor, term.codec, term.solver, refit=plan.refit, unit_sources=plan.unit_sources)
        for form, term in zip(plan.form.parts, terms, strict=True)
    ]


def _repaired_sum(value: Sum, weight: Float[Tensor, "out in"], metric: Metric) -> Sum:
    energy = float(metric.error(value.dense(weight.dtype)).sum())
    return multiplied(value, (float(metric.error(weight).sum()) / energy) ** 0.5) if energy > 0 else value


def _diagonal_out(form: Form, metric: Metric) -> tuple[tuple[Tensor | None, Tensor | None], Metric]:
    """Return the roots of the diagonals that end scales can take, and what is left of the metric."""
    by_row = by_column = False
    if isinstance(form, ChainForm):
        by_row, by_column = form.free_scales[0], form.free_scales[-1]
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


def _own_size(raw: _Sources, roots: tuple[Tensor | None, Tensor | None]) -> _Sources:
    """Return values before rounding without the metric's diagonal, where an end core has that side, and of one norm."""
    values = list(raw)
    for end, axis, root in ((0, 1, roots[0]), (-1, 2, roots[1])):
        if values and root is not None and values[end].shape[axis] == len(root):
            values[end] = times(values[end], 1 / root, axis=axis)
    norms = [float(value.norm()) for value in values]
    level = prod(norms) ** (1 / max(len(norms), 1))
    return tuple(value * (level / norm) if norm > 0 else value for value, norm in zip(values, norms, strict=True))


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
        return _folded(chain, form)
    if isinstance(core, Dense):
        return Dense(chain.dense(core.values.dtype), core.stored)
    if isinstance(core, Zones):
        return core
    rows, cols = chain.scales
    if core.scale is not None:
        return absorbed(core, rows, cols)
    rows = core.codes.new_ones(1, dtype=torch.float32) if rows is None else rows
    scale = Envelope(rows.reshape(1, 1, -1, 1), None if cols is None else cols.reshape(1, 1, -1), chain.shape[1])
    return Grid(core.codes, scale)


def _folded(chain: Chain, form: ChainForm) -> Chain:
    """Return the chain with the form's scales; the envelope of a core beside them takes the others."""
    if tuple(scale is not None for scale in chain.scales) == form.scales:
        return chain
    cores, last = list(chain.cores), len(chain.cores)
    for k, (scale, there) in enumerate(zip(chain.scales, form.scales, strict=True)):
        core = cores[min(k, last - 1)]
        if scale is None or there or not isinstance(core, Grid):
            continue
        length = prod(chain.in_modes if k == last else chain.out_modes)
        padded = torch.nn.functional.pad(scale, (0, length - len(scale)), value=1.0) if k in (0, last) else scale
        if k == last:
            cores[-1] = absorbed(core, None, torch.kron(padded, scale.new_ones(core.codes.shape[2] // length)))
        else:
            cores[k] = absorbed(core, torch.kron(padded, scale.new_ones(core.codes.shape[1] // len(padded))), None)
    scales = tuple(scale if there else None for scale, there in zip(chain.scales, form.scales, strict=True))
    return replace(chain, cores=tuple(cores), scales=scales)


def _check_finite(weight: Float[Tensor, "out in"], metric: Metric) -> None:
    for name, tensor in (("weight", weight), ("rows of the metric", metric.rows), ("cols of the metric", metric.cols)):
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise IntegrityError(f"{name}: {count} of {tensor.numel()} numbers are not finite")


def _relative(difference: Float[Tensor, "out in"], weight: Float[Tensor, "out in"], metric: Metric) -> float:
    whole = float(metric.error(weight).sum())
    return float(metric.error(difference).sum()) / whole if whole > 0 else 0.0
