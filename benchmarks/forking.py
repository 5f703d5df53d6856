"""Runs that differ only behind the binarize stage share it: a base run stops there, and forks of it go on.

A fork is a run of its own: `liptt compress --until load` writes its configuration and reads model and text itself; then
the base's stages 02 and 03 are copied in, which `compress --resume` finds whole. That is only done if the two resolved
configurations are equal in everything those stages read, and the fork cut the very same windows.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from liptt_cli.run_directory import differences, look_at

_LATER = ("finetune", "evaluate", "export", "output")
_SHARED_STAGES = ("02-decompose", "03-binarize")


class LipttFailed(Exception):
    """A command ended with an error: its exit status, and its last line as the message."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the exit status beside the message."""
        super().__init__(message)
        self.status = status


def liptt(*arguments: object, log: Path) -> str:
    """Run a command of liptt in a process of its own with its messages in a file, and return what it printed.

    Raises:
        LipttFailed: if it fails.
    """
    command = [sys.executable, "-m", "liptt_cli", *map(str, arguments)]
    exact = {**os.environ, "LIPTT_KERNEL": "torch"}
    with log.open("ab") as said:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, env=exact, check=False)
    if done.returncode != 0:
        lines = log.read_text(encoding="utf8", errors="replace").splitlines()
        message = f"liptt {arguments[0]} ended with {done.returncode}: {lines[-1] if lines else ''}"
        raise LipttFailed(message, done.returncode)
    return done.stdout.decode()


def sets(overrides: Mapping[str, object]) -> list[str]:
    """Return overrides as the words of a command line."""
    return [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]


def make_base(config: str, overrides: Mapping[str, object], path: Path, *, log: Path) -> Path:
    """Make a run up to binarize, or go on with it, and return it."""
    if (path / "manifest.json").exists():
        liptt("compress", "--resume", path, "--until", "binarize", log=log)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        liptt("compress", "--config", config, *sets(overrides), "--output", path, "--until", "binarize", log=log)
    return path


def make_fork(base: Path, config: str, overrides: Mapping[str, object], path: Path, *, log: Path) -> dict[str, Any]:
    """Make a run that shares its binarize stage with a base, all its stages, and return its report.

    Raises:
        ValueError: if the fork would have made those stages otherwise.
        LipttFailed: if a command fails.
    """
    if not (path / "03-binarize" / "stage.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        liptt("compress", "--config", config, *sets(overrides), "--output", path, "--until", "load", log=log)
        _require_same(base, path)
        for stage in _SHARED_STAGES:  # the mark of a whole stage comes last, as a run itself writes it
            shutil.copytree(base / stage, path / stage, ignore=shutil.ignore_patterns("stage.json"))
            shutil.copy2(base / stage / "stage.json", path / stage / "stage.json")
    found: dict[str, Any] = json.loads(liptt("compress", "--resume", path, "--json", log=log))
    return found


def _require_same(base: Path, fork: Path) -> None:
    shared, own = ({k: v for k, v in look_at(run).resolved.items() if k not in _LATER} for run in (base, fork))
    differing = differences(shared, own)
    kept = [_keeps_sources(look_at(run).resolved["finetune"]) for run in (base, fork)]
    if differing or kept[1] > kept[0]:
        raise ValueError(f"{fork.name} cannot share {base.name}: {'; '.join(differing) or 'it needs sources'}")
    windows = [(run / "01-load" / "windows.safetensors").read_bytes() for run in (base, fork)]
    if windows[0] != windows[1]:
        raise ValueError(f"{fork.name} cut other windows than {base.name}")


def _keeps_sources(finetune: Mapping[str, Any]) -> bool:
    trains: Sequence[str] = finetune["train"]
    return "codes" in trains and finetune["latent"]["source"] == "solver"
