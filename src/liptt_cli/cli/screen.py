"""What reaches the terminal: results on stdout, everything else on stderr, progress where someone looks.

Of several processes only the first one speaks.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console, RenderableType

LOGGER = logging.getLogger("liptt_cli")
LOGGER.addHandler(logging.NullHandler())

QUIET, NORMAL, VERBOSE = -1, 0, 1
_level = NORMAL


def configure(*, level: int = NORMAL, color: bool = True) -> None:
    """Set how much is said on stderr, and whether in colour; NO_COLOR in the environment forbids colour too."""
    global _level
    _level = level if int(os.environ.get("RANK", "0")) == 0 else QUIET
    if not color:
        os.environ["NO_COLOR"] = "1"
    if is_verbose():
        LOGGER.setLevel(logging.DEBUG)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        LOGGER.addHandler(handler)


def is_verbose() -> bool:
    """Tell whether `-v` was given."""
    return _level >= VERBOSE


def emit(result: RenderableType) -> None:
    """Print a result, text or a rich table, on stdout; text as it is, without markup, colour or wrapping."""
    console = Console(file=sys.stdout)
    if isinstance(result, str):
        console.print(result, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        console.print(result, highlight=False)


def emit_json(document: Mapping[str, object] | Sequence[object]) -> None:
    """Print one JSON document on stdout. A number that JSON cannot say is a fault of ours."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def say(message: str) -> None:
    """Print one message on stderr, unless `-q`."""
    if _level > QUIET:
        warn(message)


def warn(message: str) -> None:
    """Print one message on stderr, also under `-q`."""
    Console(stderr=True).print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)


def progress() -> "Progress":
    """Return bars with the time left on a terminal, a plain line for each step without one, nothing under `-q`."""
    if _level <= QUIET:
        return Progress()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()


class Progress:
    """A context in which work tells how far it is; this one shows nothing."""

    def begin(self, title: str, *, total: int) -> None:
        """Start a piece of work of `total` steps."""

    def advance(self, message: str = "") -> None:
        """Finish a step; the message tells what came of it."""

    def __enter__(self) -> Self:
        """Start to show."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop to show."""


class Lines(Progress):
    """A plain line on stderr for each step, with the time left at the pace so far."""

    def begin(self, title: str, *, total: int) -> None:
        """Start a piece of work."""
        self._title, self._total, self._done, self._started = title, total, 0, time.monotonic()

    def advance(self, message: str = "") -> None:
        """Print how far it is."""
        self._done += 1
        seconds = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        left = f", {seconds:.0f} s left" if self._done < self._total else ""
        warn(f"{self._title} {self._done}/{self._total}{left} {message}".rstrip())


class Bars(Progress):
    """Bars on a terminal, one for each piece of work, with the time left and the last step's message."""

    def __init__(self, console: Console) -> None:
        """Take the console of stderr."""
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[message]}", markup=False),
            console=console,
        )

    def begin(self, title: str, *, total: int) -> None:
        """Add a bar."""
        self._task = self._bars.add_task(title, total=total, message="")

    def advance(self, message: str = "") -> None:
        """Move the newest bar."""
        self._bars.update(self._task, advance=1, message=message)

    def __enter__(self) -> Self:
        """Start to show."""
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop to show; the bars stay on the screen."""
        self._bars.stop()
