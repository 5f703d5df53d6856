"""A packed model written as a plain one: every blob becomes the matrix that it stands for.

Stock programs load it, at the size of the dense model. The matrices have the dtype of the packed model's `config.json`,
and other tensors are copied as they are; or all have the dtype that is asked for.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from liptt_cli.packing.artifact import copy_companions, headers, write_config
from liptt_cli.packing.overlay import Overlay, read_tensor, resolve
from liptt_cli.packing.tensor_file import Piece, Written, write_shards

_DTYPES = {"float32": ("F32", torch.float32), "bfloat16": ("BF16", torch.bfloat16), "float16": ("F16", torch.float16)}
_FLOATS = frozenset(name for name, _ in _DTYPES.values())


def write_dense(directory: Path, *, packed: Path, shard_bytes: int, dtype: str | None = None) -> dict[str, Written]:
    """Write the plain model into an existing, empty directory, one matrix in memory at a time.

    Raises:
        IntegrityError: if the packed model is corrupt.
    """
    overlay = Overlay.of_packed(packed)
    pieces = headers(sorted(packed.glob("*.safetensors")))
    said: str = json.loads((packed / "config.json").read_text(encoding="utf8"))["dtype"]
    if dtype is not None:
        pieces = {name: _cast(piece, dtype) for name, piece in pieces.items()}
    for linear in overlay.packed:
        stored = resolve(f"{linear}.weight", pieces)
        if stored is not None:
            pieces[stored] = matrix_piece(overlay, linear, stored=stored, dtype=dtype or said)
    files = write_shards(directory, list(pieces.values()), shard_bytes=shard_bytes)
    changes = {"quantization_config": None, "dtype": dtype or said}
    files["config.json"] = write_config(packed, directory, changes)
    return files | copy_companions(packed, directory)


def matrix_piece(overlay: Overlay, linear: str, *, stored: str, dtype: str) -> Piece:
    """Return the matrix that the blob of a linear or table stands for, under the blob's stored name."""

    def read() -> Iterator[bytes]:
        yield _bytes(overlay.value(linear).dense(torch.float32), dtype)

    return Piece(stored, _DTYPES[dtype][0], overlay.packed[linear].shape, read)


def _cast(piece: Piece, dtype: str) -> Piece:
    if piece.dtype not in _FLOATS:
        return piece

    def read() -> Iterator[bytes]:
        yield _bytes(read_tensor(piece), dtype)

    return replace(piece, dtype=_DTYPES[dtype][0], read=read)


def _bytes(tensor: Tensor, dtype: str) -> bytes:
    cast = tensor.to(_DTYPES[dtype][1]).contiguous().flatten()
    return cast.view(torch.uint8).numpy().tobytes()
