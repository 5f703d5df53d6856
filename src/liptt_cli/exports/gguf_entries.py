"""One key of a GGUF file and its value: the types are those that llama.cpp reads the key as."""

from collections.abc import Sequence
from dataclasses import dataclass

Value = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Entry:
    """A key and its value: text, a flag, a count (32 bits, no sign), a float32, or a list of one kind."""

    key: str
    value: Value
