"""The CUDA kernels are assembled for two generations of GPUs, without one: Triton brings the assembler.

What only a GPU shows is left to `test_triton_gpu.py`. In a process of its own, since here Triton interprets.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.triton, pytest.mark.slow]

_SMALLEST_SHARED_MEMORY = 99 * 1024  # bytes a program may have on any GPU since compute capability 8.0
_ASSEMBLE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from liptt_cli.kernels import triton_int8, triton_signs

POINTERS = {"codes": "*u8", "table": "*i32", "cols": "*fp32", "inputs": "*i32", "sums": "*fp32", "x_scales": "*fp32"}
POINTERS |= {"scales": "*fp16", "out": "*bf16", "jobs": "*i32", "parts": "*fp32"}
capability, cases = json.loads(sys.argv[1])
for module, name, x, constants, warps, stages in cases:
    kernel = getattr({"triton_signs": triton_signs, "triton_int8": triton_int8}[module], name)
    names = kernel.arg_names
    types = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in names}
    types |= {"x": x} if "x" in names else {}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in names if types[name].startswith("*")}
    found = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=types, constexprs=found, attrs=aligned)
    options = {"num_warps": warps, "num_stages": stages}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    tensor_core = any(word in made.asm["ptx"] for word in ("mma.sync", "wgmma.mma_async"))
    print(json.dumps({"shared": made.metadata.shared, "tensor_core": tensor_core, "bytes": len(made.asm["cubin"])}))
"""
_CUT = {"PLANE": 128, "BLOCK": 128, "ASSEMBLY": True}
_EXACT = _CUT | {"ALIGNED": 8, "SCALES": 2, "HAS_COLS": False, "HAS_INPUTS": False, "PARTS": 1}
_FEW, _MANY = {"SLICES": 4, "ROWS": 32, "TOKENS": 8}, {"ROWS": 128, "TOKENS": 32}
_PRODUCTS = [
    ("triton_signs", "few_tokens", "*bf16", _EXACT | _FEW, 4, 2),
    ("triton_signs", "few_tokens", "*bf16", _EXACT | _FEW | {"SCALES": 1, "HAS_COLS": True, "ROWS": 16}, 4, 2),
    ("triton_signs", "few_tokens", "*fp32", _EXACT | _FEW | {"HAS_INPUTS": True, "PARTS": 3}, 4, 1),
    ("triton_signs", "many_tokens", "*bf16", _EXACT | {"ROWS": 64, "TOKENS": 16}, 4, 2),
    ("triton_signs", "many_tokens", "*bf16", _EXACT | _MANY | {"SCALES": 0}, 4, 1),
    ("triton_int8", "few_tokens", "*i8", _CUT | _FEW | {"SCALES": 2}, 4, 2),
    ("triton_int8", "few_tokens", "*i8", _CUT | _FEW | {"SCALES": 1, "TOKENS": 32}, 4, 1),
]
_OTHERS = [
    ("triton_signs", "add_parts", "", {"BLOCK": 1024, "ASSEMBLY": True}, 4, 2),
    ("triton_signs", "write_matrix", "", _CUT | {"ROWS": 32, "SCALES": 2, "HAS_COLS": True, "HAS_INPUTS": True}, 4, 2),
    ("triton_int8", "round_inputs", "*bf16", {"PLANE": 128, "HAS_COLS": True, "HAS_INPUTS": False}, 4, 2),
]


@pytest.mark.parametrize("capability", [80, 90])
def test_they_are_assembled_and_products_run_in_tensor_cores(capability: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _ASSEMBLE, json.dumps([capability, _PRODUCTS + _OTHERS])]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    made = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(made) == len(_PRODUCTS) + len(_OTHERS)
    assert all(each["bytes"] > 0 and each["shared"] <= _SMALLEST_SHARED_MEMORY for each in made)
    assert all(each["tensor_core"] for each in made[: len(_PRODUCTS)])
