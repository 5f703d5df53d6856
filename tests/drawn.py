"""What the tests of forms, values and the algebra draw: weights, grams, forms, and values of any form."""

from math import prod

import pytest
import torch
from hypothesis import strategies as st

from liptt_cli.algebra.compose import LinearPlan
from liptt_cli.formats.build import build
from liptt_cli.formats.dense import DTYPES
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
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


@st.composite
def leaf_forms(draw):
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 19)))
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
    return GridForm(shape, "sign", draw(st.integers(1, 2)), draw(st.none() | envelopes), shift)


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


def forms():
    return leaf_forms() | chain_forms()


def value_of(form, *, seed=0):
    """A settled value of the form with random codes and numbers."""
    generator, fields = seeded(seed), {}
    for section in form.sections():
        if section.storage == "index":
            fields[section.name] = torch.randint(
                0, 2**section.bits, section.shape, generator=generator, dtype=torch.uint8
            )
        else:
            fields[section.name] = torch.randn(section.shape, generator=generator).to(DTYPES[section.storage])
    return build(form, fields)
