"""Runs of `liptt` that can be killed, interrupted and starved of disk, each a fork of a process that has imported all.

As a program, it reads a request a line on stdin and answers with a line once that run has ended; `Forks` is the other
side. A signal comes either from outside, once the run has used so many seconds of processor time, or from inside: right
after a stage is sealed, or when a file is written but not yet renamed. Nothing is really synced, since a signal, unlike
a power cut, loses nothing that was written.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Strike:
    """A signal, and when it comes: after processor seconds, at a stage's seal, at the n-th sync, at a file's sync."""

    signal: int = signal.SIGKILL
    seconds: float | None = None
    sealed: str | None = None
    synced: int | None = None
    written: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, or the signal as a negative number, and what it said."""

    status: int
    out: str
    err: str
    seconds: float
    syncs: int


class Forks:
    """The process that forks a run for each request."""

    def __init__(self) -> None:
        """Start it; the first request waits until everything is imported."""
        environment = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def run(
        self, arguments: Sequence[object], *, folder: Path, strike: Strike | None = None, limit_bytes: int | None = None
    ) -> Ended:
        """Run `liptt` in a folder; no file that it writes may grow beyond the limit."""
        request = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "strike": asdict(strike or Strike()),
            "limit_bytes": limit_bytes,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return every path under a folder, with what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def main() -> None:
    """Serve requests until stdin ends."""
    import torch

    from liptt_cli import pipeline, tuning  # noqa: F401 - imported before the forks
    from liptt_cli.models import hub  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_forked(request, Path(folder))), flush=True)


def _forked(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    for name in ("out", "err", "syncs"):
        (folder / name).touch()  # a child may be killed before it has done anything
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run(request, folder)
    _watch(child, Strike(**request["strike"]))
    status, usage = os.wait4(child, 0)[1:]
    return {
        "status": os.waitstatus_to_exitcode(status),
        "out": (folder / "out").read_text(),
        "err": (folder / "err").read_text(),
        "seconds": usage.ru_utime + usage.ru_stime,
        "syncs": len((folder / "syncs").read_bytes()),
    }


def _watch(child: int, strike: Strike) -> None:
    """Wait for the child to end, or to have used its seconds."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if strike.seconds is not None and _processor_seconds(child) >= strike.seconds:
            os.kill(child, strike.signal)
            return
        time.sleep(0.001)


def _processor_seconds(process: int) -> float:
    return time.clock_gettime((~process << 3) | 2)  # Linux's number for another process's clock


def _run(request: dict[str, Any], folder: Path) -> None:
    """In the child: set the traps, run the command, and end with its status."""
    from liptt_cli.cli.main import main as liptt

    for number, name in ((0, os.devnull), (1, folder / "out"), (2, folder / "err")):
        os.dup2(os.open(name, os.O_RDWR), number)
    _set_traps(Strike(**request["strike"]), os.open(folder / "syncs", os.O_WRONLY))
    os.chdir(request["folder"])
    if request["limit_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit_bytes"], resource.RLIM_INFINITY))
    status = 1
    try:
        liptt(request["arguments"])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _set_traps(strike: Strike, counter: int) -> None:
    from liptt_cli.run_directory import RunDirectory

    seal, syncs = RunDirectory.seal, count(1)

    def sealing(run: RunDirectory, name: str, facts: dict[str, Any]) -> None:
        seal(run, name, facts)
        if name == strike.sealed:
            os.kill(os.getpid(), strike.signal)

    def syncing(file: int) -> None:
        os.write(counter, b".")
        name = Path(f"/proc/self/fd/{file}").readlink().name
        if next(syncs) == strike.synced or name == f"{strike.written}.partial":
            os.kill(os.getpid(), strike.signal)

    RunDirectory.seal, os.fsync = sealing, syncing  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
