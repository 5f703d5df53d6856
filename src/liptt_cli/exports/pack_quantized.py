"""A packed model as compressed-tensors' `pack-quantized` at two bits, which stock transformers and vLLM load.

Of a matrix of signs there are three tensors: `weight_packed`, two-bit codes q + 2 of the levels q = -1 and +1, sixteen
in an int32 from the least significant bit, rows padded to whole words; `weight_scale` (rows, groups), float16 as in our
own file; `weight_shape`. Anything else stays a plain matrix and is named under `ignore`.

vLLM runs q/k/v, and gate/up, as one linear each, so these must be of one kind; `carrying.fused_alike` sees to that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.exports.carrying import Carried, two_bit_group
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.exports.signs import codes_of, scales_of
from liptt_cli.forms.leaves import GridForm
from liptt_cli.packing.artifact import copy_companions, headers, write_config
from liptt_cli.packing.densified import matrix_piece
from liptt_cli.packing.tensor_file import Piece, Written, write_shards

_CODES_A_WORD = 16
_OFFSET = 2
_PARTS = ("weight_packed", "weight_scale", "weight_shape")


@dataclass(frozen=True)
class PackQuantizedJob:
    """What is to be written, and how."""

    model: PackedModel
    carried: Mapping[str, Carried]
    dtype: str  # of what is densified, as in config.json


def write(job: PackQuantizedJob, directory: Path, *, shard_bytes: int) -> dict[str, Written]:
    """Write the model into an existing, empty directory, one matrix in memory at a time."""
    pieces = [piece for stored in job.model.pieces for piece in _pieces(job, stored)]
    files = write_shards(directory, pieces, shard_bytes=shard_bytes)
    section = {"quantization_config": _section(job), "dtype": job.dtype}
    files["config.json"] = write_config(job.model.path, directory, section)
    return files | copy_companions(job.model.path, directory)


def read_back(job: PackQuantizedJob, directory: Path) -> dict[str, float]:
    """Decode every tensor of the files and compare it with the packed model's.

    Returns:
        The largest difference of a number of each tensor, by the packed model's names; 0.0 where it must be.

    Raises:
        IntegrityError: naming the tensor that is not what was meant.
    """
    pieces = headers(sorted(directory.glob("*.safetensors")))
    wanted = {name for stored in job.model.pieces for name in _names(job, stored)}
    if set(pieces) != wanted:
        raise IntegrityError(f"{directory}: its tensors are not those that were written")
    return {stored: _difference(job, stored, pieces) for stored in job.model.pieces}


def written_bytes(job: PackQuantizedJob, directory: Path) -> dict[str, int]:
    """Return the bytes of each of the packed model's tensors in the files."""
    pieces = headers(sorted(directory.glob("*.safetensors")))
    return {stored: sum(pieces[name].bytes for name in _names(job, stored)) for stored in job.model.pieces}


def _is_packed(job: PackQuantizedJob, stored: str) -> bool:
    linear = job.model.linears.get(stored)
    return linear is not None and job.carried[linear].kind == "exact"


def _names(job: PackQuantizedJob, stored: str) -> list[str]:
    stem = stored.removesuffix("weight")
    return [stem + part for part in _PARTS] if _is_packed(job, stored) else [stored]


def _pieces(job: PackQuantizedJob, stored: str) -> list[Piece]:
    if stored in job.model.tables:
        return [matrix_piece(job.model.overlay, job.model.tables[stored], stored=stored, dtype=job.dtype)]
    if stored not in job.model.linears:
        return [job.model.pieces[stored]]
    linear = job.model.linears[stored]
    if not _is_packed(job, stored):
        return [matrix_piece(job.model.overlay, linear, stored=stored, dtype=job.dtype)]
    form = _sign_form(job.model, linear)
    (rows, columns), group = form.shape, two_bit_group(form)
    stem = stored.removesuffix("weight")
    words, groups = -(-columns // _CODES_A_WORD), 1 if group is None else columns // group

    def codes() -> Iterator[bytes]:
        yield _words(codes_of(job.model.value(stored))).tobytes()

    def scales() -> Iterator[bytes]:
        yield scales_of(job.model.value(stored), columns=group or columns).tobytes()

    def shape() -> Iterator[bytes]:
        yield np.array([rows, columns], dtype="<i8").tobytes()

    return [
        Piece(f"{stem}{_PARTS[0]}", "I32", (rows, words), codes),
        Piece(f"{stem}{_PARTS[1]}", "F16", (rows, groups), scales),
        Piece(f"{stem}{_PARTS[2]}", "I64", (2,), shape),
    ]


def _sign_form(model: PackedModel, linear: str) -> GridForm:
    form = model.forms[linear]
    if not isinstance(form, GridForm):
        raise TypeError(f"{linear}: {type(form).__name__} has no codes to write")
    return form


def _words(codes: UInt8[np.ndarray, "rows columns"]) -> Int32[np.ndarray, "rows words"]:
    """Return two-bit codes of signs, sixteen in a word."""
    numbers = 2 * codes.astype(np.uint32) + (_OFFSET - 1)
    numbers = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % _CODES_A_WORD)))
    places = 2 * np.arange(_CODES_A_WORD, dtype=np.uint32)
    words: np.ndarray = np.bitwise_or.reduce(numbers.reshape(len(numbers), -1, _CODES_A_WORD) << places, axis=2)
    return words.astype("<u4").view("<i4")


def _section(job: PackQuantizedJob) -> dict[str, Any]:
    """Return `quantization_config`: one group of linears for each size of scale groups."""
    packed = [linear for stored, linear in job.model.linears.items() if _is_packed(job, stored)]
    by_group: dict[int | None, list[str]] = {}
    for linear in packed:
        by_group.setdefault(two_bit_group(_sign_form(job.model, linear)), []).append(linear)
    names = list(by_group.values())
    groups = {
        f"group_{number}": {
            "targets": ["Linear"] if len(names) == 1 else names[number],
            "weights": _scheme(group),
            "input_activations": None,
            "output_activations": None,
        }
        for number, group in enumerate(by_group)
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": _ignored(job),
    }


def _scheme(group: int | None) -> dict[str, Any]:
    strategy = "channel" if group is None else "group"
    return {"num_bits": 2, "type": "int", "symmetric": True, "strategy": strategy, "group_size": group}


def _ignored(job: PackQuantizedJob) -> Sequence[str]:
    """Return the modules with a matrix that stays plain, and the head, which may share the embeddings' matrix."""
    plain = {
        job.model.linears.get(stored, stored.removesuffix(".weight"))
        for stored in job.model.pieces
        if stored.endswith(".weight") and not _is_packed(job, stored) and len(job.model.shape(stored)) == 2
    }
    return sorted(plain | {"lm_head"})


def _difference(job: PackQuantizedJob, stored: str, pieces: Mapping[str, Piece]) -> float:
    names = _names(job, stored)
    if stored not in job.model.linears and stored not in job.model.tables:
        if b"".join(pieces[stored].read()) != b"".join(job.model.pieces[stored].read()):
            raise IntegrityError(f"{stored}: read back, it is not what the packed model has")
        return 0.0
    meant = job.model.value(stored).dense(torch.float32)
    if _is_packed(job, stored):
        found, expected = _unpacked(*(b"".join(pieces[name].read()) for name in names)), meant
    else:
        found = _plain(pieces[stored])
        expected = meant.to(getattr(torch, job.dtype)).float()
    if not torch.equal(found, expected):
        raise IntegrityError(f"{stored}: read back, it is not what the packed model has")
    return float((found - meant).abs().max())


def _unpacked(codes: bytes, scales: bytes, shape: bytes) -> Float[Tensor, "rows columns"]:
    """Return the matrix behind the three tensors, code by code."""
    rows, columns = np.frombuffer(shape, dtype="<i8")
    words = np.frombuffer(codes, dtype="<u4").reshape(rows, -1)
    places = np.arange(columns)
    levels = (words[:, places // _CODES_A_WORD] >> (2 * (places % _CODES_A_WORD)).astype(np.uint32) & 3).astype(
        np.float32
    )
    steps = np.frombuffer(scales, dtype="<f2").reshape(rows, -1).astype(np.float32)
    return torch.from_numpy((levels - _OFFSET) * np.repeat(steps, columns // steps.shape[1], axis=1))


def _plain(piece: Piece) -> Float[Tensor, "rows columns"]:
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[piece.dtype]
    return torch.frombuffer(bytearray(b"".join(piece.read())), dtype=dtype).reshape(piece.shape).float()
