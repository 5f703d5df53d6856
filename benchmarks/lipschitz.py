"""Does the Lipschitz term help, and where? Runs of liptt-onestep that differ in it alone, where smoothness should pay.

    python benchmarks/lipschitz.py [--only GLOB] [--seeds 0 1 2] [--list] [--table] [--quick] [--shared ../shared]

A cell is START-RATE-DATA-TERM-SEED, such as naive-x4-d10-directional.one.0.1-s0: the first three are a situation, in
which terms are compared. Each is one `liptt compress`, and what `liptt eval` measures (in this process, to read texts
once) under each disturbance: none, 8- and 4-bit activations, a noisy input, beside dense under the same one. Cells of
a start, data and seed share everything up to binarize (forking.py): the same codes are tuned with and without the term.

Resumable: a finished cell is one file in --results and is skipped as long as its inputs are the same. A training that
diverges is a result, kept as failed and not tried again; any other failure is tried again next time.
"""

import argparse
import hashlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from forking import LipttFailed, make_base, make_fork
from lipschitz_cells import DISTURBANCES, STARTS, Cell, all_cells
from lipschitz_table import table
from pairing import paired_corpus

import liptt_cli  # noqa: F401  # registers the packed format
from liptt_cli.config import load_config
from liptt_cli.evaluation.evaluate import Material, Request, evaluate, read_material
from liptt_cli.evaluation.perturbation import Perturbation
from liptt_cli.kernels.dispatch import exact
from liptt_cli.models.hub import load_model, load_tokenizer, locate
from liptt_cli.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "methods/liptt-onestep"
_DIVERGED = 5  # the exit status of numbers that are not finite
CODE = f"{VERSION}/1"  # raise the second number when a change of the code changes what a cell measures

_PERTURBATIONS: Mapping[str, Perturbation] = {  # in the order of DISTURBANCES
    "plain": Perturbation(),
    "8-bit": Perturbation(activation_bits=8),
    "4-bit": Perturbation(activation_bits=4),
    "noise": Perturbation(input_noise=0.1),
}


@dataclass(frozen=True)
class Bench:
    """Where to read and write, and how much to do; `steps` None leaves the recipe's."""

    model: Path
    shared: Path
    results: Path
    work: Path
    bits: float
    calibration_windows: int
    windows: int
    steps: int | None

    @property
    def corpora(self) -> dict[str, str]:
        """Return the corpora by short name; `valid` is one that nothing is calibrated on."""
        valid = self.shared / "data" / "corpus" / "valid.txt.gz"
        return {"stdlib": "stdlib"} | ({"valid": str(valid)} if valid.exists() else {})

    def base_overrides(self, cell: Cell) -> dict[str, object]:
        """Return what decides the run up to binarize."""
        return {
            "model": self.model,
            "bits_per_weight": self.bits,
            "seed": cell.seed,
            "calibration.windows": max(4, self.calibration_windows * cell.data // 100),
            "calibration.window_tokens": 256,
            "calibration.batch_windows": 16,
            "load.dtype": "float32",
            "evaluate.perplexity": "[]",
            **STARTS[cell.start],
        }

    def overrides(self, cell: Cell) -> dict[str, object]:
        """Return all that decides a cell's run."""
        recipe: Any = load_config(RECIPE, overrides=["model=none"]).config.finetune
        rates = {key: float(f"{cell.rate * value:.4g}") for key, value in recipe.learning_rate.model_dump().items()}
        found = {**self.base_overrides(cell), "finetune.learning_rate": json.dumps(rates)}
        found["finetune.objectives"] = json.dumps(_objectives(recipe, cell.term))
        return found if self.steps is None else {**found, "finetune.steps": self.steps}

    def inputs(self, cell: Cell) -> str:
        """Return the hash of what a cell is made of: no path in it, options at their defaults left out."""
        words = [f"{key}={value}" for key, value in self.overrides(cell).items()]
        chosen = load_config(RECIPE, overrides=words).config.model_dump(mode="json", exclude_defaults=True)
        plain = {key: value for key, value in chosen.items() if key not in ("model", "output", "export")}
        model = [(path.name, _sha256(path)) for path in sorted(self.model.glob("*.safetensors"))]
        facts = [plain, model, CODE, platform.python_version(), self.windows, sorted(self.corpora)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's result, or None if there is none."""
        path = self.results / f"{cell.key}.json"
        return json.loads(path.read_text(encoding="utf8")) if path.exists() else None

    def is_finished(self, cell: Cell) -> bool:
        """Tell whether a result is there, of the same inputs, and need not be tried again."""
        found = self.result(cell)
        settled = found is not None and (found["status"] == "ok" or found["exit_status"] == _DIVERGED)
        return settled and found is not None and found["inputs"] == self.inputs(cell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not finished; returns 1 if a cell failed that did not diverge."""
    options = _parser().parse_args(arguments)
    bench = _bench(options)
    cells = [cell for cell in all_cells(options.seeds) if fnmatchcase(cell.key, options.only)]
    if options.list:
        for cell in cells:
            print(f"{'finished' if bench.is_finished(cell) else 'open':9} {cell.key}")
        return 0
    if options.table:
        print("\n".join(table(bench.results, cells)))
        return 0
    return 1 if [cell for cell in cells if not bench.is_finished(cell) and not _take(bench, cell)] else 0


def _take(bench: Bench, cell: Cell) -> bool:
    """Run a cell and write its result; say whether it can stand."""
    began = time.monotonic()
    try:
        found = {"status": "ok", **_measured(bench, cell)}
    except LipttFailed as error:
        found = {"status": "failed", "error": str(error), "exit_status": error.status}
    seconds = round(time.monotonic() - began, 1)
    facts = {"version": 1, "cell": cell.key, "inputs": bench.inputs(cell), "code": CODE, **vars(cell)}
    bench.results.mkdir(parents=True, exist_ok=True)
    partial = bench.results / f"{cell.key}.partial"
    partial.write_text(json.dumps({**facts, **found, "all_seconds": seconds}, indent=1) + "\n", encoding="utf8")
    partial.replace(bench.results / f"{cell.key}.json")
    print(f"{cell.key}: {found['status']} after {seconds:.0f} s {found.get('error', '')}", file=sys.stderr, flush=True)
    return bench.is_finished(cell)


def _measured(bench: Bench, cell: Cell) -> dict[str, Any]:
    folder = bench.work / f"{cell.key}-{bench.inputs(cell)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    began = time.monotonic()
    shared = bench.base_overrides(cell)
    mark = hashlib.sha256(json.dumps(shared, default=str, sort_keys=True).encode()).hexdigest()[:8]
    base = make_base(RECIPE, shared, bench.work / f"base-{cell.start}-d{cell.data}-s{cell.seed}-{mark}", log=log)
    made = time.monotonic()
    report = make_fork(base, RECIPE, bench.overrides(cell), folder / "run", log=log)
    tuned = time.monotonic()
    excess = _excess(bench, folder / "run")
    measured = time.monotonic()
    for stage in ("02-decompose", "03-binarize", "04-finetune"):  # the packed model and the report stay
        shutil.rmtree(folder / "run" / stage, ignore_errors=True)
    after = report["lipschitz"]["after"]
    keys = ("ratio", "amplification", "teacher_amplification", "own_error", "error_out", "spectral_product")
    return {
        "excess": excess,
        "ledger": {key: [row[key] for row in after] for key in keys},
        "ratio_before": [row["ratio"] for row in report["lipschitz"]["before"]],
        "finetune": {key: report["finetune"][key] for key in ("steps", "parts", "flip_share")},
        "bits_per_weight": report["price"]["bits_per_weight"],
        "seconds": {
            "base": round(made - began, 1),
            "fork": round(tuned - made, 1),
            "finetune": round(report["stages"]["finetune"]["seconds"], 1),
            "measure": round(measured - tuned, 1),
        },
    }


def _excess(bench: Bench, run: Path) -> dict[str, Any]:
    """Return each corpus's nats above dense under the same disturbance, and what the disturbance costs dense."""
    ours, theirs = _disturbed(bench, run), _dense(bench)
    found: dict[str, Any] = {}
    for disturbance, (name, source) in product(DISTURBANCES, bench.corpora.items()):
        dense = theirs[disturbance][source]
        loss = {"dense_loss": dense["nats"] - theirs["plain"][source]["nats"]}
        found.setdefault(disturbance, {})[name] = paired_corpus(ours[disturbance][source], dense) | loss
    return found


def _dense(bench: Bench) -> dict[str, Any]:
    """Return what dense costs under each disturbance, measured once."""
    path = bench.work / f"dense-{bench.windows}-{'-'.join(bench.corpora)}.json"
    if not path.exists():
        path.write_text(json.dumps(_disturbed(bench, bench.model)), encoding="utf8")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return document


@exact()
def _disturbed(bench: Bench, model: Path) -> dict[str, Any]:
    """Return a model's perplexities under each disturbance, as `liptt eval --json` writes them."""
    source = locate(str(model))
    loaded, tokenizer = load_model(source, dtype=torch.float32), load_tokenizer(source)
    request = Request(tuple(bench.corpora.values()), window_tokens=256, windows=bench.windows)
    material = _material(bench, request)
    found = {}
    for name, perturbation in _PERTURBATIONS.items():
        evaluation = evaluate(loaded, tokenizer, replace(request, perturbation=perturbation), material=material)
        found[name] = evaluation.to_json()["perplexity"]
    return found


@cache
def _material(bench: Bench, request: Request) -> Material:
    source = locate(str(bench.model))
    return read_material(load_model(source, dtype=torch.float32), load_tokenizer(source), request)


def _objectives(finetune: Any, term: str) -> list[dict[str, Any]]:
    """Return the recipe's objectives with the term of a cell in the place of its own."""
    others = [each.model_dump(exclude_defaults=True) for each in finetune.objectives if each.kind != "lipschitz"]
    if term == "none":
        return others
    estimator, sided, weight = term.split(".", 2)
    return [*others, {"kind": "lipschitz", "estimator": estimator, "sided": sided, "weight": float(weight)}]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bench(options: argparse.Namespace) -> Bench:
    quick = options.quick
    return Bench(
        model=options.model.resolve(),
        shared=options.shared.resolve(),
        results=options.results or (options.work / "quick-results" if quick else ROOT / "benchmarks/results/lipschitz"),
        work=options.work.resolve() / ("quick" if quick else "full"),
        bits=options.bits,
        calibration_windows=40 if quick else 256,
        windows=options.windows or (8 if quick else 390),
        steps=4 if quick else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The Lipschitz question: every term in every situation.")
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "reference")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="outside data")
    parser.add_argument("--only", metavar="GLOB", default="*", help="cells by name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--bits", type=float, default=1.0)
    parser.add_argument("--windows", type=int, help="evaluation windows of each corpus; default: 390")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results/lipschitz, under --work with --quick")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "lipschitz")
    parser.add_argument("--quick", action="store_true", help="a few windows and steps: proves that it runs")
    parser.add_argument("--list", action="store_true", help="print the state of each cell and stop")
    parser.add_argument("--table", action="store_true", help="print what was found and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
