"""The operator of torch: `liptt::sign_products(x, program, out_features) -> y`, with a meaning on fake tensors.

Registered by `Library.define` and `impl`, which costs a third of a `custom_op` a call and stays one node of a graph
under `torch.compile(fullgraph=True)`. There is no gradient: where one is wanted the torch meaning runs.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from liptt_cli.kernels import native
from liptt_cli.kernels.dispatch import TORCH, chosen
from liptt_cli.kernels.reference import run_block

_LIBRARY = torch.library.Library("liptt", "DEF")  # the registration lives as long as this object
_LIBRARY.define("sign_products(Tensor x, Tensor program, int out_features) -> Tensor")


def sign_products(
    x: Float[Tensor, "*lead in"], program: UInt8[Tensor, " n"], out_features: int
) -> Float[Tensor, "*lead out"]:
    """Run a program on a tensor of the CPU."""
    route = chosen()
    if route.name == TORCH or x.dtype not in native.NUMBERS:
        return run_block(program, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], out_features)
    y = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype)
    native.run(native.kernel_number(route.name), program, x.contiguous(), y)
    return y


def _fake(x: Tensor, program: Tensor, out_features: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


_LIBRARY.impl("sign_products", sign_products, "CPU")
torch.library.register_fake("liptt::sign_products", _fake)
