"""One linear on this machine's processor: our kernels, torch's dense product and llama.cpp's types, in one run.

    python benchmarks/matmul.py [--rounds 15] [--calls 4] [--results DIR] [--peers Q1_0 ..] [--tiny]
                                [--shapes 4096x4096 ..] [--batches 8 ..]

4096 x 4096 and 4096 x 11008 (in x out), batch 1 and 8, one thread. The weights of every contestant go round through
more than 100 MB, so that they come from memory. Contestants take turns in each round; a round's number is the thread's
own processor time for one call, and a comparison is the median of the ratios within each round. Errors are those of
Gaussian inputs against float64. Then two sign factors at 1.0 and 0.5 bits, and two threads with and without another
process that keeps one core busy (time on the wall). Written to <results>/matmul.json with the table of the issue.
Peers run through the library in llama-cpp-python, if that is installed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import ggml
import torch
from synthetic import sign, two_factor
from targets import Target

from liptt_cli.formats.base import Encoded
from liptt_cli.kernels.dispatch import chosen
from liptt_cli.kernels.program import Program, prepare
from liptt_cli.metrics.speed import MemoryFloor, Spread, ratios
from liptt_cli.run_directory import machine

HERE = Path(__file__).resolve().parent
SHAPES = ((4096, 4096), (11008, 4096))  # out, in
TINY_SHAPES = ((256, 256),)
BATCHES = (1, 8)
ROTATED_BYTES = 110 * 10**6
PACKAGES = ("torch", "llama_cpp_python")
OURS, ONE_BIT, HALF_BIT = "liptt, signs, 1.125 bits", "liptt, two factors, 1.0 bit", "liptt, two factors, 0.5 bit"
DENSE = {"torch float32": torch.float32, "torch bfloat16": torch.bfloat16}
_BUSY = "while True: pass"


@dataclass
class Contestant:
    """Something that multiplies: `call(turn)` with the weights of that turn, which are `bytes` long."""

    name: str
    bytes: int
    call: Callable[[int], Any]
    error: float | None = None
    seconds: list[float] = field(default_factory=list)

    def run(self, clock: Callable[[], float], *, calls: int, first: int) -> float:
        """Return the median seconds of some calls."""
        found = []
        for turn in range(first, first + calls):
            began = clock()
            self.call(turn)
            found.append(clock() - began)
        return median(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print; returns 0."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, Any] = {"shapes": [], "rows": []}
    with torch.inference_mode():
        for shape in TINY_SHAPES if options.tiny else options.shapes:
            for batch in options.batches:
                _measure_shape(found, shape, batch, options)
        if 1 in options.batches:
            _measure_threads(found, TINY_SHAPES[0] if options.tiny else options.shapes[0], options)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "kernel": asdict(chosen()),
        "shapes": found["shapes"],
        "table": [row.to_json() for row in found["rows"]],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "matmul.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf8")
    for row in found["rows"]:
        print(row.line())
    return 0


def _measure_shape(found: dict[str, Any], shape: tuple[int, int], batch: int, options: argparse.Namespace) -> None:
    """Run every contestant on one shape, and add its numbers and rows."""
    floor, rates = MemoryFloor(), []
    contestants = {each.name: each for each in _contestants(shape, batch, options)}
    for number in range(-1, options.rounds):
        rates.append(floor.bytes_per_second())
        for each in contestants.values():
            seconds = each.run(time.thread_time, calls=options.calls, first=number * options.calls)
            if number >= 0:  # the round before the first warms up
                each.seconds.append(seconds)
    name = f"{shape[1]} x {shape[0]}, batch {batch}"
    rows = _rows(name, batch, contestants, rates[1:])
    found["rows"] += rows
    facts = [_facts(each, rates[1:], (*shape, batch)) for each in contestants.values()]
    found["shapes"].append({"shape": name, "floor_bytes_per_second": median(rates), "contestants": facts})
    print(f"{name}; memory floor {median(rates) / 1e9:.1f} GB/s")
    for each in facts:
        error = "" if each["error"] is None else f", error {each['error']:.1e}"
        print(
            f"  {each['name']:28} {each['microseconds']['median']:9.1f} us, {each['floor_share']:4.0%} of the floor, "
            f"{each['multiply_adds_per_second'] / 1e9:6.0f} G multiply-adds/s{error}"
        )


def _contestants(shape: tuple[int, int], batch: int, options: argparse.Namespace) -> list[Contestant]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, shape[1], generator=generator)
    made = [_dense(name, shape, x.to(dtype), generator) for name, dtype in DENSE.items()]
    makers = {OURS: sign, ONE_BIT: two_factor(1.0), HALF_BIT: two_factor(0.5)}
    made += [_packed(name, make(*shape, generator), x) for name, make in makers.items()]
    absent = ggml.why_absent()
    if absent is None:
        weight = torch.randn(shape, generator=generator)
        for kind in options.peers:
            copies = _copies(ggml.row_bytes(kind, shape[1]) * shape[0])
            product = ggml.Product(kind, weight, x, copies=copies)
            made.append(Contestant(f"llama.cpp {kind}", product.bytes, product))
    elif options.peers:
        print(f"without llama.cpp: {absent}", file=sys.stderr)
    return made


def _dense(name: str, shape: tuple[int, int], x: torch.Tensor, generator: torch.Generator) -> Contestant:
    weight = torch.randn(shape, generator=generator).to(x.dtype)
    weights = [weight.clone() for _ in range(_copies(weight.nbytes))]
    return Contestant(name, weight.nbytes, lambda turn: torch.nn.functional.linear(x, weights[turn % len(weights)]))


def _packed(name: str, value: Encoded, x: torch.Tensor) -> Contestant:
    program = _program(value)
    wanted = x.double() @ value.dense(torch.float64).T
    error = ((program(x)[0].double() - wanted).norm() / wanted.norm()).item()
    programs = _rotated(program)
    return Contestant(name, program.block.nbytes, lambda turn: programs[turn % len(programs)](x), error)


def _program(value: Encoded) -> Any:
    program = prepare([value])
    if program is None:
        raise SystemExit(f"no kernel runs here ({chosen().reason}): nothing to measure")
    return program


def _rotated(program: Any) -> list[Program]:
    copies = range(_copies(program.block.nbytes))
    return [type(program)(program.out_features, program.columns, program.block.clone()) for _ in copies]


def _copies(size_bytes: int) -> int:
    return max(2, -(-ROTATED_BYTES // size_bytes))


def _rows(name: str, batch: int, contestants: Mapping[str, Contestant], rates: Sequence[float]) -> list[Target]:
    """Return the rows of the issue's table for one shape and batch."""
    ours = contestants[OURS]
    best = min((contestants[name] for name in DENSE), key=lambda each: median(each.seconds))
    targets = {1: {best.name: (15, 18), "llama.cpp Q1_0": (3.5, 4.5), "llama.cpp TQ2_0": (1.9, 2.5)}}
    targets[8] = {best.name: (11, 17), "llama.cpp TQ2_0": (2.0, 2.5)}
    rows = [
        Target(f"{name}: times {peer}", ratios(contestants[peer].seconds, ours.seconds), *wanted)
        for peer, wanted in targets.get(batch, {}).items()
        if peer in contestants
    ]
    if batch == 1:
        shares = [ours.bytes / rate / seconds for rate, seconds in zip(rates, ours.seconds, strict=True)]
        rows.append(Target(f"{name}: share of the memory floor", Spread.of(shares), 0.55, 0.70))
        faster = ratios(contestants[ONE_BIT].seconds, contestants[HALF_BIT].seconds)
        rows.append(Target(f"{name}: two factors at 0.5 bit, times those at 1.0", faster, 1.7, 2))
    error = ours.error if ours.error is not None else float("nan")
    rows.append(Target(f"{name}: relative error", Spread.of([error]), 2.5e-3, 1.6e-3, at_most=True))
    return rows


def _facts(contestant: Contestant, rates: Sequence[float], sizes: tuple[int, int, int]) -> dict[str, Any]:
    seconds = median(contestant.seconds)
    rows, columns, batch = sizes
    return {
        "name": contestant.name,
        "bytes": contestant.bytes,
        "microseconds": Spread.of([1e6 * each for each in contestant.seconds]).to_json(),
        "floor_share": contestant.bytes / median(rates) / seconds,
        "multiply_adds_per_second": rows * columns * batch / seconds,
        "error": contestant.error,
    }


def _measure_threads(found: dict[str, Any], shape: tuple[int, int], options: argparse.Namespace) -> None:
    """Run two threads in turns without and with another process on one of two cores."""
    generator = torch.Generator().manual_seed(0)
    contestant = _packed(OURS, sign(*shape, generator), torch.randn(1, shape[1], generator=generator))
    torch.set_num_threads(2)
    free, disturbed = [], []
    for number in range(options.rounds):
        free.append(contestant.run(time.perf_counter, calls=4 * options.calls, first=number))
        busy = subprocess.Popen([sys.executable, "-c", _BUSY])
        time.sleep(0.1)
        disturbed.append(contestant.run(time.perf_counter, calls=4 * options.calls, first=number))
        busy.kill()
        busy.wait()
    torch.set_num_threads(1)
    slower = ratios(disturbed, free)
    found["rows"].append(Target("two threads beside a busy process: times slower", slower, 2, 2, at_most=True))
    print(f"two threads: {1e6 * median(free):.1f} us, beside a busy process {1e6 * median(disturbed):.1f} us")


def _commit() -> str:
    ended = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return ended.stdout.strip()[:12] or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _shape(text: str) -> tuple[int, int]:
    columns, rows = text.split("x")
    return int(rows), int(columns)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=4, help="calls of each contestant in a round")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--peers", nargs="*", default=list(ggml.TYPES), help="types of llama.cpp; none: without it")
    parser.add_argument("--shapes", nargs="*", type=_shape, default=list(SHAPES), help="in x out, as 4096x11008")
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    parser.add_argument("--tiny", action="store_true", help="a toy's shape, to try the script itself")
    return parser


if __name__ == "__main__":
    sys.exit(main())
