"""Linears that receive the same input, as one call: q, k and v of an attention, gate and up of a feed-forward.

Dense ones become one matrix, of which the modules' own weights are views from then on, so that nothing is held twice.
Packed ones become one program of the kernels where there is one; whatever else stands there is called one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.kernels.program import Program, prepare
from liptt_cli.layers.packed import PackedLinear

mkldnn: Any = torch.backends.mkldnn  # its annotations leave out that `enabled` can be set

Alone = Callable[[Float[Tensor, "tokens in"]], Float[Tensor, "tokens out"]]
Together = Callable[[Float[Tensor, "tokens in"]], Sequence[Float[Tensor, "tokens _out"]]]


def together(linears: Sequence[nn.Module]) -> Together:
    """Return one function of the shared input, with one output for each linear, in the dtype of the input.

    Works in place on dense linears: their weights move into one tensor, as views of it.
    """
    dense = [linear for linear in linears if type(linear) is nn.Linear]
    if len(dense) == len(linears) and len({linear.weight.dtype for linear in dense}) == 1:
        return _concatenated(dense)
    packed = [linear for linear in linears if isinstance(linear, PackedLinear)]
    program = prepare([linear.stored() for linear in packed]) if len(packed) == len(linears) else None
    if program is not None:
        return _programmed(program, [linear.bias for linear in packed])
    calls = [alone(linear) for linear in linears]
    return lambda x: [call(x) for call in calls]


def alone(linear: nn.Module) -> Alone:
    """Return one linear as a function whose output has the dtype of its input."""
    if isinstance(linear, PackedLinear):
        program = linear.program()
        return linear if program is None or linear.bias is not None else lambda x: program(x)[0]
    if type(linear) is not nn.Linear:
        return linear
    return _product(linear.weight, linear.bias)


def _concatenated(linears: Sequence[nn.Linear]) -> Together:
    lengths = [linear.out_features for linear in linears]
    weight = torch.cat([linear.weight.detach() for linear in linears])
    for linear, part in zip(linears, weight.split(lengths), strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    call = _product(weight, _joint_bias(linears))
    return lambda x: call(x).split(lengths, dim=-1)


def _programmed(program: Program, biases: Sequence[Tensor | None]) -> Together:
    if all(bias is None for bias in biases):
        return program
    floats = [None if bias is None else bias.detach().float() for bias in biases]
    return lambda x: [y if bias is None else y + bias for y, bias in zip(program(x), floats, strict=True)]


def _joint_bias(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    rows = [linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias for linear in linears]
    return torch.cat([row.detach() for row in rows])


def _product(weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None) -> Alone:
    """Return `x @ weight.T + bias`, in the weight's dtype where that is not the input's."""
    dtype = weight.dtype
    if dtype == torch.float32:
        return lambda x: F.linear(x, weight, bias)
    on_cpu = weight.device.type == "cpu"

    def product(x: Tensor) -> Tensor:
        if on_cpu and x.shape[0] == 1:
            with _without_onednn():
                return F.linear(x.to(dtype), weight, bias).to(x.dtype)
        return F.linear(x.to(dtype), weight, bias).to(x.dtype)

    return product


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Let torch's own half-precision product of a matrix and a row run: it reads memory 1.6 times as fast."""
    before = mkldnn.enabled
    mkldnn.enabled = False
    try:
        yield
    finally:
        mkldnn.enabled = before
