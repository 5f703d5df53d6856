"""Every error that liptt raises on purpose, with the exit status it ends in.

    LipttError                 1    our fault, or a base that nobody raises directly
    |- ConfigError             2    usage and configuration; carries a list of faults
    |  |- ShapeError           2    a dimension that does not factor as asked
    |  |- BudgetError          2    a rank, bit or byte budget that cannot be met
    |  `- OtherRunError        2    a run directory made by another configuration
    |- InputError              3    something given from outside is absent or unreadable
    |  |- ModelError           3    no model, no weights, a truncated or corrupt shard
    |  |- CorpusError          3    an empty or too short corpus
    |  `- MissingExtra         3    an optional package is not installed
    |- ResourceError           4    memory or disk ran out
    |  `- RunLockedError       4    another process works in this run directory
    |- IntegrityError          5    numbers or bytes that cannot be right: NaN, a flipped byte, a mismatch
    |  |- DivergenceError      5    a loss or a fit that is not finite
    |  `- FormatVersionError   5    a packed model of a newer format
    |- GateError               6    a quality gate of `--fail-if` did not hold
    `- Interrupted           130    stopped by the user; the run can be resumed

A message says what, which value, what would do, and what to try.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

_OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_OUT_OF_SPACE_WORDS = ("No space left on device", "File too large")  # all that safetensors keeps of the errno


class LipttError(Exception):
    """The root of the tree."""

    exit_status = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a configuration: where it stands and what is the matter."""

    key: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Return `file:line:column: key: message`, without the parts that are unknown."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(LipttError):
    """Faults of a command line or a configuration, all at once."""

    exit_status = 2

    def __init__(self, *faults: Fault | str) -> None:
        """Take any number of faults; a plain string is a fault without a place."""
        self.faults: Sequence[Fault] = [Fault("", fault) if isinstance(fault, str) else fault for fault in faults]
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ShapeError(ConfigError):
    """A dimension does not factor as asked."""


class BudgetError(ConfigError):
    """A rank, bit or byte budget cannot be met; the message names the smallest that can."""


class OtherRunError(ConfigError):
    """The run directory was made by another configuration; the message lists the differing fields."""


class InputError(LipttError):
    """Something given from outside is absent or unreadable."""

    exit_status = 3


class ModelError(InputError):
    """No model, no weights, or a shard that cannot be read."""


class CorpusError(InputError):
    """A corpus is absent, empty or too short."""


class MissingExtra(InputError):
    """An optional package is not installed."""


class ResourceError(LipttError):
    """Memory or disk ran out."""

    exit_status = 4


class RunLockedError(ResourceError):
    """Another process works in this run directory."""


class IntegrityError(LipttError):
    """Numbers or bytes that cannot be right."""

    exit_status = 5


class DivergenceError(IntegrityError):
    """A loss or a fit is not finite."""


class FormatVersionError(IntegrityError):
    """A packed model of a newer format than this version reads."""


class GateError(LipttError):
    """A quality gate did not hold."""

    exit_status = 6


class Interrupted(LipttError):
    """Stopped by the user; the run can be resumed."""

    exit_status = 130


def is_out_of_space(error: BaseException | None) -> bool:
    """Tell a full disk by the error, or by what it came from: torch.save hides the system's error in its context."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OUT_OF_SPACE
    return any(words in str(error) for words in _OUT_OF_SPACE_WORDS) or is_out_of_space(error.__context__)
