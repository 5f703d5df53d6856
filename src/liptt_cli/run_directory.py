"""A run on disk: its configuration, lock, events, and six stages that are whole or not there.

    runs/<name>/  config.source.yaml  config.resolved.yaml  manifest.json  events.jsonl  log.txt
                  01-load … 06-export/      report.json  report.md  model/

Files are written beside, synced and renamed; a stage's `stage.json` is written last and marks it whole.
A run killed at any instant is resumed from the last whole thing.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from liptt_cli.errors import InputError, OtherRunError, ResourceError, RunLockedError

STAGES = ("load", "decompose", "binarize", "finetune", "evaluate", "export")
RESOLVED = "config.resolved.yaml"
MANIFEST = "manifest.json"
_NOT_COMPARED = frozenset({"output"})
_OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


@dataclass
class RunDirectory:
    """An opened, locked run directory."""

    path: Path
    resolved: Mapping[str, Any]
    origin: Path | None = None
    _lock: IO[str] | None = field(default=None, repr=False)

    def stage(self, name: str) -> Path:
        """Return the folder of a stage, made if it is not there."""
        folder = self.path / f"{STAGES.index(name) + 1:02d}-{name}"
        folder.mkdir(exist_ok=True)
        return folder

    def is_whole(self, name: str) -> bool:
        """Say whether a stage finished."""
        return (self.path / f"{STAGES.index(name) + 1:02d}-{name}" / "stage.json").exists()

    def facts(self, name: str) -> dict[str, Any]:
        """Return what a whole stage left in its `stage.json`."""
        found: dict[str, Any] = json.loads((self.stage(name) / "stage.json").read_text(encoding="utf8"))
        return found

    def seal(self, name: str, facts: Mapping[str, Any]) -> None:
        """Mark a stage whole."""
        write_json(self.stage(name) / "stage.json", facts)
        self.event("stage whole", stage=name)

    def event(self, event: str, **facts: Any) -> None:
        """Append a line to `events.jsonl`."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts})
        with (self.path / "events.jsonl").open("a", encoding="utf8") as file:
            file.write(line + "\n")

    def discard(self) -> None:
        """Remove the directory and the folders around it that are empty now."""
        self.release()
        shutil.rmtree(self.path)
        for folder in self.path.parents:
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def release(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            self._lock.close()


@dataclass(frozen=True)
class Written:
    """A configuration as a run directory keeps it.

    The file that it came from, that file's text, all keys as YAML, and the same as plain values, by
    which a resumed run is compared.
    """

    origin: Path
    source: str
    rendered: str
    resolved: Mapping[str, Any]


def create(path: Path, written: Written) -> RunDirectory:
    """Make a new run directory and lock it.

    Raises:
        OtherRunError: if there is something already.
    """
    if path.exists() and any(path.iterdir()):
        raise OtherRunError(
            f"{path} exists already. Go on with it by `liptt compress --resume {path}`, "
            "or give another directory with --output"
        )
    path.mkdir(parents=True, exist_ok=True)
    lock = _locked(path)
    write_bytes(path / "config.source.yaml", written.source.encode())
    write_bytes(path / RESOLVED, written.rendered.encode())
    facts = {"command": sys.argv, "started": time.time(), "machine": machine(), "origin": str(written.origin)}
    write_json(path / MANIFEST, {**facts, "config": written.resolved})
    return RunDirectory(path, written.resolved, written.origin, lock)


def reopen(path: Path, *, resolved: Mapping[str, Any] | None = None) -> RunDirectory:
    """Lock an existing run directory in order to go on with it.

    Raises:
        InputError: if it is not a run directory.
        OtherRunError: if `resolved` is given and differs; the message lists where.
        RunLockedError: if another process works in it.
    """
    stored, origin = read_manifest(path)
    if resolved is not None:
        differing = differences(stored, resolved)
        if differing:
            raise OtherRunError(
                f"{path} was made by another configuration; these fields differ (there, here):",
                *differing,
                "Give another --output, or drop --config to resume that run as it was",
            )
    lock = _locked(path)
    for leftover in path.rglob("*.partial"):
        if leftover.is_file():
            leftover.unlink()
    return RunDirectory(path, stored, origin, lock)


def look_at(path: Path) -> RunDirectory:
    """Open a run directory without locking it, for processes that only read."""
    return RunDirectory(path, *read_manifest(path))


def read_manifest(path: Path) -> tuple[dict[str, Any], Path]:
    """Return the resolved configuration of a run directory, and the file that it came from.

    Raises:
        InputError: if it has none.
    """
    file = path / MANIFEST
    if not file.exists():
        raise InputError(
            f"{path} is not a run directory: it has no {MANIFEST}. Start one with `liptt compress --config`"
        )
    found = json.loads(file.read_text(encoding="utf8"))
    return found["config"], Path(found["origin"])


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *, inside: str = "") -> list[str]:
    """List the keys whose values differ, as `key: one, other`."""
    found = []
    for key in sorted({*one, *other} - (_NOT_COMPARED if not inside else frozenset())):
        first, second = one.get(key), other.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found += differences(first, second, inside=f"{inside}{key}.")
        elif first != second:
            found.append(f"{inside}{key}: {json.dumps(first)}, {json.dumps(second)}")
    return found


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON beside, sync and rename."""
    write_bytes(path, (json.dumps(data, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside, sync and rename."""

    def fill(partial: Path) -> None:
        partial.write_bytes(data)

    write_file(path, fill)


def write_file(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a file beside `path`, then sync and rename it.

    Raises:
        ResourceError: if the disk is full; nothing is left of the file.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        fill(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in _OUT_OF_SPACE:
            raise ResourceError(f"{path}: no space left to write it; free some or give another --output") from error
        raise


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def machine() -> dict[str, Any]:
    """Return the facts of this machine that a manifest keeps."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _locked(path: Path) -> IO[str]:
    lock = (path / ".lock").open("a+", encoding="utf8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise RunLockedError(
            f"{path}: {owner} works in this run directory; wait for it, or give another --output"
        ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {platform.node()}")
    lock.flush()
    return lock
