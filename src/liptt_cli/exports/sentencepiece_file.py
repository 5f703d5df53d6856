"""The scores of a sentencepiece `tokenizer.model`, read from its protocol buffer without that package.

Of the message ModelProto two fields matter: 1, the pieces in the order of their ids, each with its text (1) and its
score (2, a float32); and 2, the trainer's settings, whose field 3 is the kind of model, of which 2 is BPE.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from liptt_cli.errors import ModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECE, _TRAINER, _TEXT, _SCORE, _KIND, _BPE = 1, 2, 1, 2, 3, 2

Field = tuple[int, int | bytes]


def piece_scores(path: Path) -> dict[str, float] | None:
    """Return the score of each piece of a BPE, None if the file is of another kind of model.

    Raises:
        ModelError: if it cannot be read.
    """
    try:
        fields = list(_fields(path.read_bytes()))
        kinds = [value for number, part in fields if number == _TRAINER for value in _values(part, _KIND)]
        pieces = [part for number, part in fields if number == _PIECE]
        return dict(_piece(part) for part in pieces) if kinds == [_BPE] else None
    except (IndexError, ValueError, struct.error) as error:
        raise ModelError(f"{path}: no readable sentencepiece model ({error}); copy it again") from error


def _piece(part: int | bytes) -> tuple[str, float]:
    (text,), scores = _values(part, _TEXT), _values(part, _SCORE)
    if not isinstance(text, bytes):
        raise ValueError("a piece without a text")
    return text.decode(), struct.unpack("<f", scores[0])[0] if scores and isinstance(scores[0], bytes) else 0.0


def _values(part: int | bytes, wanted: int) -> list[int | bytes]:
    if not isinstance(part, bytes):
        raise ValueError("a number where a message should be")
    return [value for number, value in _fields(part) if number == wanted]


def _fields(data: bytes) -> Iterator[Field]:
    """Yield the fields of a message: a number of field, and an integer or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"a field of the unknown kind {kind}")
        length, at = _varint(data, at) if kind == _BYTES else (8 if kind == _FIXED64 else 4, at)
        if at + length > len(data):
            raise ValueError("it ends within a field")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the least significant first, and where it ends."""
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1
