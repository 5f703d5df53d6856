"""The forms without children: dense numbers, and a grid of codes under a scale."""

from dataclasses import dataclass
from typing import Literal

from liptt_cli.forms.alphabets import ALPHABETS, Alphabet
from liptt_cli.forms.base import Operations, Section

Float = Literal["float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class ZeroForm:
    """Nothing: all entries are zero."""

    shape: tuple[int, int]

    def sections(self) -> tuple[Section, ...]:
        """Return no section."""
        return ()

    def operations(self) -> Operations:
        """Return no cost."""
        return Operations(0, 0)

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {"node": "zero", "shape": list(self.shape)}


@dataclass(frozen=True)
class DenseForm:
    """Plain numbers."""

    shape: tuple[int, int]
    dtype: Float

    def sections(self) -> tuple[Section, ...]:
        """Return the one section."""
        return (Section("values", self.dtype, self.shape),)

    def operations(self) -> Operations:
        """Return a multiplication (and addition) for each entry."""
        return Operations(0, self.shape[0] * self.shape[1])

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {"node": "dense", "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True)
class EnvelopeForm:
    """Scales of a grid: plane p has `sum_l rows[p, l] * cols[p, l]`.

    `rows` holds one number for `rows` rows (1 or out) and each group of `group_columns` columns;
    `cols` is one number a column, or absent. CONTRACTS 2.1 lists what this covers.
    """

    rows: int
    group_columns: int
    cols: bool = False
    rank: int = 1

    def sections(self, name: str, *, planes: int, columns: int) -> tuple[Section, ...]:
        """Return the sections of `rows` and, if there, `cols`."""
        groups = -(-columns // self.group_columns)
        found = [Section(f"{name}.rows", "float16", (planes, self.rank, self.rows, groups))]
        if self.cols:
            found.append(Section(f"{name}.cols", "float16", (planes, self.rank, columns)))
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Return the envelope as JSON."""
        return {"rank": self.rank, "rows": self.rows, "group_columns": self.group_columns, "cols": self.cols}


@dataclass(frozen=True)
class GridForm:
    """Codes (planes, out, in) of an alphabet, scaled and shifted by envelopes."""

    shape: tuple[int, int]
    alphabet: Alphabet = "sign"
    planes: int = 1
    scale: EnvelopeForm | None = None
    shift: EnvelopeForm | None = None

    @property
    def sign_products(self) -> int:
        """Return how often the codes are added up: a magnitude of rank l is l products, each under its own scales."""
        return self.scale.rank if self.scale is not None else 1

    def sections(self) -> tuple[Section, ...]:
        """Return codes, scale, shift."""
        rows, columns = self.shape
        storage: Literal["index", "trit"] = "trit" if self.alphabet == "trit" else "index"
        found = [Section("codes", storage, (self.planes, rows, columns), ALPHABETS[self.alphabet].bits)]
        if self.scale is not None:
            found += self.scale.sections("scale", planes=self.planes, columns=columns)
        if self.shift is not None:
            found += self.shift.sections("shift", planes=1, columns=columns)
        return tuple(found)

    def operations(self) -> Operations:
        """Return one addition an entry, plane and rank of the scale, and the multiplications by the scales."""
        rows, columns = self.shape
        scales = sum(s.entries for s in self.sections() if not s.bits)
        return Operations(self.sign_products * self.planes * rows * columns, scales)

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {
            "node": "grid",
            "shape": list(self.shape),
            "alphabet": self.alphabet,
            "planes": self.planes,
            "scale": self.scale.to_json() if self.scale else None,
            "shift": self.shift.to_json() if self.shift else None,
        }
