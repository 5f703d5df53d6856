"""The tensors of a model directory, read one by one from its safetensors files.

Opening reads every header, so that a truncated shard, or an index that promises what its files do not hold, is refused
before any work is done; tensors are read only when they are asked for. Names may differ from the file's by the prefix
of the base model (`layers.0.x` saved, `model.layers.0.x` asked), as transformers allows, or as Mixtral's do.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from liptt_cli.errors import IntegrityError, ModelError
from liptt_cli.planning.experts import parts_of, stored_as

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Entry(NamedTuple):
    """Where one tensor is stored, and what the header says of it."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


class Shards:
    """The safetensors files of one directory as a mapping from names to tensors that stay on disk."""

    def __init__(self, directory: Path) -> None:
        """Read the headers of all shards.

        Raises:
            ModelError: if there are no safetensors files, one cannot be read, or the index and the files disagree.
        """
        self.directory = directory
        index = directory / INDEX_NAME
        whole = directory / SINGLE_NAME  # first, as transformers reads: an index beside it is a stale one
        single = whole.is_file() or not index.is_file()
        self._entries = _headers(_single_file(directory)) if single else _indexed(index)
        self._parts = parts_of({name: entry.shape for name, entry in self._entries.items()})
        self._prefixes = sorted({name.split(".", 1)[0] + "." for name in self._entries})

    def __contains__(self, name: str) -> bool:
        """Say whether `name` is stored, possibly under another prefix of the base model."""
        return self._stored_name(name) is not None

    def names(self) -> tuple[str, ...]:
        """Return the stored names, in the order of the files."""
        return tuple(self._entries)

    def files(self) -> tuple[Path, ...]:
        """Return the files that hold the tensors, each once."""
        return tuple(dict.fromkeys(entry.file for entry in self._entries.values()))

    def parameters(self) -> int:
        """Return how many values are stored in all; of a packed model this counts bytes, not weights."""
        return sum(math.prod(entry.shape) for entry in self._entries.values())

    def main_dtype(self) -> torch.dtype:
        """Return the dtype in which most values are stored."""
        counts: Counter[torch.dtype] = Counter()
        for entry in self._entries.values():
            counts[entry.dtype] += math.prod(entry.shape)
        return counts.most_common(1)[0][0]

    def resolve(self, name: str) -> str:
        """Return the name under which the tensor `name` is stored.

        Raises:
            ModelError: if it is stored neither as it is nor with the first part of its name added or left out.
        """
        stored = self._stored_name(name)
        if stored is None:
            raise ModelError(
                f"{self.directory}: no tensor {name!r} among the {len(self._entries)} stored ones; the weights are "
                "incomplete or belong to another config.json. Download or save the model again."
            )
        return stored

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the tensor `name` without reading it."""
        stored = self.resolve(name)
        return self._parts[stored].shape if stored in self._parts else self._entries[stored].shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the stored dtype of the tensor `name` without reading it."""
        return self._entry(self.resolve(name)).dtype

    def file_of(self, name: str) -> Path:
        """Return the file that holds the tensor `name`."""
        return self._entry(self.resolve(name)).file

    def read(self, names: Iterable[str], *, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Read the named tensors into memory of their own.

        Args:
            names: as the model calls them; each is resolved.
            dtype: what floating-point tensors are converted to (None: as stored); integers stay as they are.

        Returns:
            The tensors under the names that were asked for, in that order.

        Raises:
            ModelError: if a tensor is not stored, or its file can no longer be read.
            IntegrityError: if a tensor holds NaN or Inf.
        """
        wanted = {name: self.resolve(name) for name in names}
        by_file: dict[Path, list[str]] = {}
        for name, stored in wanted.items():
            by_file.setdefault(self._entry(stored).file, []).append(name)
        found: dict[str, Tensor] = {}
        for file, asked in by_file.items():
            try:
                with safe_open(file, framework="pt") as shard:
                    found.update({name: _own(self._tensor(shard, wanted[name]), dtype) for name in asked})
            except (SafetensorError, OSError) as error:
                raise _unreadable(file, error) from error
            for name in asked:
                require_finite(found[name], name=wanted[name], place=file)
        return {name: found[name] for name in wanted}

    def _entry(self, stored: str) -> Entry:
        """Return what the header says of a tensor, or of the fused one that it is a part of."""
        return self._entries[self._parts[stored].fused if stored in self._parts else stored]

    def _tensor(self, shard: Any, stored: str) -> Tensor:
        if stored not in self._parts:
            whole: Tensor = shard.get_tensor(stored)
            return whole
        part = self._parts[stored]
        matrix: Tensor = shard.get_slice(part.fused)[part.number, part.first : part.first + part.shape[0]]
        return matrix

    def _stored_name(self, name: str) -> str | None:
        return self._under_prefix(name) or self._under_prefix(stored_as(name))

    def _under_prefix(self, name: str) -> str | None:
        if self._holds(name):
            return name
        longer = [prefix + name for prefix in self._prefixes if self._holds(prefix + name)]
        shorter = name.partition(".")[2]
        candidates = longer + ([shorter] if self._holds(shorter) else [])
        return candidates[0] if len(candidates) == 1 else None

    def _holds(self, stored: str) -> bool:
        return stored in self._entries or stored in self._parts


def require_finite(tensor: Tensor, *, name: str, place: Path) -> None:
    """Refuse a floating-point tensor that holds NaN or Inf.

    Raises:
        IntegrityError: naming the tensor, the file or directory it came from, and how many values are not finite.
    """
    if not tensor.is_floating_point() or tensor.is_meta:
        return
    values = tensor.float() if tensor.element_size() == 1 else tensor
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise IntegrityError(
            f"{place}: tensor {name!r} holds {broken} NaN or Inf values of {tensor.numel()}; a model with such weights "
            "cannot be compressed or measured. Download it again, or go back to a checkpoint before it diverged."
        )


def _own(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a copy outside the mapped file, converted if it is floating-point."""
    keeps = dtype is None or not tensor.is_floating_point()
    return tensor.clone() if keeps else tensor.to(dtype, copy=True)


def _single_file(directory: Path) -> Path:
    file = directory / SINGLE_NAME
    if file.is_file():
        return file
    found = sorted(directory.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(
            f"{directory}: {len(found)} safetensors files ({found[0].name}, ..) but no {INDEX_NAME} that says which "
            "tensor lies where; the download did not finish, or the index was left out. Fetch the index too."
        )
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in directory.glob(pattern))
    if pickles:
        raise ModelError(
            f"{directory}: weights only as pickle ({pickles[0]}), which can run code when it is read; convert them to "
            "safetensors first, with `save_pretrained` of a loaded model."
        )
    raise ModelError(
        f"{directory}: no weights: neither {SINGLE_NAME} nor {INDEX_NAME} is there; give a directory with both "
        "config.json and safetensors files."
    )


def _indexed(index: Path) -> dict[str, Entry]:
    try:
        weight_map: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(index, error) from error
    directory = index.parent
    absent = sorted({file for file in weight_map.values() if not (directory / file).is_file()})
    if absent:
        raise ModelError(
            f"{directory / absent[0]}: this shard is absent although {index.name} names it "
            f"({len(absent)} of {len(set(weight_map.values()))} shards are absent); fetch the model again."
        )
    headers = {file: _headers(directory / file) for file in dict.fromkeys(weight_map.values())}
    for name, file in weight_map.items():
        if name not in headers[file]:
            raise ModelError(
                f"{directory / file}: no tensor {name!r} in this shard although {index.name} says so; shards and index "
                "are not from one save. Fetch the model again."
            )
    return {name: headers[file][name] for name, file in weight_map.items()}


def _headers(file: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    try:
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - the handle is no mapping and cannot be iterated
                header = shard.get_slice(name)
                if header.get_dtype() not in DTYPES:
                    raise ModelError(f"{file}: tensor {name!r} has the unknown dtype {header.get_dtype()}.")
                entries[name] = Entry(file, tuple(header.get_shape()), DTYPES[header.get_dtype()])
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from error
    if not entries:
        raise ModelError(f"{file}: holds no tensors; fetch the model again.")
    return entries


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{file}: cannot be read, truncated or corrupt ({type(error).__name__}: {error}); it has {_bytes(file)} bytes. "
        "Fetch this file again."
    )


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
