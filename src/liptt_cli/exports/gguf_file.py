"""A packed model as one GGUF file, and that file read back; the only room that knows the package `gguf`.

Matrices of signs are written as codes, with the rows of q and k in llama.cpp's order; vectors as float32; embeddings,
head and linears that were not compressed in one plain type. Each tensor is written, and later read back, on its own.
"""

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.exports.carrying import BLOCK_COLUMNS, PLAIN, Carried, GgufType, TableType
from liptt_cli.exports.gguf_blocks import decode_q1_0, encode_q8_0, encode_signs
from liptt_cli.exports.gguf_entries import Entry
from liptt_cli.exports.gguf_model import Architecture, gguf_name
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.exports.signs import codes_of, scales_of

NAME = "model.gguf"
_FACTORS = "rope_freqs.weight"
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
_HALF_STEP_SHARE = 1 / 253  # of the largest entry of a block of Q8_0: 127 steps of it, the float16 step included


@dataclass(frozen=True)
class GgufJob:
    """What is to be written, and how: a type for each compressed linear, and one for embeddings, head and the rest."""

    model: PackedModel
    architecture: Architecture
    vocabulary: tuple[Entry, ...]
    carried: Mapping[str, Carried]
    tables: TableType = "F16"


@dataclass(frozen=True)
class _Planned:
    """One tensor: where it comes from, where it goes, and as what."""

    stored: str
    name: str
    type: GgufType
    shape: tuple[int, ...]

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Return the shape in bytes, or in numbers where the type is a plain one."""
        if self.type in PLAIN:
            return self.shape
        found: tuple[int, ...] = gguf.quant_shape_to_byte_shape(self.shape, gguf.GGMLQuantizationType[self.type])
        return found

    @property
    def bytes(self) -> int:
        """Return the bytes of the tensor."""
        return math.prod(self.byte_shape) * (_DTYPES[self.type].itemsize if self.type in PLAIN else 1)


def write(job: GgufJob, path: Path) -> None:
    """Write the file, one tensor in memory at a time."""
    planned = list(_planned(job))
    with closing(gguf.GGUFWriter(path, job.architecture.name)) as writer:
        for entry in _entries(job, planned):
            _add(writer, entry)
        factors = job.architecture.rope_factors
        if factors is not None:
            writer.add_tensor_info(_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for each in planned:
            kind = gguf.GGMLQuantizationType[each.type]
            dtype = np.dtype(np.float16 if each.type in PLAIN else np.uint8)  # uint8: the shape is one of bytes
            writer.add_tensor_info(each.name, each.byte_shape, dtype, each.bytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            _put(writer, factors)
        for each in planned:
            _put(writer, _encoded(job, each))


def read_back(job: GgufJob, path: Path) -> dict[str, float]:
    """Decode every tensor of the file and compare it with the packed model's.

    Returns:
        The largest difference of a number of each tensor, by the packed model's names; 0.0 where it must be.

    Raises:
        IntegrityError: naming the key or the tensor that is not what was meant.
    """
    reader = gguf.GGUFReader(path)
    planned = list(_planned(job))
    _require_entries(reader, _entries(job, planned), path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    factors = job.architecture.rope_factors
    extra = set() if factors is None else {_FACTORS}
    if set(found) != {each.name for each in planned} | extra:
        raise IntegrityError(f"{path}: its tensors are not those that were written")
    if factors is not None and not np.array_equal(found[_FACTORS].data, factors):
        raise IntegrityError(f"{path}: {_FACTORS} read back is not what was written")
    return {each.stored: _difference(job, each, found[each.name], path) for each in planned}


def written_bytes(job: GgufJob) -> dict[str, int]:
    """Return the bytes of each tensor in the file, by the packed model's names."""
    return {each.stored: each.bytes for each in _planned(job)}


def numbers(job: GgufJob, path: Path) -> dict[str, Float[Tensor, "*shape"]]:
    """Return all tensors of a file under the packed model's names and in its order of rows, in float32."""
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    return {each.stored: _decoded(job, each, found[each.name]) for each in _planned(job)}


def _planned(job: GgufJob) -> Iterator[_Planned]:
    tied = job.model.config.get("tie_word_embeddings")
    for stored in job.model.pieces:
        name = gguf_name(stored)
        if name is None or (tied and name == "output.weight"):
            continue
        linear = job.model.linears.get(stored)
        shape = job.model.shape(stored)
        yield _Planned(stored, name, _type(job, linear, shape), shape)


def _type(job: GgufJob, linear: str | None, shape: tuple[int, ...]) -> GgufType:
    if linear is not None:
        found: GgufType = job.carried[linear].type  # type: ignore[assignment]  # of a GGUF export it is one
        return found
    if len(shape) == 1:
        return "F32"
    block = BLOCK_COLUMNS.get(job.tables, 1)
    return job.tables if shape[-1] % block == 0 else "F16"


def _entries(job: GgufJob, planned: list[_Planned]) -> list[Entry]:
    origin = job.model.manifest.origin
    of_linears = [each.type for each in planned if each.stored in job.model.linears] or ["F16"]
    mostly = max(sorted(set(of_linears)), key=of_linears.count)
    kind = "ALL_F32" if mostly == "F32" else f"MOSTLY_{mostly}"
    described = f"{origin.model} compressed by liptt {job.model.manifest.liptt_version}, method {origin.method}"
    general = [
        Entry("general.type", "model"),
        Entry("general.name", origin.model),
        Entry("general.description", described),
        Entry("general.quantized_by", "liptt"),
        Entry("general.file_type", int(gguf.LlamaFileType[kind])),
        Entry("general.quantization_version", int(gguf.GGML_QUANT_VERSION)),
    ]
    return [*general, *job.architecture.entries, *job.vocabulary]


def _add(writer: Any, entry: Entry) -> None:  # Any: the package's writer, whose methods are named by type
    if entry.key == "general.architecture":
        return  # the writer has put it first
    if isinstance(entry.value, bool):
        writer.add_bool(entry.key, entry.value)
    elif isinstance(entry.value, str):
        writer.add_string(entry.key, entry.value)
    elif isinstance(entry.value, int):
        writer.add_uint32(entry.key, entry.value)
    elif isinstance(entry.value, float):
        writer.add_float32(entry.key, entry.value)
    else:
        writer.add_array(entry.key, entry.value)


def _put(writer: Any, data: np.ndarray) -> None:  # Any: as above
    try:
        writer.write_tensor_data(data)
    except OSError as error:
        if error.errno is None:  # numpy tells a write that fell short in words alone
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def _encoded(job: GgufJob, each: _Planned) -> np.ndarray:
    linear = job.model.linears.get(each.stored)
    if linear is not None and job.carried[linear].kind == "exact" and each.type not in PLAIN:
        value = job.model.value(each.stored)
        data = encode_signs(each.type, codes_of(value), scales_of(value, columns=BLOCK_COLUMNS[each.type]))
    else:
        data = _plain(_meant(job, each), each.type)
    rows = job.architecture.rows(each.stored, len(data))
    return np.ascontiguousarray(data if rows is None else data[rows])


def _plain(matrix: Float[Tensor, "*shape"], name: GgufType) -> np.ndarray:
    if name == "Q8_0":
        return encode_q8_0(matrix.numpy())
    stored = matrix.to(_DTYPES[name])
    return stored.view(torch.int16).numpy() if name == "BF16" else stored.numpy()


def _meant(job: GgufJob, each: _Planned) -> Float[Tensor, "*shape"]:
    """Return the packed model's numbers in float32."""
    if each.stored in job.model.linears:
        return job.model.value(each.stored).dense(torch.float32)
    return job.model.tensor(each.stored).float()


def _decoded(job: GgufJob, each: _Planned, tensor: Any) -> Float[Tensor, "*shape"]:
    data = np.asarray(tensor.data)
    if each.type == "Q1_0":
        matrix = decode_q1_0(data)
    else:
        matrix = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[each.type])
    rows = job.architecture.rows(each.stored, len(matrix))
    ours = matrix if rows is None else matrix[np.argsort(rows)]
    return torch.from_numpy(np.array(ours, dtype=np.float32)).reshape(each.shape)


def _difference(job: GgufJob, each: _Planned, tensor: Any, path: Path) -> float:
    if tensor.tensor_type.name != each.type:
        raise IntegrityError(f"{path}: {each.name} is of type {tensor.tensor_type.name}, not {each.type}")
    found, meant = _decoded(job, each, tensor), _meant(job, each)
    linear = job.model.linears.get(each.stored)
    expected = meant
    if each.type in PLAIN and (linear is None or job.carried[linear].kind != "exact"):
        expected = meant.to(_DTYPES[each.type]).float()
    rounded = each.type == "Q8_0" and (linear is None or job.carried[linear].kind != "exact")
    same = _within_half_step(found, meant) if rounded else torch.equal(found, expected)
    difference = float((found - meant).abs().max()) if meant.numel() else 0.0
    if not math.isfinite(difference):
        raise IntegrityError(f"{each.stored}: a number of it does not fit {each.type}; use BF16 or F32 there")
    if not same:
        raise IntegrityError(
            f"{path}: {each.name} read back is not {each.stored} of the packed model (off by {difference:.3g})"
        )
    return difference


def _within_half_step(found: Float[Tensor, "rows columns"], meant: Float[Tensor, "rows columns"]) -> bool:
    blocks = meant.reshape(-1, BLOCK_COLUMNS["Q8_0"])
    allowed = blocks.abs().amax(1, keepdim=True) * _HALF_STEP_SHARE + torch.finfo(torch.float16).smallest_normal
    return bool(((found.reshape_as(blocks) - blocks).abs() <= allowed).all())


def _require_entries(reader: Any, entries: list[Entry], path: Path) -> None:
    for entry in entries:
        field = reader.get_field(entry.key)
        value = None if field is None else field.contents()
        meant = float(np.float32(entry.value)) if isinstance(entry.value, float) else entry.value
        if isinstance(meant, list) and meant and isinstance(meant[0], float):
            meant = [float(np.float32(each)) for each in meant]
        if value != (list(meant) if isinstance(meant, tuple) else meant):
            raise IntegrityError(f"{path}: key {entry.key} read back is not what was written")
