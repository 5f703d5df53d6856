"""One cell's work: `liptt compress`, then `liptt eval` on the packed model, each in a process of its own.

A process of its own gives each cell its own peak memory, and a crash costs one cell. What is stored is the report's and
the evaluation's figures, with the dense model's subtracted in pairs; paths are stored relative to their roots.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cells import DENSE, Cell
from pairing import paired_corpus, paired_task
from setting import PAIRS, TEXTS, Prepared, Setting

from liptt_cli.packing.section import read_forms, read_section

_KILOBYTE = 1 if sys.platform == "darwin" else 1024


class CellFailed(Exception):
    """A command of a cell ended with an error; the message is its last line."""


class Stopped(Exception):
    """A command was interrupted; the cell can be taken up again."""


@dataclass(frozen=True)
class Ran:
    """What a command printed and cost."""

    printed: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_cell(cell: Cell, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Make and measure a cell; returns what its result file holds.

    Raises:
        CellFailed: if a command fails.
        Stopped: if it was interrupted.
    """
    folder = setting.folder(cell, prepared)
    folder.mkdir(parents=True, exist_ok=True)
    commands: list[list[str]] = []
    model, made = setting.model(cell.group), None
    if cell.method != DENSE:
        model = folder / "run"
        commands.append(_compress_command(model, prepared))
        made = _run(commands[-1], folder / "compress", setting)
    measured = []
    for name, options in _evaluations(cell, setting).items():
        commands.append(["eval", str(model), "--dtype", "float32", "--json", *options])
        measured.append(_run(commands[-1], folder / name, setting))
    return {
        "rate": prepared.rate,
        "commands": [setting.without_paths(" ".join(["liptt", *command])) for command in commands],
        "threads": setting.threads,
        "price": prepared.price if made is None else prepared.price | _written_price(made.printed["price"], model),
        **_measures(cell, setting, [ran.printed for ran in measured]),
        **_costs(made, measured),
        **({} if made is None else _made(made.printed)),
    }


def _compress_command(run: Path, prepared: Prepared) -> list[str]:
    if (run / "manifest.json").exists():
        return ["compress", "--resume", str(run), "--json"]
    sets = [word for override in prepared.overrides for word in ("--set", override)]
    return ["compress", "--config", prepared.config, *sets, "--output", str(run), "--json"]


def _evaluations(cell: Cell, setting: Setting) -> dict[str, list[str]]:
    """Return the options of each evaluation: two, since LAMBADA and BLiMP take different limits and batches."""
    scale, tasks = setting.scale, setting.tasks(cell)
    windows = scale.held_out_windows if cell.trial is not None else scale.windows
    first = ["--perplexity", ",".join(setting.corpora(cell).values()), "--batch-size", "8"]
    first += ["--window-tokens", str(scale.window_tokens), "--windows", str(windows)]
    if "lambada" in tasks:
        first += ["--tasks", str(tasks["lambada"]), "--limit", str(scale.limits["lambada"])]
    if "blimp" not in tasks:
        return {TEXTS: first}
    second = ["--tasks", str(tasks["blimp"]), "--limit", str(scale.limits["blimp"]), "--batch-size", "64"]
    return {TEXTS: first, PAIRS: second}


def _measures(cell: Cell, setting: Setting, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers of every corpus and task, beside dense where that was measured on the same."""
    corpora: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    for document, dense in zip(documents, _dense_documents(cell, setting, documents), strict=True):
        for name, source in setting.corpora(cell).items():
            if source in document["perplexity"]:
                found = document["perplexity"][source]
                corpora[name] = paired_corpus(found, dense["perplexity"][source])
                corpora[name]["sha256"] = document["corpora"][source]
        for name, path in setting.tasks(cell).items():
            if path.stem in document["tasks"]:
                tasks[name] = paired_task(document["tasks"][path.stem], dense["tasks"][path.stem])
    return {"corpora": _rounded(corpora), "tasks": _rounded(tasks)}


def _dense_documents(
    cell: Cell, setting: Setting, documents: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return dense's evaluations; those of dense itself, and of a trial, stand for themselves."""
    if cell.method == DENSE or cell.trial is not None:
        return documents
    return [_printed(path) for path in setting.dense_evaluations(cell.group)]


def _written_price(report: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Return what was written, which a plan only bounds, and the bits of codes alone: what papers call their bits."""
    forms = read_forms(read_section(run / "model")).values()
    codes = [section for form in forms for section in form.sections() if section.name.endswith("codes")]
    bits = sum(8 * each.bytes if each.storage == "trit" else each.entries * each.bits for each in codes)
    return {**_rounded(report), "code_bits_per_weight": round(bits / sum(prod(form.shape) for form in forms), 6)}


def _costs(made: Ran | None, measured: Sequence[Ran]) -> dict[str, Any]:
    ran = [each for each in (made, *measured) if each is not None]
    return {
        "seconds": {
            **({} if made is None else {k: round(v["seconds"], 2) for k, v in made.printed["stages"].items()}),
            "measure": round(sum(each.seconds for each in measured), 2),
            "all": round(sum(each.seconds for each in ran), 2),
            "all_cpu": round(sum(each.cpu_seconds for each in ran), 2),
        },
        "peak_bytes": {
            "compress": None if made is None else max(v["peak_bytes"] for v in made.printed["stages"].values()),
            "measure": max((each.peak_bytes for each in measured), default=None),
        },
    }


def _made(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report says of size, gains and training, shortened."""
    gains, tuned = report["lipschitz"], report["finetune"]
    return {
        "totals": report["totals"],
        "gain_ratios": None
        if gains is None
        else {when: [round(block["ratio"], 4) for block in gains[when]] for when in ("before", "after")},
        "finetune": {key: _rounded(tuned[key]) for key in ("steps", "parts", "flip_share") if key in tuned},
        "calibration": {key: report["corpus"][key] for key in ("sha256", "tokens")},
    }


def _run(arguments: Sequence[str], stem: Path, setting: Setting) -> Ran:
    """Run `liptt` with its output in STEM.json and STEM.log; the cost is of this process alone."""
    threads = str(setting.threads)
    exact = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "LIPTT_KERNEL": "torch"}  # as compress measures
    began = time.monotonic()
    with stem.with_suffix(".json").open("wb") as out, stem.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "liptt_cli", *arguments], stdout=out, stderr=log, env={**os.environ, **exact}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode in (130, -2, -15):
        raise Stopped(stem.name)
    if process.returncode != 0:
        said = stem.with_suffix(".log").read_text(encoding="utf8", errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "nothing was said")
        raise CellFailed(setting.without_paths(f"liptt {arguments[0]} ended with {process.returncode}: {last}"))
    seconds = time.monotonic() - began
    printed = _printed(stem.with_suffix(".json"))
    return Ran(printed, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KILOBYTE)


def _printed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
