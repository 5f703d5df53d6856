"""A packed linear: the torch meaning of a blob, a leaf that never trains, and gradients for its input."""

import copy

import accelerate
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.kernels.dispatch import TORCH, chosen, exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.blob import pack


def grid(rows: int, columns: int) -> Grid:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    codes = torch.randint(0, 2, (1, rows, columns), dtype=torch.uint8, generator=generator)
    scale = Envelope(
        torch.rand(1, 1, rows, 1, generator=generator), torch.rand(1, 1, columns, generator=generator), columns
    )
    return Grid(codes, scale).settled()


def chain(rows: int, columns: int, rank: int) -> Chain:
    generator = torch.Generator().manual_seed(rank)
    shapes = ((rows, rank), (rank, columns))
    cores = tuple(Grid(torch.randint(0, 2, (1, *shape), dtype=torch.uint8, generator=generator)) for shape in shapes)
    scales = tuple(torch.rand(length, generator=generator) for length in (rows, rank, columns))
    return Chain(cores, scales, (rows, columns), (rows, 1), (1, columns)).settled()


def filled(value: Grid | Chain, bias: Tensor | None = None) -> PackedLinear:
    module = PackedLinear(value.form, bias=bias is not None)
    module.weight.copy_(pack(value))
    if module.bias is not None and bias is not None:
        module.bias.copy_(bias)
    return module


@given(rows=st.integers(1, 20), columns=st.integers(1, 20))
def test_it_computes_what_its_value_computes(rows: int, columns: int) -> None:
    value, x = grid(rows, columns), torch.ones(3, 2, columns)
    assert torch.equal(filled(value)(x), value.apply(x))


def test_the_bias_is_added() -> None:
    value, bias, x = chain(12, 9, rank=5), torch.arange(12.0), torch.ones(2, 9)
    assert torch.equal(filled(value, bias)(x), value.apply(x) + bias)


def test_gradients_reach_the_input_and_nothing_else() -> None:
    value = chain(12, 9, rank=5)
    module, x = filled(value, torch.zeros(12)), torch.ones(1, 9, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], value.dense().sum(0))
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_it_is_a_leaf_that_holds_its_tensors() -> None:
    module = filled(grid(4, 8), torch.zeros(4))
    assert not list(module.children()) and not list(module.buffers())
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"]
    assert (module.in_features, module.out_features) == (8, 4)


def test_a_cast_moves_the_bias_and_leaves_the_blob() -> None:
    module = filled(grid(4, 8), torch.ones(4)).to(torch.bfloat16)
    assert module.weight.dtype == torch.uint8
    assert module(torch.ones(1, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_it_is_built_on_meta_without_memory() -> None:
    form = grid(64, 64).form
    with torch.device("meta"):
        module = PackedLinear(form, bias=True)
    assert module.weight.is_meta and module.weight.numel() == 64 * 8 + 2 * 128


def test_the_plain_linear_means_the_same() -> None:
    module, x = filled(chain(12, 9, rank=5), torch.arange(12.0)), torch.rand(4, 9)
    linear = module.to_linear(torch.float32)
    assert isinstance(linear, nn.Linear) and linear.weight.shape == (12, 9)
    torch.testing.assert_close(linear(x), module(x))


def test_without_gradients_the_kernel_runs_and_means_the_same() -> None:
    for value in (grid(70, 200), chain(70, 200, rank=40)):
        module, x = filled(value, torch.arange(70.0)), torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
        exactly = module(x)
        with torch.no_grad():
            by_kernel = module(x)
            with exact():
                assert torch.equal(module(x), exactly)
        assert (by_kernel - exactly).norm() <= 3e-3 * (exactly - module.bias).norm()
        assert (module.program() is None) == (chosen().name == TORCH)


def test_the_layout_of_the_kernel_is_made_once_and_anew_when_the_weight_changes() -> None:
    module, other = filled(grid(40, 64)), filled(grid(40, 64))
    first = module.program()
    assert module.program() is first
    assert list(module.state_dict()) == ["weight"]
    other.weight.bitwise_not_()
    module.load_state_dict(other.state_dict())
    if first is not None:
        assert module.program() is not first
        x = torch.ones(1, 64)
        torch.testing.assert_close(module.program()(x)[0], module.value().apply(x), rtol=1e-2, atol=1e-2)


def test_a_copy_has_a_layout_of_its_own_and_another_weight_gets_another() -> None:
    module = filled(grid(40, 64))
    first = module.program()
    twin = copy.deepcopy(module)
    assert twin.program() is not first or first is None
    module.weight = nn.Parameter(module.weight.bitwise_not(), requires_grad=False)
    assert module.program() is not first or first is None


def test_a_module_born_in_inference_mode_runs_too() -> None:
    with torch.inference_mode():
        module = filled(grid(40, 64))
        x = torch.ones(1, 64)
        torch.testing.assert_close(module(x), module.value().apply(x), rtol=1e-2, atol=1e-2)
        assert module.program() is module.program()


def test_a_move_or_a_cast_drops_the_layout() -> None:
    module = filled(grid(40, 64))
    first = module.program()
    module.to(torch.bfloat16)
    assert module._program is None
    assert first is None or module.program() is not first
    assert module.to("meta").program() is None


def test_a_weight_that_is_brought_for_each_call_gets_no_layout() -> None:
    module = filled(grid(40, 64))
    accelerate.cpu_offload(module, execution_device="cpu")
    with torch.no_grad():
        assert torch.equal(module(torch.ones(1, 64)), grid(40, 64).apply(torch.ones(1, 64)))
    assert module._program is None


def test_the_printout_tells_form_and_bits() -> None:
    assert "in_features=8, out_features=4, bias=False, form=grid, bits_per_weight=" in repr(filled(grid(4, 8)))
