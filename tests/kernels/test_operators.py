"""The operator of torch: schema, fake tensors, one graph under torch.compile."""

import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch

from liptt_cli.kernels.reference import run_block
from signs import block_of, gaussian, grid


@pytest.mark.parametrize(("lead", "dtype"), [((3,), torch.float32), ((2, 3), torch.bfloat16), ((), torch.float16)])
def test_opcheck_finds_nothing(kernel: str, lead, dtype: torch.dtype):
    x = gaussian(prod(lead), 40).reshape(*lead, 40).to(dtype)
    torch.library.opcheck(torch.ops.liptt.sign_products, (x, block_of([grid(20, 40)]), 20))


def test_float64_runs_the_torch_meaning(kernel: str):
    block, x = block_of([grid(20, 40, 16)]), gaussian(3, 40).double()
    assert torch.equal(torch.ops.liptt.sign_products(x, block, 20), run_block(block, x))


_FEED = """
import sys
import torch
from torch import nn
from drawn import chain_form, value_of
from liptt_cli.kernels.program import prepare
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.blob import pack
from signs import gaussian, grid

def packed(value):
    module = PackedLinear(value.form, bias=False)
    module.weight.copy_(pack(value))
    return module

class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.down = nn.LayerNorm(48), packed(value_of(chain_form((48, 64), [24])))
        self.both = prepare([grid(64, 48, 48), grid(64, 48, 16)])

    def forward(self, x):
        gate, up = self.both(self.norm(x)) if self.both else (x[..., :1].repeat(1, 64),) * 2
        return x + self.down(nn.functional.silu(gate) * up)

feed, x = Feed(), gaussian(5, 48)
with torch.no_grad():
    wanted = feed(x)
    compiled = torch.compile(feed, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), wanted)
    assert torch.equal(compiled(gaussian(7, 48)), feed(gaussian(7, 48)))
    assert (feed.down.program() is None) == (feed.both is None)
"""


def test_packed_linears_are_one_graph_with_equal_numbers_under_compile():
    paths = os.pathsep.join(str(Path(__file__).parents[up] / name) for up, name in ((2, "src"), (1, ".")))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    # In a process of its own: the run-time type checks of these tests cannot be traced.
    ended = subprocess.run([sys.executable, "-c", _FEED], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
