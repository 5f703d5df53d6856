"""Where every error ends: one message on stderr, one exit status, the traceback in the run's log.

The statuses are those of `liptt_cli.errors`; here they are found for what Python and the libraries raise too.
"""

import errno
import logging
import os
import sys
from types import TracebackType

import typer

from liptt_cli.cli import screen
from liptt_cli.errors import Interrupted, LipttError, ResourceError, is_out_of_space

_OUR_FAULT = LipttError.exit_status
_RESOURCE = ResourceError.exit_status
_INTERRUPTED = Interrupted.exit_status
_RESOURCE_WORDS = (
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",
    "PytorchStreamWriter failed writing",  # torch.save on a full disk
)


class Boundary:
    """A context that turns whatever escapes it into a message and an exit; typer's own exits pass."""

    def __enter__(self) -> None:
        """Enter."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Report the error, if there is one, and exit with its status."""
        try:
            if error is None:
                sys.stdout.flush()
                return
            if isinstance(error, (SystemExit, typer.Exit, typer.Abort)) or hasattr(error, "exit_code"):
                return
            if not isinstance(error, BrokenPipeError):
                _report(error)
                raise SystemExit(exit_status(error)) from None
        except BrokenPipeError:
            pass
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def exit_status(error: BaseException) -> int:
    """Return the exit status for an error that ends a command."""
    if isinstance(error, LipttError):
        return error.exit_status
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if is_out_of_space(error) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return _RESOURCE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _RESOURCE
    return _RESOURCE if any(words in str(error) for words in _RESOURCE_WORDS) else _OUR_FAULT


def _report(error: BaseException) -> None:
    status = exit_status(error)
    told = isinstance(error, LipttError) or status == _INTERRUPTED
    logs = [handler.baseFilename for handler in screen.LOGGER.handlers if isinstance(handler, logging.FileHandler)]
    if logs or screen.is_verbose():
        screen.LOGGER.error("ended with status %d", status, exc_info=None if told and not logs else error)
    if told:
        screen.warn(str(error) or "interrupted")
        return
    line = " ".join(f"{type(error).__name__}: {error}".split())
    if status == _RESOURCE:
        screen.warn(f"memory or disk ran out: {line}")
        return
    notes = [f"traceback in {log}" for log in logs] or getattr(error, "__notes__", [])
    screen.warn(f"this is a fault of liptt: {line} ({'; '.join(notes) or '-v shows the traceback'})")
