"""A packed model written as a plain one: every blob becomes the matrix that it stands for.

Stock programs load it, at the size of the dense model. The matrices have the dtype of the packed model's `config.json`;
other tensors are copied as they are.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from liptt_cli.packing.artifact import copy_companions, headers, write_config
from liptt_cli.packing.overlay import Overlay, resolve
from liptt_cli.packing.tensor_file import Piece, Written, write_shards

_DTYPES = {"float32": ("F32", torch.float32), "bfloat16": ("BF16", torch.bfloat16), "float16": ("F16", torch.float16)}


def write_dense(directory: Path, *, packed: Path, shard_bytes: int) -> dict[str, Written]:
    """Write the plain model into an existing, empty directory, one matrix in memory at a time.

    Raises:
        IntegrityError: if the packed model is corrupt.
    """
    overlay = Overlay.of_packed(packed)
    pieces = headers(sorted(packed.glob("*.safetensors")))
    dtype = json.loads((packed / "config.json").read_text(encoding="utf8"))["dtype"]
    for linear in overlay.forms:
        stored = resolve(f"{linear}.weight", pieces)
        if stored is not None:
            pieces[stored] = _matrix(overlay, linear, stored=stored, dtype=dtype)
    files = write_shards(directory, list(pieces.values()), shard_bytes=shard_bytes)
    files["config.json"] = write_config(packed, directory, {"quantization_config": None})
    return files | copy_companions(packed, directory)


def _matrix(overlay: Overlay, linear: str, *, stored: str, dtype: str) -> Piece:
    name, kind = _DTYPES[dtype]

    def read() -> Iterator[bytes]:
        matrix = overlay.value(linear).dense(torch.float32).to(kind)
        yield matrix.contiguous().flatten().view(torch.uint8).numpy().tobytes()

    return Piece(stored, name, overlay.forms[linear].shape, read)
