"""The manifest of a packed model, `liptt.json`: every file's hash, every linear's bytes, the honest totals. Torch-free.

    bits per weight = 8 x payload bytes / original weights

The payload is the blobs of the compressed linears, padding included; embedding and head stand beside it if they are
rounded. The manifest carries the hash of its own content,
so that a flipped byte in it is seen too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.base import Form, Operations, blob_bytes
from liptt_cli.packing.section import FORMAT_VERSION, Origin, check_version, read_section
from liptt_cli.packing.tensor_file import Written, write_text
from liptt_cli.version import VERSION

NAME = "liptt.json"
_OWN_HASH = "sha256_of_this"


@dataclass(frozen=True)
class Linear:
    """What one linear, or table, became."""

    bytes: int
    weights: int

    @property
    def bits_per_weight(self) -> float:
        """Return its honest bits."""
        return 8 * self.bytes / self.weights


@dataclass(frozen=True)
class Totals:
    """The sums behind the three claims: size, operations and (elsewhere) accuracy.

    `file_bytes` are all weight files; `dense_file_bytes` those of the source in its own dtype, `dense_bf16_bytes` the
    same tensors at two bytes an entry. Operations are those of the compressed linears, for one token.
    """

    payload_bytes: int
    weights: int
    file_bytes: int
    dense_file_bytes: int
    dense_bf16_bytes: int
    sign_additions: int
    multiplications: int

    @property
    def bits_per_weight(self) -> float:
        """Return the honest bits."""
        return 8 * self.payload_bytes / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class Manifest:
    """A packed model's description of itself."""

    origin: Origin
    files: Mapping[str, Written]
    linears: Mapping[str, Linear]
    totals: Totals
    fingerprint: Mapping[str, Any] | None = None
    format_version: int = FORMAT_VERSION
    liptt_version: str = field(default=VERSION)
    tables: Mapping[str, Linear] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON, bits and its own hash included."""
        data = asdict(self)
        data["totals"]["bits_per_weight"] = round(self.totals.bits_per_weight, 6)
        for kind, found in (("linears", self.linears), ("tables", self.tables)):
            for name, linear in found.items():
                data[kind][name]["bits_per_weight"] = round(linear.bits_per_weight, 6)
        return {**data, _OWN_HASH: _hash(data)}

    def write(self, directory: Path) -> None:
        """Write `liptt.json`."""
        write_text(directory / NAME, json.dumps(self.to_json(), indent=1) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """Read `liptt.json`.

    Raises:
        ModelError: if the directory is no packed model.
        IntegrityError: if it is absent, unreadable or not what was written.
        FormatVersionError: if the model is of a newer format.
    """
    file = directory / NAME
    if not file.is_file():
        read_section(directory)  # refuses what is no packed model
        raise IntegrityError(f"{file}: missing; the export did not finish, or the copy did not; make it again")
    try:
        data = json.loads(file.read_bytes())
        check_version(data["format_version"], place=str(file))
        if data.pop(_OWN_HASH) != _hash(data):
            raise ValueError(_OWN_HASH)
        return _from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{file}: corrupt, its content is not what was written; export the model again") from error


def linears_of(forms: Mapping[str, Form]) -> dict[str, Linear]:
    """Return bytes and weights of each linear, or table."""
    return {name: Linear(blob_bytes(form), form.shape[0] * form.shape[1]) for name, form in forms.items()}


def operations_of(forms: Mapping[str, Form]) -> Operations:
    """Return what one token costs in all linears together."""
    return sum((form.operations() for form in forms.values()), Operations(0, 0))


def _from_json(data: Mapping[str, Any]) -> Manifest:
    totals = {name: value for name, value in data["totals"].items() if name != "bits_per_weight"}
    return Manifest(
        origin=Origin(**data["origin"]),
        files={name: Written(**written) for name, written in data["files"].items()},
        linears=_linears(data["linears"]),
        tables=_linears(data.get("tables", {})),
        totals=Totals(**totals),
        fingerprint=data["fingerprint"],
        format_version=data["format_version"],
        liptt_version=data["liptt_version"],
    )


def _linears(data: Mapping[str, Any]) -> dict[str, Linear]:
    return {name: Linear(entry["bytes"], entry["weights"]) for name, entry in data.items()}


def _hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
