"""`make bench` and `make bench-all`: the numbers of the tables, cell by cell; broken off, it goes on where it was.

    python benchmarks/run.py [--shared ../shared] [--core] [--only GLOB ...] [--jobs N] [--quick] [--list]

A finished cell is one small JSON file in --results and is skipped as long as its inputs are the same. A cell that fails
is recorded as failed, is tried again next time, and the rest goes on; what cannot be measured here (no ../shared) stays
missing, and `make tables` says so. Runs, texts and the dense model's scores stay in --work, which can be thrown away.
Exit status: 0 if all that is possible here is finished, 1 if a cell failed, 130 if stopped.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cell_work import CellFailed, Stopped, run_cell
from cells import CORE, DENSE, FULL, GROUPS, QUICK, Cell, Group, find_cells, needs
from methods import ROOT
from setting import CODE, Prepared, Setting, read_result

from liptt_cli.errors import LipttError

PACKAGES = ("torch", "transformers", "lm-eval", "accelerate", "safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not finished; returns the exit status."""
    options = _parser().parse_args(arguments)
    setting = _setting(options)
    cells = [cell for cell in find_cells(*(CORE if options.core else options.only)) if setting.available(cell.group)]
    if options.list:
        for cell in cells:
            print(f"{_state(cell, setting):8}  {cell.key}")
        return 0
    missing = [group for group in GROUPS if not setting.available(group)]
    if missing:
        _say(f"not here, so missing: {', '.join(missing)}")
    return Bench(setting, options.jobs).run(cells)


class Bench:
    """A pool of workers that takes cells as soon as those they need are over."""

    def __init__(self, setting: Setting, jobs: int) -> None:
        """Take where to work and how many cells at once."""
        self._setting = setting
        self._jobs = jobs
        self._failed: list[str] = []

    def run(self, cells: Sequence[Cell]) -> int:
        """Run every cell that is not finished; returns the exit status."""
        waiting = {cell.key: cell for cell in cells}
        running: dict[Future[None], str] = {}
        self._without_scores = self._lost_scores(cells)
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                while waiting or running:
                    for cell in [cell for cell in waiting.values() if self._free(cell, waiting, running)]:
                        if len(running) < self._jobs:
                            del waiting[cell.key]
                            running[pool.submit(self._take, cell)] = cell.key
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        del running[future]
                        future.result()
            except (KeyboardInterrupt, Stopped):
                _say("stopped; the same command goes on from here")
                return 130
        return 1 if self._failed else 0

    def _free(self, cell: Cell, waiting: dict[str, Cell], running: dict[Future[None], str]) -> bool:
        return not any(key in waiting or key in running.values() for key in needs(cell))

    def _lost_scores(self, cells: Sequence[Cell]) -> set[Group]:
        """Return the groups whose dense scores are gone although a cell still has to be paired with them."""
        pending = {
            cell.group
            for cell in cells
            if cell.trial is None and cell.method != DENSE and _state(cell, self._setting) != "finished"
        }
        return {group for group in pending if not self._setting.dense_evaluations(group)}

    def _take(self, cell: Cell) -> None:
        """Run a cell unless it is finished, and write its result."""
        lost = cell.method == DENSE and cell.group in self._without_scores
        began = time.monotonic()
        inputs = ""
        try:
            prepared = self._setting.prepare(cell)
            inputs = prepared.inputs
            if not lost and is_finished(cell, prepared, self._setting):
                _say(f"{cell.key}: finished before")
                return
            _say(f"{cell.key}: started")
            found = {"status": "ok", **run_cell(cell, prepared, self._setting)}
        except (CellFailed, LipttError, LookupError) as error:
            found = {"status": "failed", "error": self._setting.without_paths(str(error))}
            self._failed.append(cell.key)
        write_result(cell, inputs, found, self._setting)
        _say(f"{cell.key}: {found['status']} after {time.monotonic() - began:.0f} s {found.get('error', '')}".rstrip())


def is_finished(cell: Cell, prepared: Prepared, setting: Setting) -> bool:
    """Tell whether a result is there, made of the same inputs, with every measure that is possible here."""
    result = read_result(setting.results, cell.key)
    if result is None or result["status"] != "ok" or result["inputs"] != prepared.inputs:
        return False
    return all(result["measures"].get(name) == digest for name, digest in setting.measure_hashes(cell).items())


def write_result(cell: Cell, inputs: str, found: dict[str, Any], setting: Setting) -> None:
    """Write a cell's file: what it is, what it was made of, where, and what came out."""
    facts = {
        "version": 1,
        "cell": cell.key,
        "group": cell.group,
        "method": cell.method,
        "calibrated_on": cell.calibration,
        "scale": setting.scale.name,
        "inputs": inputs,
        "measures": setting.measure_hashes(cell) if found["status"] == "ok" else {},
        "code": CODE,
        "commit": commit(),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    setting.results.mkdir(parents=True, exist_ok=True)
    path = setting.results / f"{cell.key}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**facts, **found}, indent=1) + "\n", encoding="utf8")
    partial.replace(path)


def commit() -> str | None:
    """Return the commit that is checked out, marked if files differ from it; None without git."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--match", "nothing"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def hardware() -> dict[str, Any]:
    """Return what seconds depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf8").split("\n") if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.machine(), "cores": _cores(), "system": platform.system()}


def _state(cell: Cell, setting: Setting) -> str:
    """Return finished, failed, or missing."""
    try:
        if is_finished(cell, setting.prepare(cell), setting):
            return "finished"
    except (LipttError, LookupError):
        return "missing"
    result = read_result(setting.results, cell.key)
    return "failed" if result is not None and result["status"] == "failed" else "missing"


def _setting(options: argparse.Namespace) -> Setting:
    work = options.work.resolve()
    results = options.results or (work / "quick-results" if options.quick else ROOT / "benchmarks" / "results")
    return Setting(
        reference=options.model.resolve(),
        shared=options.shared.resolve(),
        results=results.resolve(),
        work=work,
        scale=QUICK if options.quick else FULL,
        threads=max(1, _cores() // options.jobs),
    )


def _parser() -> argparse.ArgumentParser:
    cores = _cores()
    parser = argparse.ArgumentParser(description="Measure every cell of the tables.")
    parser.add_argument("--model", type=Path, default=ROOT / "configs" / "reference", help="the reference model")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="outside data and models")
    parser.add_argument(
        "--only", metavar="GLOB", nargs="+", default=(), help="cells by name, in this order, with those that they need"
    )
    parser.add_argument("--core", action="store_true", help="the first rows alone, instead of --only")
    parser.add_argument("--jobs", type=int, default=min(2, cores), help="cells at once; the cores are shared out")
    parser.add_argument("--results", type=Path, help="default: benchmarks/results, under --work with --quick")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench", help="runs, texts and scores")
    parser.add_argument("--quick", action="store_true", help="a few windows, steps and documents: proves that it runs")
    parser.add_argument("--list", action="store_true", help="print the state of each cell and stop")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(message: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
