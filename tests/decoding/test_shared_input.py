"""Linears with a shared input as one call: the same outputs, whatever they are made of."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from liptt_cli.decoding import shared_input
from liptt_cli.decoding.shared_input import alone, together
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.kernels.dispatch import exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.blob import pack

COLUMNS = 256


def packed(rows: int, bias: bool, seed: int) -> PackedLinear:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2, (1, rows, COLUMNS), dtype=torch.uint8, generator=generator)
    value = Grid(codes, Envelope(torch.rand(1, 1, rows, 2, generator=generator) + 0.1, None, 128)).settled()
    linear = PackedLinear(value.form, bias)
    linear.weight.data.copy_(pack(value))
    if linear.bias is not None:
        linear.bias.data.copy_(torch.randn(rows, generator=generator))
    return linear


def dense(rows: int, bias: bool, seed: int, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(COLUMNS, rows, bias=bias, dtype=dtype)


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("biases", [(False, False), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("make", [dense, packed])
def test_outputs_are_those_of_each_linear(make: Callable[..., Any], biases: Any, tokens: int) -> None:
    linears = [make(rows, bias, seed) for seed, (rows, bias) in enumerate(zip((64, 96), biases, strict=True))]
    x = torch.randn(tokens, COLUMNS, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode(), exact():
        expected = [linear(x) for linear in linears]
    with torch.inference_mode():
        found = together(linears)(x)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 0.005 * other.norm()


def test_several_packed_ones_are_one_program_where_a_kernel_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    own = shared_input.prepare

    def watched(values: Any) -> Any:
        asked.append(len(values))
        return own(values)

    monkeypatch.setattr(shared_input, "prepare", watched)
    together([packed(64, False, 0), packed(32, False, 1), packed(32, False, 2)])
    assert asked == [3]


def test_packed_and_dense_side_by_side_are_called_one_by_one() -> None:
    linears = [packed(64, False, 0), dense(32, True, 1)]
    x = torch.randn(2, COLUMNS)
    with torch.inference_mode(), exact():
        for one, other in zip(together(linears)(x), [linear(x) for linear in linears], strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("tokens", [1, 3])
def test_weights_of_half_precision_give_the_input_s_dtype(tokens: int) -> None:
    linear = dense(64, True, 0, torch.bfloat16)
    x = torch.randn(tokens, COLUMNS)
    with torch.inference_mode():
        found, expected = alone(linear)(x), linear.float()(x)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.01 * expected.norm()


def test_onednn_is_given_back() -> None:
    mkldnn: Any = torch.backends.mkldnn
    before = mkldnn.enabled
    linear = dense(64, False, 0, torch.bfloat16)

    with torch.inference_mode():
        alone(linear)(torch.randn(1, COLUMNS))
        with pytest.raises(RuntimeError, match="shapes"):
            alone(linear)(torch.randn(1, COLUMNS + 1))
    assert mkldnn.enabled == before
