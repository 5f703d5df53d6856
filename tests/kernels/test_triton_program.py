"""Weights on a CUDA device: whatever form fits, alone or with others that share the input, means what torch means."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor

from drawn import TYPE_CHECKED_DRAWS, chain_form, forms, seeded, sign_form, value_of
from liptt_cli.formats.base import Encoded
from liptt_cli.forms.base import Form
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.kernels.fits import misfit
from liptt_cli.kernels.terms import lower
from sign_terms import error

pytestmark = pytest.mark.triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GROUPED = GridForm((24, 96), scale=EnvelopeForm(24, 32))
SHIFTED = GridForm((20, 96), scale=EnvelopeForm(20, 40), shift=EnvelopeForm(20, 96))
SETS = {
    "one grid": [GROUPED],
    "a grid with a shift": [SHIFTED],
    "grids": [GROUPED, sign_form(140, 96, by_column=False), sign_form(8, 96)],
    "two planes of rank two": [GridForm((16, 96), planes=2, scale=EnvelopeForm(16, 96, cols=True, rank=2))],
    "chains": [chain_form((40, 96), (13,)), chain_form((24, 96), (16,))],
    "chains and grids": [chain_form((40, 96), (16,)), GROUPED, SHIFTED],
}


def program_of(values: Sequence[Encoded]) -> Any:
    """The program of values that share one input; on the CPU, for the interpreter."""
    from liptt_cli.kernels import triton_program

    lowered = [lower(value) for value in values]
    columns = tuple((number, zones) for number, weight in enumerate(lowered) for zones in weight.columns)
    return triton_program.write_program(lowered, tuple(value.form.shape[0] for value in values), columns)


def values_of(form_set: Sequence[Form]) -> list[Encoded]:
    return [value_of(form, seed=seed) for seed, form in enumerate(form_set)]


def meaning(values: Sequence[Encoded], x: Tensor) -> Tensor:
    return torch.cat([x.double() @ value.dense(torch.float64).T for value in values], dim=-1)


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=seeded()).to(dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "bound"),
    [
        *((name, torch.bfloat16, 8e-3) for name in SETS),
        *((name, torch.float32, 1e-6) for name in ("grids", "chains")),
        ("chains and grids", torch.float16, 1e-3),
    ],
)
def test_weights_that_share_an_input(name: str, dtype: torch.dtype, bound: float) -> None:
    values, x = values_of(SETS[name]), inputs(3, 96, dtype=dtype)
    outputs = program_of(values)(x)
    assert [tuple(y.shape) for y in outputs] == [(3, value.form.shape[0]) for value in values]
    assert {y.dtype for y in outputs} == {dtype}
    assert error(torch.cat(outputs, dim=-1), meaning(values, x)) < bound


@pytest.mark.slow
@TYPE_CHECKED_DRAWS
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(form=forms())
def test_every_form_that_fits(form: Form) -> None:
    assume(misfit(form) is None)
    value, x = value_of(form), inputs(2, form.shape[1])
    lowered = lower(value)
    assume(lowered.direct or lowered.pairs)
    wanted = meaning([value], x)
    size = x.double().norm(dim=1, keepdim=True) * value.dense(torch.float64).norm()
    assert bool(((program_of([value])(x)[0].double() - wanted).abs() <= 1e-5 * size + 1e-6).all())


@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("name", ["one grid", "chains and grids"])
def test_rounded_inputs(name: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from liptt_cli.kernels import dispatch

    monkeypatch.setattr(dispatch, "_choose_for", lambda device, wanted: dispatch.Route(dispatch.TRITON_FAST, wanted))
    values, x = values_of(SETS[name]), inputs(tokens, 96)
    program = program_of(values)
    assert program.rounded
    assert 1e-5 < error(torch.cat(program(x), dim=-1), meaning(values, x)) < 3e-2


def test_tokens_may_be_many_none_or_in_a_batch() -> None:
    values = values_of(SETS["chains and grids"])
    program = program_of(values)
    many, few = inputs(257, 96), inputs(2, 1, 96)
    assert error(torch.cat(program(many), dim=-1), meaning(values, many)) < 1e-6
    assert error(torch.cat(program(few), dim=-1), meaning(values, few)) < 1e-6
    spread = inputs(1, 192)[:, ::2]
    assert error(torch.cat(program(spread), dim=-1), meaning(values, spread)) < 1e-6
    assert [tuple(y.shape) for y in program(inputs(0, 96))] == [(0, 40), (0, 24), (0, 20)]


def test_doubles_are_multiplied_by_torch() -> None:
    values, x = values_of(SETS["chains"]), inputs(2, 96, dtype=torch.float64)
    assert error(torch.cat(program_of(values)(x), dim=-1), meaning(values, x)) < 1e-14


_COMPILED = """
import interpreted
import torch
from kernels.test_triton_program import SETS, inputs, program_of, values_of

program, x = program_of(values_of(SETS["chains and grids"])), inputs(2, 96)
compiled = torch.compile(lambda x: program(2 * x), fullgraph=True, backend="aot_eager")
assert all(map(torch.equal, compiled(x), program(2 * x)))
"""


def test_it_is_one_operator_under_compile() -> None:
    paths = os.pathsep.join(str(Path(__file__).parents[up] / name) for up, name in ((2, "src"), (1, ".")))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    # In a process of its own: the run-time type checks of these tests cannot be traced.
    command = [sys.executable, "-c", _COMPILED]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_operator_is_registered_as_it_should() -> None:
    program = program_of(values_of(SETS["chains"]))
    arguments = (inputs(1, 2, 96, dtype=torch.bfloat16), list(program.tensors), list(program.plan), 64, False)
    torch.library.opcheck(torch.ops.liptt.sign_products_by_triton, arguments)


def test_the_operator_s_arguments_are_the_whole_program() -> None:
    from liptt_cli.kernels.triton_program import unflatten

    program = program_of(values_of(SETS["chains and grids"]))
    found = unflatten(program.tensors, program.plan)
    assert found.places == program.whole.places
    for launch, wanted in zip(found.launches, program.whole.launches, strict=True):
        for name, part in vars(wanted).items():
            assert torch.equal(getattr(launch, name), part) if isinstance(part, Tensor) else part == vars(launch)[name]
