"""How long one linear takes to compress by each recipe, and what memory: no model, no text, a made-up weight.

    python benchmarks/compression.py [--methods rtn gptq ..] [--shapes 4096x4096 ..] [--set key=value ..] [--tiny]

4096 x 4096 and 11008 x 4096 (out x in), one process each. Seconds are those of `compress`: fit, codes, settling and
both errors; those on the wall beside the processor's. A recipe with a dial stands at its own. Of an ADMM five
iterations are run, and the seconds are multiplied up to the recipe's (`extrapolated`, *). Of a training one step is
run, of this linear alone on 2048 tokens (`step_seconds`). `python_share` is the part of the seconds outside of
torch's operators, by torch's profiler, at the first 512 columns: an upper bound, since what is pushed behind a block
is longer in full. Peak: the process's resident memory over what it had before. Written to <results>/compression.json
with a printed table.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from liptt_cli.algebra.compose import LinearPlan, Solved, compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.config import load_config, shipped_configs
from liptt_cli.forms.base import Form, bits_per_weight
from liptt_cli.layers.optimizer import make_optimizer
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.solvers import Admm
from liptt_cli.menu.tuning import Tuning
from liptt_cli.planning.price import ladder
from liptt_cli.run_directory import machine
from liptt_cli.stages.fit import linear_plan

HERE = Path(__file__).resolve().parent
SHAPES = ((4096, 4096), (11008, 4096))
TINY_SHAPES = ((64, 128),)
ITERATIONS = 5
TOKENS = 2048
PROFILED_COLUMNS = 512
_MEGABYTE = 2**20
_HEADINGS = ("method", "shape", "bits", "seconds", "cpu s", "in Python", "step s", "peak MB", "x weight")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, write it and print it."""
    options = _parser().parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measured(**json.loads(options.one))))
        return 0
    shapes = TINY_SHAPES if options.tiny else [_shape(text) for text in options.shapes]
    rows = []
    for method in options.methods:
        for shape in shapes:
            rows.append(_in_a_process(method, shape, options))
            print(_line(rows[-1]), file=sys.stderr)
    found = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": machine(),
        "torch": torch.__version__,
        "threads": options.threads,
        "overrides": options.set,
        "rows": rows,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "compression.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    print(" | ".join(_HEADINGS), *map(_line, rows), sep="\n")
    return 0


def measured(method: str, overrides: list[str], shape: tuple[int, int], threads: int) -> dict[str, Any]:
    """Return one row: a recipe on a linear of (out, in)."""
    torch.set_num_threads(threads)
    config = load_config(f"methods/{method}", overrides=overrides).config
    weight, metric = made_up(shape, config)
    plan, factor = _shortened(config, _form(config, shape))
    before, began, cpu = _resident(), time.perf_counter(), time.process_time()
    solved = compress(weight, plan=plan, metric=metric, generator=torch.Generator().manual_seed(0))
    seconds, processor = time.perf_counter() - began, time.process_time() - cpu
    peak = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
    tuning = next((each for each in (config.finetune, config.binarize.codes) if each.trains), None)
    return {
        "method": method,
        "shape": list(shape),
        "bits_per_weight": bits_per_weight(solved.value.form),
        "error": solved.error,
        "plain_error": solved.plain_error,
        "seconds": factor * seconds,
        "processor_seconds": factor * processor,
        "extrapolated": factor if factor > 1 else None,
        "python_share": python_share(config, (shape[0], min(shape[1], PROFILED_COLUMNS))),
        "step_seconds": step_seconds(solved, weight, tuning) if tuning is not None else None,
        "peak_bytes": peak,
        "peak_weights": peak / (4 * weight.numel()),
    }


def made_up(shape: tuple[int, int], config: RunConfig) -> tuple[Tensor, Metric]:
    """Return a weight with uneven rows and columns, and the moment of correlated inputs with a few loud ones."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = shape
    gains = [torch.exp(0.3 * torch.randn(count, generator=generator)) for count in shape]
    weight = torch.randn(shape, generator=generator) * gains[0].unsqueeze(1) * gains[1] / columns**0.5
    loud = torch.exp(0.5 * torch.randn(columns, generator=generator))
    loud[:: max(columns // 8, 1)] *= 10
    options = config.binarize.metric
    weights = torch.rand(rows, generator=generator) + 0.1 if options.rows == "diagonal" else None
    if options.cols != "full":
        return weight, Metric(weights, loud.square() if options.cols == "diagonal" else None)
    mixed = torch.randn(columns, max(columns // 8, 1), generator=generator) / (columns // 8) ** 0.5
    moment = (mixed @ mixed.T + 0.3 * torch.eye(columns)) * torch.outer(loud, loud)
    return weight, Metric(weights, moment + 0.01 * moment.diagonal().mean() * torch.eye(columns))


def python_share(config: RunConfig, shape: tuple[int, int]) -> float:
    """Return the part of the time that is not spent inside of torch's operators."""
    weight, metric = made_up(shape, config)
    plan, _ = _shortened(config, _form(config, shape))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        began = time.perf_counter()
        compress(weight, plan=plan, metric=metric, generator=torch.Generator().manual_seed(0))
        seconds = time.perf_counter() - began
    inside = 1e-6 * sum(event.self_cpu_time_total for event in profile.key_averages())
    return max(0.0, 1 - inside / seconds)


def step_seconds(solved: Solved, weight: Tensor, tuning: Tuning) -> float:
    """Return how long one training step of the linear alone takes on the wall, towards the dense output."""
    module = thaw(solved.value, options=tuning.latent, train=tuning.train, sources=solved.sources)
    trained = [group for group in tuning.train if module.groups().get(group)]
    optimizer = make_optimizer(nn.Sequential(module), tuning.model_copy(update={"train": trained}))
    x = torch.randn(TOKENS, weight.shape[1], generator=torch.Generator().manual_seed(1))
    target = x @ weight.T
    began = time.perf_counter()
    (module(x) - target).square().mean().backward()
    optimizer.step()
    return time.perf_counter() - began


def _form(config: RunConfig, shape: tuple[int, int]) -> Form:
    """Return what the recipe gives the shape at its own dial."""
    found = ladder(config, shape)
    return found.forms[found.best(config.bits_per_weight) if config.bits_per_weight is not None else 0]


def _shortened(config: RunConfig, form: Form) -> tuple[LinearPlan, float]:
    """Return the plan with at most five iterations of an ADMM, and how many times as many the recipe has."""
    solver = config.binarize.solver
    if not isinstance(solver, Admm) or solver.iterations <= ITERATIONS:
        return linear_plan(config, form), 1.0
    short = config.binarize.model_copy(
        update={"solver": solver.model_copy(update={"iterations": ITERATIONS, "tolerance": None})}
    )
    return linear_plan(config.model_copy(update={"binarize": short}), form), solver.iterations / ITERATIONS


def _in_a_process(method: str, shape: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    """Return the row of a fresh process, or what it failed with."""
    asked = {"method": method, "overrides": options.set, "shape": shape, "threads": options.threads}
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        return {"method": method, "shape": list(shape), "failed": last[0]}
    row: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return row


def _line(row: dict[str, Any]) -> str:
    shape = " x ".join(map(str, row["shape"]))
    if "failed" in row:
        return f"{row['method']} | {shape} | failed: {row['failed']}"
    told = "*" if row["extrapolated"] else ""
    step = "" if row["step_seconds"] is None else f"{row['step_seconds']:.1f}"
    return (
        f"{row['method']} | {shape} | {row['bits_per_weight']:.3f} | {row['seconds']:.1f}{told} | "
        f"{row['processor_seconds']:.1f}{told} | {row['python_share']:.0%} | {step} | "
        f"{row['peak_bytes'] / _MEGABYTE:.0f} | {row['peak_weights']:.1f}"
    )


def _shape(text: str) -> tuple[int, int]:
    rows, columns = text.split("x")
    return int(rows), int(columns)


def _resident() -> int:
    """Return the bytes that this process has in memory now."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def _parser() -> argparse.ArgumentParser:
    recipes = [path.stem for path in shipped_configs().values() if path.parent.name == "methods"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=sorted(recipes), metavar="METHOD")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="laid over each recipe")
    parser.add_argument("--shapes", nargs="+", default=["x".join(map(str, s)) for s in SHAPES], metavar="OUTxIN")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--tiny", action="store_true", help="a toy's shape, to see that all goes through")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
