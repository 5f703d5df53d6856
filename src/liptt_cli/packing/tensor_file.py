"""Safetensors files read by their headers and written tensor by tensor: memory holds one, not a shard. Torch-free.

A file is eight bytes of header length, a JSON header, then the tensors end to end. Wide dtypes go first, as with the
format's own writer, so that each tensor lies at a multiple of its element.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from liptt_cli.errors import IntegrityError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ELEMENT_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
_CHUNK_BYTES = 1 << 24
_HEADER_ALIGNMENT = 8
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Piece:
    """One tensor to be written: what the header says of it, and its bytes when they are asked for.

    One that was read from a file knows where it begins there.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Iterator[bytes]]
    begins: tuple[Path, int] | None = None

    @property
    def entries(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Return the number of bytes."""
        return self.entries * ELEMENT_BYTES[self.dtype]


@dataclass(frozen=True)
class Written:
    """A file that was written: its bytes and their sha256."""

    bytes: int
    sha256: str


def read_header(path: Path) -> tuple[dict[str, Piece], dict[str, str]]:
    """Return the tensors of a file, not yet read, in the order in which they lie there, and its metadata.

    Raises:
        IntegrityError: if the header is unreadable, or promises more or fewer bytes than the file has.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        metadata = header.pop("__metadata__", {})
        pieces = {name: _piece(path, name, data, start=8 + length) for name, data in header.items()}
        end = 8 + length + max((data["data_offsets"][1] for data in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: its header cannot be read; the file is truncated or corrupt") from error
    if path.stat().st_size != end:
        raise IntegrityError(f"{path}: {path.stat().st_size} bytes, but its header promises {end}")
    return pieces, metadata


def split(pieces: Sequence[Piece], *, shard_bytes: int) -> list[list[Piece]]:
    """Fill files of at most `shard_bytes` in the given order; a larger tensor gets a file of its own."""
    shards: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        if not shards or piece.bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(piece)
        room -= piece.bytes
    return shards


def write_shards(directory: Path, pieces: Sequence[Piece], *, shard_bytes: int) -> dict[str, Written]:
    """Write `model.safetensors`, or numbered files and their index; return what was written by file name."""
    shards = split(pieces, shard_bytes=shard_bytes)
    if len(shards) == 1:
        return {SINGLE: write_pieces(directory / SINGLE, shards[0])}
    written: dict[str, Written] = {}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        written[name] = write_pieces(directory / name, shard)
        weight_map |= {piece.name: name for piece in shard}
    index = {"metadata": {"total_size": sum(piece.bytes for piece in pieces)}, "weight_map": weight_map}
    return {**written, INDEX: write_text(directory / INDEX, json.dumps(index, indent=2) + "\n")}


def write_pieces(path: Path, pieces: Sequence[Piece], *, metadata: Mapping[str, str] | None = None) -> Written:
    """Write one file, a tensor at a time.

    Raises:
        ValueError: if a piece gives more or fewer bytes than its shape says.
    """
    ordered = sorted(pieces, key=lambda piece: (-ELEMENT_BYTES[piece.dtype], piece.name))
    digest, total = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in _file_bytes(ordered, metadata or {"format": "pt"}):
            digest.update(chunk)
            total += file.write(chunk)
    return Written(total, digest.hexdigest())


def write_text(path: Path, text: str) -> Written:
    """Write a text file."""
    data = text.encode()
    path.write_bytes(data)
    return Written(len(data), hashlib.sha256(data).hexdigest())


def read_span(path: Path, *, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes start..stop-1 of a file in chunks.

    Raises:
        IntegrityError: if the file ends earlier.
    """
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            chunk = file.read(min(_CHUNK_BYTES, stop - start))
            if not chunk:
                raise IntegrityError(f"{path}: ends at byte {start}, before the end of a tensor at byte {stop}")
            start += len(chunk)
            yield chunk


def _piece(path: Path, name: str, data: Mapping[str, Any], *, start: int) -> Piece:
    first, last = data["data_offsets"]
    read = partial(read_span, path, start=start + first, stop=start + last)
    piece = Piece(name, data["dtype"], tuple(data["shape"]), read, (path, start + first))
    if piece.bytes != last - first:
        raise ValueError(name)
    return piece


def _file_bytes(pieces: Sequence[Piece], metadata: Mapping[str, str]) -> Iterator[bytes]:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for piece in pieces:
        header[piece.name] = {"dtype": piece.dtype, "shape": piece.shape, "data_offsets": [end, end + piece.bytes]}
        end += piece.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for piece in pieces:
        given = 0
        for chunk in piece.read():
            given += len(chunk)
            yield chunk
        if given != piece.bytes:
            raise ValueError(f"{piece.name}: gave {given} bytes, but its shape and dtype say {piece.bytes}")
