"""Progress of long pieces of work in twenty steps at most, so that a log without a terminal has few lines."""

from typing import Protocol, runtime_checkable

_MOST = 20


@runtime_checkable
class Shown(Protocol):
    """Where progress goes: pieces of work with a total of steps."""

    def begin(self, title: str, *, total: int) -> None:
        """Start a piece of work of `total` steps."""

    def advance(self, message: str = "") -> None:
        """Finish a step; the message tells what came of it."""


class Twentieths:
    """Turns `(title, done, total)`, told after each batch, into at most twenty steps for each title."""

    def __init__(self, shown: Shown) -> None:
        """Take where progress goes."""
        self._shown = shown
        self._title = ""
        self._steps = 1
        self._done = self._told = 0

    def __call__(self, title: str, done: int, total: int) -> None:
        """Tell how far a piece of work is; a new title, or going back, starts a new piece."""
        if title != self._title or done <= self._done:
            self._steps = min(_MOST, -(-total // max(done, 1)))
            self._title, self._told = title, 0
            self._shown.begin(title, total=self._steps)
        self._done = done
        while self._told < done * self._steps // total:
            self._told += 1
            self._shown.advance(f"({done} of {total})")
