"""How a launch should be cut on this GPU: every cut of a grid of them, timed; what `triton_launch.shape_of` is held to.

    python benchmarks/gpu_cuts.py [--rounds 5] [--output FILE]
    python benchmarks/gpu_cuts.py --interpret      # no GPU: tiny sizes in Triton's interpreter, no speeds

One linear with a scale for 128 columns, inputs of bfloat16. For each shape and number of tokens: the cut that is taken,
and the quickest ones. A cut that needs more shared memory than there is, is left out and counted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gpu_matmul import L2_BYTES_TIMES, LEAST_SECONDS, SHAPES, TINY_SHAPES, captured, l2_bytes, timed

TOKENS = (1, 16, 64)
FEW = {"slices": (2, 4, 8), "rows": (16, 32, 64), "warps": (4, 8), "stages": (1, 2, 3), "splits": (1, 2, 4)}
MANY = {"rows": (64, 128), "warps": (4, 8), "stages": (1, 2), "splits": (1, 2, 4)}
TINY = {"slices": (2, 4), "rows": (16, 64), "warps": (4,), "stages": (2,), "splits": (1, 2)}
_SHOWN = 5


def main() -> int:
    """Time every cut, or show that each gives the same numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interpret", action="store_true", help="tiny sizes in Triton's interpreter, on the processor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("there is no GPU here; --interpret shows that everything runs, without speeds")
    found = []
    for case in _cases(options.interpret):
        found.append(case | {"cuts": list(_measured(case, options))})
        _print(found[-1])
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _cases(interpreted: bool) -> Iterator[dict[str, Any]]:
    for (columns, rows), tokens in product(TINY_SHAPES[1:] if interpreted else SHAPES, (3,) if interpreted else TOKENS):
        yield {"in": columns, "out": rows, "tokens": tokens}


def _measured(case: dict[str, Any], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield each cut with its seconds, the one that is taken first; the numbers are looked at."""
    from gpu_linears import GROUPS, Place, copied, products_of, random_term

    from liptt_cli.kernels.triton_launch import Shape, multiply, shape_of

    device = torch.device("cpu" if options.interpret else "cuda")
    place = Place(device, 0 if options.interpret else L2_BYTES_TIMES * l2_bytes())
    products, matrix = products_of([random_term(case["out"], case["in"], place, grouped=True)])
    x = torch.randn(case["tokens"], case["in"], dtype=torch.bfloat16, device=device)
    copies = place.copies(case["in"] * case["out"] // 8)
    launches = [products.launches[0], *(copied(products).launches[0] for _ in range(copies - 1))]
    processors = 132 if options.interpret else torch.cuda.get_device_properties(0).multi_processor_count
    wanted = x.float() @ matrix.T
    for number, cut in enumerate((shape_of(launches[0], len(x), processors=processors), *_grid(case, Shape, options))):
        calls = [_call(multiply, launch, cut) for launch in launches]
        fact = {"guise": GROUPS, "taken": number == 0} | vars(cut)
        yield fact | _timing(calls, x, wanted, options)


def _grid(case: dict[str, Any], shape: Callable[..., Any], options: argparse.Namespace) -> Iterator[Any]:
    """Yield all cuts; slices and warps share out K evenly or not at all."""
    few = case["tokens"] <= 8
    choices = TINY if options.interpret else FEW if few else MANY
    for values in product(*choices.values()):
        cut = dict(zip(choices, values, strict=True))
        tokens = 8 if few else 16 if case["tokens"] <= 16 else 32
        if cut.get("slices", 1) <= cut["warps"]:
            yield shape(cut.get("slices"), cut["rows"], tokens, cut["warps"], cut["stages"], cut["splits"])


def _call(multiply: Callable[..., torch.Tensor], launch: Any, cut: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: multiply(launch, x, dtype=torch.bfloat16, parts=1, shape=cut)


def _timing(
    calls: list[Callable[[torch.Tensor], torch.Tensor]],
    x: torch.Tensor,
    wanted: torch.Tensor,
    options: argparse.Namespace,
) -> dict[str, Any]:
    from triton.runtime.errors import OutOfResources

    try:
        y = calls[0](x).float()
    except OutOfResources as error:
        return {"left_out": str(error)}
    if float((y - wanted).norm() / wanted.norm()) > 5e-3:
        raise SystemExit("a cut gives other numbers")
    if options.interpret:
        return {}
    replay = captured(calls, x)
    turns = max(1, round(LEAST_SECONDS / timed(replay, 1)))
    return {"seconds": median(timed(replay, turns) / len(calls) for _ in range(options.rounds))}


def _print(case: dict[str, Any]) -> None:
    timed_cuts = sorted((cut for cut in case["cuts"] if "seconds" in cut), key=lambda cut: cut["seconds"])
    left_out = sum("left_out" in cut for cut in case["cuts"])
    print(f"{case['in']} x {case['out']}, {case['tokens']} tokens: {len(case['cuts'])} cuts, {left_out} left out")
    for cut in [cut for cut in timed_cuts if cut["taken"]] + timed_cuts[:_SHOWN]:
        words = ", ".join(f"{name} {cut[name]}" for name in ("slices", "rows", "warps", "stages", "splits"))
        print(f"  {cut['seconds'] * 1e6:7.1f} us  {words}{'  (taken)' if cut['taken'] else ''}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
