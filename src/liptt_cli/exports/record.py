"""What an export leaves of itself: a row for every linear, the SHA-256 of every file, and a card for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from liptt_cli.exports.carrying import Carried
from liptt_cli.packing.manifest import Manifest
from liptt_cli.packing.tensor_file import Written, write_text
from liptt_cli.run_directory import sha256_of, write_json
from liptt_cli.version import VERSION

NAME = "export.json"
_CARD = """# {name} for {to}, compressed by liptt

{how}

| | |
| --- | --- |
| source model | {name}{revision} |
| method | {method}, recipe sha256 `{recipe}` |
| compressed linears | {counts} |
| honest bits per weight of the packed model | {bits:.3f} |
| weight files | {file_bytes:,} bytes; packed {packed:,}; the source in bfloat16 {bf16:,} |
| written by | liptt {version} |

Exact: the very numbers of the packed model. Re-quantised or densified: rounded, or written out as a plain matrix. Every
tensor was read back and compared; `{record}` lists each linear, and the SHA-256 of each file.
{notes}The licence of the source model applies.
"""
_HOW = {
    "hf": "`AutoModelForCausalLM.from_pretrained` loads it without any plug-in.",
    "compressed-tensors": (
        "`pip install compressed-tensors`, then `AutoModelForCausalLM.from_pretrained`, or vLLM. Codes have two bits."
    ),
    "gguf": "`llama-cli -m model.gguf`, or any program built on llama.cpp. Q1_0 needs one from April 2026 or later.",
}


@dataclass(frozen=True)
class Row:
    """What one linear became."""

    kind: str
    type: str
    reason: str
    packed_bytes: int
    written_bytes: int
    largest_difference: float


@dataclass(frozen=True)
class Record:
    """An export told: `others` are the tensors that were not compressed."""

    to: str
    manifest: Manifest
    linears: Mapping[str, Row]
    others: Mapping[str, Any]
    file_bytes: int
    notes: Sequence[str] = ()
    logits: Mapping[str, float] | None = None
    files: Mapping[str, Written] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON."""
        totals = self.manifest.totals
        return {
            "to": self.to,
            "origin": asdict(self.manifest.origin),
            "liptt_version": VERSION,
            "file_bytes": self.file_bytes,
            "packed_file_bytes": totals.file_bytes,
            "dense_bf16_bytes": totals.dense_bf16_bytes,
            "kinds": self.kinds(),
            "linears": {name: asdict(row) for name, row in self.linears.items()},
            "others": dict(self.others),
            "logits": None if self.logits is None else dict(self.logits),
            "notes": list(self.notes),
            "files": {name: asdict(written) for name, written in self.files.items()},
        }

    def kinds(self) -> dict[str, int]:
        """Return how many linears are of each kind and type."""
        found: dict[str, int] = {}
        for row in self.linears.values():
            told = f"{row.kind} ({row.type})"
            found[told] = found.get(told, 0) + 1
        return found

    def write(self, directory: Path) -> None:
        """Write `export.json`."""
        write_json(directory / NAME, self.to_json())


def rows_of(
    manifest: Manifest, carried: Mapping[str, Carried], *, written: Mapping[str, int], differences: Mapping[str, float]
) -> dict[str, Row]:
    """Return a row for each linear; bytes and differences are by linear."""
    return {
        linear: Row(
            each.kind, each.type, each.reason, manifest.linears[linear].bytes, written[linear], differences[linear]
        )
        for linear, each in carried.items()
    }


def hashes(directory: Path) -> dict[str, Written]:
    """Return length and SHA-256 of each file of a directory."""
    return {path.name: Written(path.stat().st_size, sha256_of(path)) for path in sorted(directory.iterdir())}


def write_card(record: Record, directory: Path) -> None:
    """Write `README.md`."""
    origin, totals = record.manifest.origin, record.manifest.totals
    text = _CARD.format(
        name=origin.model,
        to=record.to,
        how=_HOW[record.to],
        revision=f" at {origin.revision}" if origin.revision else "",
        method=origin.method,
        recipe=origin.recipe_sha256,
        counts=", ".join(f"{count} {kind}" for kind, count in record.kinds().items()),
        bits=totals.bits_per_weight,
        file_bytes=record.file_bytes,
        packed=totals.file_bytes,
        bf16=totals.dense_bf16_bytes,
        version=VERSION,
        record=NAME,
        notes="".join(f"Note: {note}.\n" for note in record.notes),
    )
    write_text(directory / "README.md", text)
