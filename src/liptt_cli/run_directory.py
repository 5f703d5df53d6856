"""A run on disk: its configuration, lock, events, and six stages that are whole or not there.

    runs/<name>/  config.source.yaml  config.resolved.yaml  manifest.json  events.jsonl  log.txt
                  01-load … 06-export/      report.json  report.md  model/

Files are written beside, synced and renamed; a stage's `stage.json` is written last and marks it whole.
A run killed at any instant is resumed from the last whole thing.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from liptt_cli.errors import (
    ConfigError,
    Fault,
    InputError,
    OtherRunError,
    ResourceError,
    RunLockedError,
    is_out_of_space,
)

STAGES = ("load", "decompose", "binarize", "finetune", "evaluate", "export")
SOURCE = "config.source.yaml"
RESOLVED = "config.resolved.yaml"
MANIFEST = "manifest.json"
_LOCK = ".lock"
_PARTIAL = ".partial"
_BEGUN = frozenset({_LOCK, *(name + end for name in (SOURCE, RESOLVED, MANIFEST) for end in ("", _PARTIAL))})
_NOT_COMPARED = frozenset({"output"})


@dataclass
class RunDirectory:
    """An opened, locked run directory; `made` are the folders that were not there before it, innermost first."""

    path: Path
    resolved: Mapping[str, Any]
    origin: Path | None = None
    made: Sequence[Path] = ()
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
        """Remove all of it, and of the folders around it those that were made for it; then unlock."""
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for folder in self.made:
            if not any(folder.iterdir()):
                folder.rmdir()
        self.release()

    def sign(self) -> None:
        """Write into the lock who holds it."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {platform.node()}")
            self._lock.flush()

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
        ConfigError: if no directory can be made there.
        OtherRunError: if there is something already; of another run's configuration, the message lists what differs.
        RunLockedError: if another process works in it.
        ResourceError: if the disk is full; nothing is left.
    """
    _refuse_occupied(path, written)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(Fault("--output", f"{path}: no directory can be made here ({error})")) from error
    run = RunDirectory(path, written.resolved, written.origin, made, _take_lock(path))
    try:
        run.sign()
        write_bytes(path / SOURCE, written.source.encode())
        write_bytes(path / RESOLVED, written.rendered.encode())
        facts = {"command": sys.argv, "started": time.time(), "machine": machine(), "origin": str(written.origin)}
        write_json(path / MANIFEST, {**facts, "config": written.resolved})
    except (OSError, ResourceError):
        run.discard()
        raise
    return run


def reopen(path: Path, *, resolved: Mapping[str, Any] | None = None) -> RunDirectory:
    """Lock an existing run directory in order to go on with it.

    Raises:
        InputError: if it is not a run directory.
        OtherRunError: if `resolved` is given and differs; the message lists where.
        RunLockedError: if another process works in it.
    """
    stored, origin = read_manifest(path)
    if resolved is not None:
        _refuse_other(path, stored, resolved)
    run = RunDirectory(path, stored, origin, (), _take_lock(path))
    run.sign()
    for leftover in path.rglob(f"*{_PARTIAL}"):
        if leftover.is_file():
            leftover.unlink()
    return run


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
    try:
        found = json.loads(file.read_text(encoding="utf8"))
        return found["config"], Path(found["origin"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not what was written ({error!r}); start again with another --output") from error


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
    """Let `fill` write a file beside `path`, then sync and rename it; nothing is left of a file that fails.

    Raises:
        ResourceError: if the disk is full.
    """
    partial = path.with_name(path.name + _PARTIAL)
    try:
        fill(partial)
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if is_out_of_space(error):
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


def _refuse_occupied(path: Path, written: Written) -> None:
    """Refuse a place that is taken, except by an empty folder or one in which a run was killed while it began."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(Fault("--output", f"{path} is a file; give a directory"))
    if (path / MANIFEST).exists():
        _take_lock(path).close()  # whoever works in it is the first thing to tell
        _refuse_other(path, read_manifest(path)[0], written.resolved)
        raise OtherRunError(
            f"{path} exists already. Go on with it by `liptt compress --resume {path}`, "
            "or give another directory with --output"
        )
    strange = sorted(entry.name for entry in path.iterdir() if entry.name not in _BEGUN)
    if strange:
        raise OtherRunError(f"{path} holds other things, such as {strange[0]}; give another directory with --output")


def _refuse_other(path: Path, stored: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
    differing = differences(stored, resolved)
    if differing:
        raise OtherRunError(
            f"{path} was made by another configuration; these fields differ (there, here):",
            *differing,
            f"Give another --output, or go on with that run as it was: liptt compress --resume {path}",
        )


def _take_lock(path: Path) -> IO[str]:
    lock = (path / _LOCK).open("a+", encoding="utf8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise RunLockedError(
            f"{path}: {owner} works in this run directory; wait for it, or give another --output"
        ) from error
    return lock


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
