"""The contract of a form: what is stored of one weight, priced to the byte without a tensor.

A form lists its sections in the order of the blob; each starts at a multiple of 16 bytes. Codes are
`bits`-wide indices, dense, least significant bit first along `in`, each row padded to a byte; trits are five to a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Storage = Literal["index", "trit", "float16", "bfloat16", "float32"]

ALIGNMENT_BYTES = 16
TRITS_A_BYTE = 5
FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Section:
    """One tensor of a form: `bits` is the width of an index in memory, and in the file but for trits; 0 for floats."""

    name: str
    storage: Storage
    shape: tuple[int, ...]
    bits: int = 0

    @property
    def entries(self) -> int:
        """Return the number of entries."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def bytes(self) -> int:
        """Return the exact bytes, the padding of rows included."""
        if self.storage in ("index", "trit"):
            *_, columns = self.shape
            row = -(-columns * self.bits // 8) if self.storage == "index" else -(-columns // TRITS_A_BYTE)
            return self.entries // columns * row if columns else 0
        return self.entries * FLOAT_BYTES[self.storage]

    def inside(self, parent: str) -> "Section":
        """Return the same section under a parent's name."""
        return Section(f"{parent}.{self.name}", self.storage, self.shape, self.bits)


@dataclass(frozen=True)
class Operations:
    """What one token costs in one linear: additions of signed numbers, and multiplications."""

    sign_additions: int
    multiplications: int

    def __add__(self, other: "Operations") -> "Operations":
        """Add two costs."""
        return Operations(self.sign_additions + other.sign_additions, self.multiplications + other.multiplications)


@runtime_checkable
class Form(Protocol):
    """What is stored of one weight of `shape` (out, in)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in)."""
        ...

    def sections(self) -> tuple[Section, ...]:
        """Return the sections, depth first, in the order of the blob."""
        ...

    def operations(self) -> Operations:
        """Return what one token costs."""
        ...

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON; `forms.read.form_from_json` reads it back."""
        ...


def offsets(sections: Sequence[Section]) -> list[int]:
    """Return where each section starts in the blob."""
    starts, end = [], 0
    for section in sections:
        start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        starts.append(start)
        end = start + section.bytes
    return starts


def blob_bytes(form: Form) -> int:
    """Return the length of the form's blob; `len(pack(value))` equals it for every value."""
    sections = form.sections()
    return offsets(sections)[-1] + sections[-1].bytes if sections else 0


def bits_per_weight(form: Form) -> float:
    """Return 8 x blob bytes over the weights replaced, padding included."""
    rows, columns = form.shape
    return 8 * blob_bytes(form) / (rows * columns)
