"""What a model takes on disk, packed or dense: bytes of its weight files, and honest bits a weight of its linears."""

import json
from dataclasses import dataclass
from pathlib import Path

from liptt_cli.packing.manifest import NAME, read_manifest
from liptt_cli.planning.sites import read_headers, shape_from_headers


@dataclass(frozen=True)
class Stored:
    """Bytes and bits; no bits of what another program packed, which we cannot count."""

    file_bytes: int
    bits_per_weight: float | None


def stored(directory: Path) -> Stored:
    """Return what the model in a directory takes.

    Raises:
        IntegrityError: if the manifest of a packed model is not what was written.
        ModelError: if a weight file cannot be read, or there are no linears.
    """
    file_bytes = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    return Stored(file_bytes, _bits(directory))


def _bits(directory: Path) -> float | None:
    if (directory / NAME).is_file():
        return read_manifest(directory).totals.bits_per_weight
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        return None
    return 8.0 * shape_from_headers(read_headers(directory)).site_dtype_bytes
