"""What the tests of forms, values and the algebra draw: weights, grams, forms, and values of any form."""

from dataclasses import replace
from itertools import product
from math import comb, prod

import pytest
import torch
from hypothesis import strategies as st

from liptt_cli.algebra.compose import LinearPlan
from liptt_cli.formats.build import build
from liptt_cli.formats.dense import DTYPES
from liptt_cli.formats.rounding import index_dtype, levels
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import StepForm, TurnedForm
from liptt_cli.forms.zones import LAYOUTS, ZonesForm
from liptt_cli.tensors.modes import chain_modes

# The run-time type checker looks at random items of containers, which hypothesis notices in strategies.
TYPE_CHECKED_DRAWS = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def llm_like(rows, columns, *, seed=0):
    """A power-law spectrum i^-0.55 and a Gaussian bulk of a quarter of its energy, log-normal gains."""
    generator, rank = seeded(seed), min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator))[0]
    weight = left * torch.arange(1, rank + 1).float().pow(-0.55) @ right.T
    weight = weight / weight.norm() + 0.5 * torch.randn(rows, columns, generator=generator) / (rows * columns) ** 0.5
    gains = [torch.exp(0.3 * torch.randn(n, generator=generator)) for n in (rows, columns)]
    return weight * gains[0].unsqueeze(1) * gains[1]


def gram(width, *, seed=0, dtype=torch.float64):
    """The second moment of inputs with a decaying spectrum and log-normal channels."""
    decay = torch.arange(1, width + 1, dtype=torch.float64).pow(-0.5)
    inputs = normal(4 * width, width, seed=seed) @ (normal(width, width, seed=seed + 1) * decay).T
    inputs = inputs * torch.exp(0.5 * normal(width, seed=seed + 2))
    return (inputs.T @ inputs / len(inputs) + 0.01 * torch.eye(width)).to(dtype)


def magnitude_form(shape, ranks, *, layout="split", envelope=2):
    """A chain of sign cores under magnitudes of their own, with end scales where these cannot take them."""
    form = chain_form(shape, ranks, layout=layout)
    cores = tuple(GridForm(c.shape, scale=EnvelopeForm(*c.shape, cols=True, rank=envelope)) for c in form.cores)
    free = replace(form, cores=cores, scales=(False,) * len(form.scales)).free_scales
    return replace(form, cores=cores, scales=(not free[0], *[False] * len(ranks), not free[-1]))


def chain_form(shape, ranks, *, layout="split", bond_scales=True, dtype=None):
    """A chain of sign cores with scales, or of floats of `dtype` without any."""
    modes = chain_modes(shape, layout, cores=len(ranks) + 1)
    return chain_of(shape, modes, ranks, scales=(dtype is None, bond_scales), dtype=dtype)


def chain_of(shape, modes, ranks, *, scales=(True, True), dtype=None):
    """A chain with the (out, in) modes given; `scales` says whether the ends and the inner bonds have them."""
    out_modes, in_modes = modes
    bonds = (1, *ranks, 1)
    sizes = [(bonds[k] * m, n * bonds[k + 1]) for k, (m, n) in enumerate(zip(out_modes, in_modes, strict=True))]
    cores = tuple(GridForm(size) if dtype is None else DenseForm(size, dtype) for size in sizes)
    ends, inner = scales[0], scales[1] and dtype is None
    return ChainForm(shape, out_modes, in_modes, tuple(ranks), cores, (ends, *[inner] * len(ranks), ends))


def sign_form(rows, columns, *, by_row=True, by_column=True):
    return GridForm((rows, columns), scale=EnvelopeForm(rows if by_row else 1, columns, by_column))


def plan_of(form, factor, codec, solver, **more):
    return LinearPlan(form, factor, codec, solver, **more)


def shapes():
    return st.tuples(st.integers(1, 9), st.integers(1, 19))


@st.composite
def leaf_forms(draw, shape=None):
    shape = shape or draw(shapes())
    if draw(st.booleans()):
        return DenseForm(shape, draw(st.sampled_from(["float16", "bfloat16", "float32"])))
    envelopes = st.builds(
        EnvelopeForm,
        st.sampled_from([1, shape[0]]),
        st.integers(1, shape[1]),
        st.booleans(),
        st.integers(1, 2),
    )
    shift = draw(st.none() | envelopes)
    alphabet = draw(st.sampled_from([*["sign"] * 4, "trit", "trit", "bit", "int2", "uint3", "int8"]))
    return GridForm(shape, alphabet, draw(st.integers(1, 2)), draw(st.none() | envelopes), shift)


@st.composite
def chain_forms(draw):
    """Chains of 1 to 4 cores, of both layouts, modes that overshoot the shape, any scales, mixed cores."""
    count = draw(st.integers(1, 4))
    modes = st.lists(st.integers(1, 4), min_size=count, max_size=count)
    out_modes, in_modes = draw(modes), draw(modes)
    if draw(st.booleans()):
        cut = draw(st.integers(0, count))
        out_modes = [m if k < cut else 1 for k, m in enumerate(out_modes)]
        in_modes = [n if k >= cut else 1 for k, n in enumerate(in_modes)]
    bonds = [1, *draw(st.lists(st.integers(1, 4), min_size=count - 1, max_size=count - 1)), 1]
    whole = (prod(out_modes), prod(in_modes))
    shape = (draw(st.integers(max(1, whole[0] - 2), whole[0])), draw(st.integers(max(1, whole[1] - 2), whole[1])))
    cores = tuple(
        GridForm(size) if draw(st.booleans()) else DenseForm(size, "float16")
        for size in ((bonds[k] * out_modes[k], in_modes[k] * bonds[k + 1]) for k in range(count))
    )
    scales = tuple(draw(st.lists(st.booleans(), min_size=count + 1, max_size=count + 1)))
    return ChainForm(shape, tuple(out_modes), tuple(in_modes), tuple(bonds[1:-1]), cores, scales)


@st.composite
def zones_forms(draw, shape=None):
    """Two or three zones of every layout, with parts of every kind; an entry or pattern zone may be zones again."""
    rows, columns = shape or draw(st.tuples(st.integers(1, 9), st.integers(3, 19)))
    shape = (rows, columns)
    part = st.just(ZeroForm(shape)) | leaf_forms(shape)
    layout = draw(st.sampled_from(LAYOUTS))
    if layout == "pattern":
        run = draw(st.sampled_from([run for run in range(2, columns + 1) if columns % run == 0]))
        return _nested(draw, ZonesForm(shape, layout, (draw(st.integers(1, run - 1)),), (draw(part), draw(part)), run))
    more = draw(st.integers(1, 2))
    parts = tuple(draw(part) for _ in range(more + 1))
    if layout == "group":
        run = draw(st.integers(-(-columns // 5), columns))
        zones = draw(st.lists(st.integers(0, more), min_size=-(-columns // run), max_size=-(-columns // run)))
        widths = [min(run, columns - k * run) for k in range(len(zones))]
        sizes = tuple(
            rows * sum(w for w, z in zip(widths, zones, strict=True) if z == zone) for zone in range(more + 1)
        )
        return ZonesForm(shape, layout, (), parts, run, sizes)
    whole = rows * columns if layout == "entry" else columns
    counts = tuple(draw(st.integers(1, whole // 3)) for _ in range(more))
    return _nested(draw, ZonesForm(shape, layout, counts, parts))


def _nested(draw, form):
    """The form, or the same with zones of entries in its last zone."""
    inside = form.entries[-1]
    if inside < 2 or draw(st.booleans()):
        return form
    first = draw(st.integers(0, inside))
    parts = (draw(leaf_forms(form.shape)), draw(st.just(ZeroForm(form.shape)) | leaf_forms(form.shape)))
    inner = ZonesForm(form.shape, "entry", (inside - first,), parts, 1, (first, inside - first))
    return replace(form, parts=(*form.parts[:-1], inner))


@st.composite
def sum_forms(draw):
    """Two or three parts: numbers, grids, zones, a chain of two cores with any magnitude."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(3, 19)))
    rank = draw(st.integers(1, 5))
    scale = draw(st.none() | st.integers(1, 3))
    cores = tuple(
        GridForm(size, scale=EnvelopeForm(*size, cols=True, rank=scale) if scale else None)
        for size in ((shape[0], rank), (rank, shape[1]))
    )
    chain = ChainForm(shape, (shape[0], 1), (1, shape[1]), (rank,), cores, (not scale,) * 3)
    kinds = st.just(chain) | leaf_forms(shape) | zones_forms(shape) | turned_forms(leaf_forms(shape))
    parts = st.lists(kinds, min_size=2, max_size=3)
    return SumForm(tuple(draw(parts)))


@st.composite
def turned_forms(draw, inner):
    """Up to two steps on each side."""
    form = draw(inner)
    left, right = (tuple(draw(st.lists(_steps(channels), max_size=2))) for channels in form.shape)
    return TurnedForm(form, left, right)


@st.composite
def _steps(draw, channels):
    largest = channels & -channels
    kinds = ["signs", "scale", "permutation"] + (["hadamard", "haar"] if largest > 1 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "hadamard":
        return StepForm(kind, draw(st.sampled_from([b for b in (2, 4, 8, 16) if b <= largest])))
    if kind == "haar":
        levels = draw(st.integers(1, largest.bit_length() - 1))
        return StepForm(kind, draw(st.integers(1, 5)) << levels, levels)
    return StepForm(kind)


def forms():
    turned = turned_forms(leaf_forms() | chain_forms() | zones_forms() | sum_forms())
    return leaf_forms() | chain_forms() | zones_forms() | sum_forms() | turned


def value_of(form, *, seed=0):
    """A settled value of the form with random codes and numbers."""
    generator, fields = seeded(seed), {}
    for section in form.sections():
        if section.name.endswith("labels"):
            fields[section.name] = _labels(form, section.name, section, generator)
        elif section.name.endswith("order"):
            order = torch.randperm(section.entries, generator=generator)
            fields[section.name] = order.to(index_dtype(section.bits))
        elif section.bits:
            most = 3 if section.storage == "trit" else 2**section.bits
            fields[section.name] = torch.randint(0, most, section.shape, generator=generator, dtype=torch.uint8)
        else:
            fields[section.name] = torch.randn(section.shape, generator=generator).to(DTYPES[section.storage])
    return build(form, fields)


def _labels(form, name, section, generator):
    """Labels of a zones form, which may be a part of the form: sorted columns, or as many entries as counted."""
    form = _named(form, name)
    if form.layout == "pattern":
        most = comb(form.run, form.counts[0])
        found = torch.randint(0, most, section.shape, generator=generator)
        return found.to(index_dtype(section.bits))
    if form.layout == "group":
        return _group_labels(form)
    if form.layout == "entry":
        zones = torch.cat([torch.full((count,), zone) for zone, count in enumerate(form.entries)])
        return zones[torch.randperm(len(zones), generator=generator)].reshape(section.shape).to(torch.uint8)
    rows = [torch.randperm(form.shape[1], generator=generator)[: section.shape[1]] for _ in range(section.shape[0])]
    sorted_zones = [torch.cat([row[a:b].sort().values for a, b in form.bounds]) for row in rows]
    return torch.stack(sorted_zones).to(index_dtype(section.bits))


def _group_labels(form):
    """Any labels of groups that make the sizes."""
    rows, columns = form.shape
    groups = -(-columns // form.run)
    widths = [rows * min(form.run, columns - k * form.run) for k in range(groups)]
    for zones in product(range(len(form.parts)), repeat=groups):
        sizes = [sum(w for w, z in zip(widths, zones, strict=True) if z == zone) for zone in range(len(form.parts))]
        if tuple(sizes) == form.sizes:
            return torch.tensor([zones], dtype=torch.uint8)
    raise ValueError(form)


def as_levels(form, name, codes):
    """Codes as the float levels that they stand for; `name` is the field's."""
    return levels(codes, alphabet=_named(form, name).alphabet, dtype=torch.float32)


def _named(form, name):
    """The part of a form that a field's name leads to."""
    for step in name.split(".")[:-1]:
        if step == "inner":
            form = form.inner
        elif step.isdigit():
            form = (form.cores if isinstance(form, ChainForm) else form.parts)[int(step)]
    return form
