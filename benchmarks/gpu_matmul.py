"""One linear on a GPU: time and share of the floors, against bfloat16 in cuBLAS and gemlite's A16W1 where it is.

    python benchmarks/gpu_matmul.py [--quick] [--without-gemlite] [--rounds 9] [--output FILE]
    python benchmarks/gpu_matmul.py --quick --interpret      # no GPU: tiny sizes in Triton's interpreter, no speeds

Inputs are bfloat16, 1 to 64 tokens. Each guise of a linear is called once for each of its copies in one CUDA graph,
the copies being four times the L2; rounds take turns, and the median counts. Floors of a call: its bytes over the
bandwidth of a copy in the same run, and the instructions that its weights need at least over what all lanes can issue
at --clock-ghz. Every output is compared with the matrix in float32 first.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gpu_linears import Guise

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ((4096, 4096), (4096, 11008), (4096, 14336), (8192, 28672))  # in x out
TOKENS = (1, 4, 16, 64)
TINY_SHAPES, TINY_TOKENS = ((96, 64), (200, 160)), (1, 9)
L2_BYTES_TIMES = 4
LANES = 128  # that a multiprocessor can issue an instruction for in a cycle
ERROR_BOUND = {"8-bit": 2e-2, "factors": 1e-2, "": 5e-3}
_BANDWIDTH_BYTES = 2**30
LEAST_SECONDS = 3e-3
_PACKAGES = ("torch", "triton", "gemlite")


@dataclass(frozen=True)
class Floors:
    """What this GPU can do at best."""

    bytes_per_second: float
    instructions_per_second: float


def main() -> int:
    """Measure, or show that everything runs."""
    options = _options()
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("there is no GPU here; --quick --interpret shows that everything runs, without speeds")
    rows = list(_rows(options, None if options.interpret else floors_here(options.clock_ghz)))
    document = {"machine": _machine(options.interpret), "clock_ghz": options.clock_ghz, "rows": rows}
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    _print(rows)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first shape and two numbers of tokens, three rounds")
    parser.add_argument("--interpret", action="store_true", help="tiny sizes in Triton's interpreter, on the processor")
    parser.add_argument("--without-gemlite", action="store_true", help="leave gemlite out, though it is installed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock-ghz", type=float, default=1.98, help="the highest clock of the multiprocessors")
    parser.add_argument("--output", type=Path, help="where the JSON goes; benchmarks/results/gpu-matmul.json say")
    return parser.parse_args()


def _rows(options: argparse.Namespace, floors: Floors | None) -> Iterator[dict[str, Any]]:
    from gpu_linears import Place, guises  # here, since Triton is told by then whether to interpret

    shapes, token_counts = (TINY_SHAPES, TINY_TOKENS) if options.interpret else (SHAPES, TOKENS)
    if options.quick:
        shapes, token_counts = shapes[:1], token_counts[:2]
    device = torch.device("cpu" if options.interpret else "cuda")
    place = Place(device, 0 if floors is None else L2_BYTES_TIMES * l2_bytes())
    with torch.no_grad():
        for columns, rows in shapes:
            made = list(guises(columns, rows, place, gemlite=not options.without_gemlite))
            for tokens in token_counts:
                x = torch.randn(tokens, columns, dtype=torch.bfloat16, device=device)
                facts = [_facts(guise, x) for guise in made]
                if floors is not None:
                    seconds = _seconds(made, x, rounds=3 if options.quick else options.rounds)
                    facts = [fact | _speed(*pair, floors) for fact, *pair in zip(facts, made, seconds, strict=True)]
                    facts = [fact | {"times_bfloat16": median(seconds[0]) / fact["seconds"]} for fact in facts]
                yield from facts


def _facts(guise: "Guise", x: torch.Tensor) -> dict[str, Any]:
    """Return what a guise is, its output having been looked at."""
    y, wanted = guise.calls[0](x).float(), x.float() @ guise.matrix.float().T
    error = float((y - wanted).norm() / wanted.norm())
    bound = next(bound for word, bound in ERROR_BOUND.items() if word in guise.name)
    if not error <= bound:
        raise SystemExit(f"{guise.name}: an error of {error:.1e} at {tuple(x.shape)}, more than {bound:.0e}")
    rows, columns = guise.matrix.shape
    shape = {"in": columns, "out": rows, "tokens": len(x), "copies": len(guise.calls)}
    return {"guise": guise.name} | shape | {"bytes": guise.bytes, "error": error}


def _speed(guise: "Guise", seconds: Sequence[float], floors: Floors) -> dict[str, Any]:
    middle, floor = median(seconds), guise.bytes / floors.bytes_per_second
    found: dict[str, Any] = {"seconds": middle, "fastest": min(seconds), "slowest": max(seconds)}
    found["share_of_byte_floor"] = floor / middle
    if guise.instructions is not None:
        found["share_of_instruction_floor"] = guise.instructions / floors.instructions_per_second / middle
    return found


def _seconds(made: "Sequence[Guise]", x: torch.Tensor, *, rounds: int) -> list[list[float]]:
    """Return the seconds of a call in each round, guise by guise."""
    replays = [captured(guise.calls, x) for guise in made]
    turns = [max(1, round(LEAST_SECONDS / timed(replay, 1))) for replay in replays]
    found: list[list[float]] = [[] for _ in made]
    for _ in range(rounds):
        for number, replay in enumerate(replays):
            found[number].append(timed(replay, turns[number]) / len(made[number].calls))
    return found


def captured(calls: Sequence[Callable[[torch.Tensor], object]], x: torch.Tensor) -> Callable[[], None]:
    """Return all copies' calls as one CUDA graph, after a call of each that compiles and warms up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call(x)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay


def timed(run: Callable[[], object], turns: int) -> float:
    """Return the seconds of one turn, by the GPU's own clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(turns):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / turns


def floors_here(clock_ghz: float) -> Floors:
    """Measure the bandwidth of a copy, and count the lanes."""
    source = torch.empty(_BANDWIDTH_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    timed(lambda: target.copy_(source), 2)
    best = min(timed(lambda: target.copy_(source), 5) for _ in range(5))
    lanes = torch.cuda.get_device_properties(0).multi_processor_count * LANES
    return Floors(2 * _BANDWIDTH_BYTES / best, lanes * clock_ghz * 1e9)


def l2_bytes() -> int:
    """Return the size of the cache that all multiprocessors share."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def _machine(interpreted: bool) -> dict[str, Any]:
    """Return hardware, versions and commit."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    found: dict[str, Any] = {"device": "interpreter" if interpreted else torch.cuda.get_device_name(0)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"commit": commit or None}


def _print(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        line = f"{row['in']:>6} x {row['out']:<6}{row['tokens']:>4} tokens  {row['guise']:<36} error {row['error']:.1e}"
        if "seconds" in row:
            line += f"  {row['seconds'] * 1e6:8.1f} us  {row['times_bfloat16']:5.2f} x bfloat16"
            line += f"  {row['share_of_byte_floor']:4.0%} of the byte floor"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
