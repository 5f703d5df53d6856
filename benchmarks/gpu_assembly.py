"""What the CUDA kernels cost in instructions, read off their machine code; no GPU is needed.

    python benchmarks/gpu_assembly.py [--capability 90] [--output FILE]

Triton assembles each kernel with a scale for each plane of 128 columns (`groups`) or for each row (`rows`), and its
disassembler shows the loop over tiles, in which a thread meets a known number of weights. A lane issues one instruction
a cycle, but `logic` and `shift` (with the moves that share its unit) run at half that rate each, so they count twice.
At the byte floor of an H200 there is time for about one instruction a weight.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from liptt_cli.kernels import triton_int8, triton_signs

LOGIC = ("LOP3", "PRMT", "SEL", "ISETP", "LEA", "VIADD", "IADD3", "SHF", "SGXT", "PLOP3", "MOV")
POINTERS = {"codes": "*u8", "table": "*i32", "scales": "*fp16", "cols": "*fp32", "inputs": "*i32", "out": "*bf16"}
POINTERS |= {"sums": "*fp32", "x_scales": "*fp32"}
ALIGNED = ("x_stride", "width", "positions")
COMMON = {"PLANE": 128, "BLOCK": 128, "ASSEMBLY": True}
EXACT = {"ALIGNED": 8, "HAS_COLS": False, "HAS_INPUTS": False, "PARTS": 1}
CASES = (
    ("up to 8 tokens", triton_signs.few_tokens, "*bf16", {"SLICES": 4, "ROWS": 32, "TOKENS": 8}, 4, 2),
    ("up to 8 tokens, few rows", triton_signs.few_tokens, "*bf16", {"SLICES": 4, "ROWS": 16, "TOKENS": 8}, 4, 2),
    ("up to 16 tokens", triton_signs.many_tokens, "*bf16", {"ROWS": 64, "TOKENS": 16}, 4, 2),
    ("up to 32 tokens", triton_signs.many_tokens, "*bf16", {"ROWS": 128, "TOKENS": 32}, 4, 1),
    ("8-bit inputs, up to 8 tokens", triton_int8.few_tokens, "*i8", {"SLICES": 4, "ROWS": 32, "TOKENS": 8}, 4, 2),
    ("8-bit inputs, up to 32 tokens", triton_int8.few_tokens, "*i8", {"SLICES": 4, "ROWS": 32, "TOKENS": 32}, 4, 1),
)


def main() -> int:
    """Assemble and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    found = [
        _counted(case, scales, options.capability)
        for case in CASES
        for scales in (1, 2)  # for each row, for each plane and row
    ]
    if options.output:
        options.output.write_text(json.dumps({"triton": triton.__version__, "kernels": found}, indent=1) + "\n")
    for fact in found:
        numbers = ", ".join(f"{fact[name]:.2f} {name}" for name in ("instructions", "logic", "shift"))
        sizes = f"{fact['registers']} registers, {fact['shared_bytes'] // 1024} KiB, {fact['spills']} spills"
        print(f"{fact['kernel']:<32} {fact['scales']:<7} a weight: {numbers}; {sizes}")
    return 0


def _counted(case: tuple[Any, ...], scales: int, capability: int) -> dict[str, Any]:
    name, kernel, x, cut, warps, stages = case
    constants = COMMON | cut | {"SCALES": scales} | (EXACT if x == "*bf16" else {})
    names = kernel.arg_names
    types = {each: "constexpr" if each in constants else ({"x": x} | POINTERS).get(each, "i32") for each in names}
    aligned = [names.index(each) for each in names if types[each].startswith("*") or each in ALIGNED]
    source = ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(names.index(each),): value for each, value in constants.items()},
        attrs={(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    options = {"num_warps": warps, "num_stages": stages}
    made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    loop, registers = _disassembled(made.asm["cubin"])
    weights = cut.get("SLICES", 1) * cut["ROWS"] * 8 * COMMON["PLANE"] // (32 * warps)
    return {
        "kernel": name,
        "scales": ("rows", "groups")[scales - 1],
        "instructions": sum(loop.values()) / weights,
        "logic": sum(loop[each] for each in LOGIC) / weights,
        "shift": loop["IMAD"] / weights,
        "spills": loop["LDL"] + loop["STL"],
        "registers": registers,
        "shared_bytes": made.metadata.shared,
    }


def _disassembled(cubin: bytes) -> tuple[Counter[str], int]:
    """Return how often each instruction is in the longest loop, and the registers of a thread."""
    tools = Path(triton.backends.nvidia.__path__[0]) / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        code = subprocess.check_output([tools / "nvdisasm", "-c", file.name], text=True).splitlines()
        usage = subprocess.check_output([tools / "cuobjdump", "-res-usage", file.name], text=True)
    labels = {match[1]: at for at, line in enumerate(code) if (match := re.match(r"(\.L_\w+):", line.strip()))}
    jumps = ((at, re.search(r"BRA.*`\((\.L_\w+)\)", line)) for at, line in enumerate(code))
    loops = [code[labels[jump[1]] : at + 1] for at, jump in jumps if jump and labels.get(jump[1], at) < at]
    instructions = [
        re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9]*)", line) for line in max(loops, key=len)
    ]
    registers = re.search(r"REG:(\d+)", usage)
    return Counter(match[1] for match in instructions if match), int(registers[1]) if registers else 0


if __name__ == "__main__":
    sys.exit(main())
