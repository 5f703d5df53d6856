"""What the paper removes: a normalisation after each core, against scales alone, after the same one-step training.

    python benchmarks/normalised_cores.py [--bits 1.0 0.55] [--steps 40] [--windows 64]

An experiment, no format: a chain with normalisations is not linear (rms), or not while it trains (batch), nothing
exports it, and both are counted as they would be stored. `liptt compress --until binarize` makes the run; then each
thawed chain of two cores gets a normalisation after each core's contraction,

    z_1 = norm(B_2 (s_in x))        y = s_out norm(B_1 (g z_1))

    batch   (z - mean) / sd x gain + bias a channel; of the batch's tokens in a training step, running ones otherwise
    rms     z / rms(z) x gain a channel, rms over a token's channels

and all train with `finetune_model` under the recipe's own options. Both start close to the fitted chain: gains and
biases are what some windows show. Written to benchmarks/results/normalised-cores/, one printed table.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from forking import make_base
from torch import Tensor, nn

from liptt_cli.catalogue import objective_of
from liptt_cli.evaluation.compare import compare
from liptt_cli.evaluation.evaluate import Request, evaluate, read_material
from liptt_cli.formats.chain import Chain
from liptt_cli.layers.surgery import replace_module, thawed
from liptt_cli.layers.trainable import TrainableLinear
from liptt_cli.menu.run import RunConfig
from liptt_cli.models.hub import load_tokenizer, locate
from liptt_cli.packing.block_file import read_sources
from liptt_cli.packing.overlay import Overlay
from liptt_cli.run_directory import look_at
from liptt_cli.stages.assemble import compressed_model, dense_model
from liptt_cli.stages.job import Job
from liptt_cli.tuning import finetune_model
from liptt_cli.tuning_loop import Course

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("none", "rms", "batch")
_EPSILON = 1e-6
_MOMENTUM = 0.1
_OBSERVED = 8
_NUMBERS = {"none": 0, "rms": 1, "batch": 4}  # stored a channel: gain; bias, running mean and variance
_OPERATIONS = {"none": 0, "rms": 3, "batch": 2}  # a channel and token: square and add, two products; product and sum


class CoreNorm(nn.Module):
    """A normalisation of channels; while it observes, it hands its input on and notes what it sees."""

    mean: Tensor
    variance: Tensor
    unit: Tensor

    def __init__(self, channels: int, kind: str) -> None:
        """Start as a normalisation by nothing."""
        super().__init__()
        self.kind = kind
        self.gain = nn.Parameter(torch.ones(channels))  # times `unit`, so that Adam's step is a share
        self.bias = nn.Parameter(torch.zeros(channels)) if kind == "batch" else None
        for name in ("mean", "unit"):
            self.register_buffer(name, torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.seen: list[Tensor] | None = None

    def forward(self, z: Tensor) -> Tensor:
        """Return the normalised channels, times the gain."""
        if self.seen is not None:
            self.seen.append(z.detach().flatten(0, -2))
            return z
        if self.kind == "rms":
            return z * torch.rsqrt(z.square().mean(-1, keepdim=True) + _EPSILON) * (self.unit * self.gain)
        flat = z.flatten(0, -2)
        if torch.is_grad_enabled():
            mean, variance = flat.mean(0), flat.var(0, unbiased=False)
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.variance.lerp_(variance.detach(), _MOMENTUM)
        else:
            mean, variance = self.mean, self.variance
        shift = self.unit * cast(Tensor, self.bias) + self._start
        return (z - mean) * torch.rsqrt(variance + _EPSILON) * (self.unit * self.gain) + shift

    def settle(self) -> None:
        """Stop observing, and start where the chain without normalisation is, as closely as the kind allows."""
        seen = torch.cat(self.seen or [])
        self.seen = None
        self.mean, self.variance = seen.mean(0), seen.var(0, unbiased=False)
        self._start = self.mean.clone()
        level = seen.square().mean(1).sqrt().mean() if self.kind == "rms" else torch.sqrt(self.variance + _EPSILON)
        self.unit = level.expand_as(self.mean).clone()


class NormalisedChain(nn.Module):
    """A thawed chain of two cores with a normalisation behind each."""

    def __init__(self, linear: TrainableLinear, kind: str) -> None:
        """Take over the thawed linear."""
        super().__init__()
        self.linear = linear
        chain = linear.view()
        if not isinstance(chain, Chain) or chain.form.pair_bond is None or len(chain.cores) != 2:
            raise ValueError("normalised_cores knows chains of two cores in the split layout only")
        self.norms = nn.ModuleList([CoreNorm(chain.ranks[0], kind), CoreNorm(chain.shape[0], kind)])

    def forward(self, x: Tensor) -> Tensor:
        """Apply both cores, each with its normalisation."""
        chain = cast(Chain, self.linear.view())
        rows, columns = chain.shape
        first, middle, last = chain.scales
        hidden = (x if last is None else x * last) @ chain.core(1, x.dtype)[:, 0, :columns, 0].T
        hidden = self.norms[0](hidden)
        y = (hidden if middle is None else hidden * middle) @ chain.core(0, x.dtype)[0, :rows, 0, :].T
        y = self.norms[1](y)
        y = y if first is None else y * first
        return y if self.linear.bias is None else y + self.linear.bias


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all variants; returns the exit status."""
    options = _parser().parse_args(arguments)
    rows = []
    for bits in options.bits:
        base = _base(options, bits)
        for kind in KINDS:
            row = {"bits": bits, "norm": kind, **_measured(base, kind, options)}
            rows.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    facts = {"version": 1, "steps": options.steps, "calibration_windows": options.windows, "rows": rows}
    (options.results / "normalised-cores.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf8")
    print("| bits | norm | excess nats | seconds a step | extra bytes | share of payload | extra operations a token |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(_line(row))
    return 0


def _base(options: argparse.Namespace, bits: float) -> Path:
    """Make the run that all variants of a budget start from."""
    name = f"base-{bits:g}-{options.windows}"
    overrides = {
        "model": options.model,
        "bits_per_weight": bits,
        "calibration.windows": options.windows,
        "calibration.window_tokens": 256,
        "load.dtype": "float32",
        "evaluate.perplexity": "[]",
        "evaluate.lipschitz": "false",
    }
    path = options.work / name
    options.work.mkdir(parents=True, exist_ok=True)
    return make_base("methods/liptt-onestep", overrides, path, log=options.work / f"{name}.log")


def _measured(base: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one variant and return what it costs and loses."""
    run = look_at(base)
    config = RunConfig.model_validate(run.resolved)
    job = Job(config, run, locate(str(config.model)), None, _Silent())
    dense, student = dense_model(job), compressed_model(job, job.block_files("binarize"))
    tuning = config.finetune.model_copy(update={"steps": options.steps})
    overlay = Overlay.read(job.block_files("binarize"))
    values = {name: overlay.value(name) for name in overlay.forms}
    sources = read_sources(job.block_files("binarize"))
    modules = thawed(student, values, tuning=tuning, sources=sources)
    if kind != "none":
        _normalise(student, modules, kind, job.windows[:_OBSERVED])
    before = _excess(job, student, dense, options)
    times: list[float] = []
    course = Course(
        tuning,
        [objective_of(each) for each in tuning.objectives],
        config.seed,
        on_step=lambda _record, _left: times.append(time.monotonic()),
    )
    history = finetune_model(student, dense, block_path=job.structure.block_path, ids=job.windows, course=course)
    after = _excess(job, student, dense, options)
    channels = sum(norm.gain.numel() for norm in student.modules() if isinstance(norm, CoreNorm))
    price = run.facts("decompose")
    operations = price["sign_additions"] + price["multiplications"]
    return {
        "excess_before": before[0],
        "excess": after[0],
        "excess_standard_error": after[1],
        "seconds_a_step": statistics.median(b - a for a, b in zip(times, times[1:], strict=False)),
        "first_loss": history.records[0].loss,
        "last_loss": history.records[-1].loss,
        "extra_bytes": 2 * _NUMBERS[kind] * channels,
        "payload_bytes": price["payload_bytes"],
        "extra_operations": _OPERATIONS[kind] * channels,
        "operations": operations,
    }


def _normalise(student: nn.Module, modules: dict[str, TrainableLinear], kind: str, ids: Tensor) -> None:
    """Put the normalisations in, and let them see some windows, first what the plain chains make of them."""
    for name, module in modules.items():
        replace_module(student, name, NormalisedChain(module, kind))
    with torch.no_grad(), _observing(student):
        student(input_ids=ids)


@contextmanager
def _observing(student: nn.Module) -> Iterator[None]:
    norms = [module for module in student.modules() if isinstance(module, CoreNorm)]
    for norm in norms:
        norm.seen = []
    yield
    for norm in norms:
        norm.settle()


def _excess(job: Job, student: nn.Module, dense: nn.Module, options: argparse.Namespace) -> tuple[float, float]:
    """Return the nats above dense on held-out text, and their paired standard error."""
    request = Request(("stdlib",), window_tokens=256, windows=options.evaluation_windows)
    tokenizer = load_tokenizer(job.source)
    material = read_material(dense, tokenizer, request)
    ours, theirs = (evaluate(model, tokenizer, replace(request), material=material) for model in (student, dense))
    nats = next(found for found in compare(ours, theirs) if found.name == "stdlib.nats")
    return nats.difference, nats.standard_error or 0.0


class _Silent:
    """A reporter that says nothing."""

    def begin(self, title: str, *, total: int) -> None:
        """Say nothing."""

    def advance(self, message: str = "") -> None:
        """Say nothing."""


def _line(row: dict[str, Any]) -> str:
    cells = [
        f"{row['bits']:g}",
        row["norm"],
        f"{row['excess']:+.3f} ± {row['excess_standard_error']:.3f} (before {row['excess_before']:+.3f})",
        f"{row['seconds_a_step']:.2f}",
        f"{row['extra_bytes']:,}",
        f"{row['extra_bytes'] / row['payload_bytes']:+.1%}",
        f"{row['extra_operations']:,} ({row['extra_operations'] / row['operations']:+.2%})",
    ]
    return "| " + " | ".join(cells) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A normalisation after each core: bytes, operations, time, quality.")
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "reference")
    parser.add_argument("--bits", type=float, nargs="+", default=[1.0, 0.55])
    parser.add_argument("--steps", type=int, default=40, help="steps of the one training")
    parser.add_argument("--windows", type=int, default=64, help="calibration windows of 256 tokens")
    parser.add_argument("--evaluation-windows", type=int, default=40)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "normalised-cores")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "normalised-cores")
    return parser


if __name__ == "__main__":
    sys.exit(main())
