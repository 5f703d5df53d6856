"""On a GPU: the compiled kernels over shapes, groups, dtypes and tokens, in a graph, and in a model that is reloaded.

The interpreter has shown that the lines mean what they should; here it is shown that the compiler agrees.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from drawn import chain_form, seeded, value_of
from liptt_cli.forms.base import Form
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.kernels.dispatch import VARIABLE, exact
from liptt_cli.kernels.program import prepare
from liptt_cli.kernels.triton_layout import lay_out
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.blob import pack
from sign_terms import error, meaning, term

pytestmark = [pytest.mark.triton, pytest.mark.gpu]

CUDA = torch.device("cuda")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SHAPES = [(1, 1), (7, 33), (64, 4096), (129, 1100), (300, 2048), (1024, 1000), (4096, 4096)]
TOKENS = [1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65]
FORMS = {
    "groups of 128": GridForm((512, 1024), scale=EnvelopeForm(512, 128)),
    "rows and columns": GridForm((512, 1024), scale=EnvelopeForm(512, 1024, cols=True)),
    "planes and a shift": GridForm((200, 1024), planes=2, scale=EnvelopeForm(200, 64), shift=EnvelopeForm(200, 1024)),
    "two factors": chain_form((512, 1024), (344,)),
    "two factors of odd rank": chain_form((512, 1024), (13,)),
}


def inputs(tokens: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(tokens, columns, generator=seeded(tokens)).to(dtype)


def packed(form: Form) -> PackedLinear:
    module = PackedLinear(form, bias=False)
    module.weight.copy_(pack(value_of(form)))
    return module


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("group", [None, 128, 64, 32, 100])
def test_products_are_exact(rows: int, columns: int, group: int | None, dtype: torch.dtype) -> None:
    from liptt_cli.kernels import triton_launch

    found = term(rows, columns, group=group)
    launch = lay_out([[(0, found)]]).to(CUDA)
    for tokens in TOKENS:
        x = inputs(tokens, columns, dtype)
        y = triton_launch.multiply(launch, x.to(CUDA), dtype=torch.float32, parts=triton_launch.PARTS[dtype])
        assert error(y.cpu(), meaning(found, x)) < 1e-6, tokens
        again = triton_launch.multiply(launch, x.to(CUDA), dtype=torch.float32, parts=triton_launch.PARTS[dtype])
        assert torch.equal(y, again), tokens


@pytest.mark.parametrize(("rows", "columns"), SHAPES[2:])
@pytest.mark.parametrize("group", [None, 128, 100])
def test_rounded_inputs_cost_a_percent(rows: int, columns: int, group: int | None) -> None:
    from liptt_cli.kernels import triton_launch

    found = term(rows, columns, group=group, cols=True)
    launch = lay_out([[(0, found)]]).to(CUDA)
    for tokens in TOKENS:
        x = inputs(tokens, columns, torch.bfloat16)
        y = triton_launch.multiply_rounded(launch, x.to(CUDA), dtype=torch.float32)
        assert error(y.cpu(), meaning(found, x)) < 2e-2, tokens


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("dtype", "bound"), list(zip(DTYPES, (8e-3, 1e-3, 1e-5), strict=True)))
@pytest.mark.parametrize("tokens", [1, 5, 40, 300])
def test_a_packed_linear(name: str, dtype: torch.dtype, bound: float, tokens: int) -> None:
    module = packed(FORMS[name])
    x = inputs(tokens, 1024, dtype)
    wanted = x.double() @ module.value().dense(torch.float64).T
    with torch.no_grad():
        y = module.to(CUDA)(x.to(CUDA))
    assert module.program() is not None
    assert (y.dtype, y.device.type) == (dtype, "cuda")
    assert error(y.cpu(), wanted) < bound


def test_weights_that_share_an_input_are_one_call() -> None:
    modules = [packed(FORMS[name]).to(CUDA) for name in ("two factors", "groups of 128", "planes and a shift")]
    program = prepare([module.value() for module in modules])
    assert program is not None
    x = inputs(3, 1024, torch.bfloat16).to(CUDA)
    with torch.no_grad():
        for y, module in zip(program(x), modules, strict=True):
            assert error(y.cpu(), module(x).double().cpu()) < 1e-2


def test_the_environment_asks_for_rounded_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    module = packed(FORMS["two factors"]).to(CUDA)
    program: Any = module.program()
    assert program.rounded
    x = inputs(2, 1024, torch.bfloat16)
    with torch.no_grad():
        assert error(module(x.to(CUDA)).cpu(), x.double() @ module.value().dense(torch.float64).cpu().T) < 3e-2


@pytest.mark.parametrize("tokens", [1, 20])
def test_calls_can_be_captured(tokens: int) -> None:
    module = packed(FORMS["two factors"]).to(CUDA)
    x = inputs(tokens, 1024, torch.bfloat16).to(CUDA)
    with torch.no_grad():
        wanted = module(x)
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            module(x)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            y = module(x)
        y.fill_(torch.nan)
        graph.replay()
    assert torch.equal(y, wanted)


def test_the_operator_runs_the_same() -> None:
    module = packed(FORMS["two factors"]).to(CUDA)
    x = inputs(2, 1024, torch.bfloat16).to(CUDA)
    with torch.no_grad():
        wanted = module(x)
        y: Tensor = torch.ops.liptt.sign_products_by_triton(x, *_arguments(module.program()))
    assert torch.equal(y, wanted)


def _arguments(program: Any) -> tuple[list[Tensor], list[int], int, bool]:
    return list(program.tensors), list(program.plan), sum(program.out_features), program.rounded


def test_a_model_is_reloaded_on_the_gpu(packed_llama: Path) -> None:
    tokens = torch.arange(24).reshape(2, 12) * 7 % 320
    with torch.no_grad(), exact():
        wanted = AutoModelForCausalLM.from_pretrained(packed_llama, dtype=torch.float32)(tokens).logits
    model = AutoModelForCausalLM.from_pretrained(packed_llama, dtype=torch.float32, device_map="cuda")
    found = [module for module in model.modules() if isinstance(module, PackedLinear)]
    assert found and all(module.weight.device.type == "cuda" for module in found)
    with torch.no_grad():
        logits = model(tokens.to(CUDA)).logits
    assert any(module.program() is not None for module in found)
    assert error(logits.cpu(), wanted.double()) < 1e-4
