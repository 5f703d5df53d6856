"""The tensors of a source whose experts are stored fused, cut into one a matrix, as the packed model stores them.

Nothing is read: a matrix lies in one piece inside of the fused tensor.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from liptt_cli.packing.tensor_file import ELEMENT_BYTES, Piece, read_span
from liptt_cli.planning.experts import Part, parts_of, place_of


def unfused(pieces: dict[str, Piece], linears: Iterable[str]) -> dict[str, Piece]:
    """Return the pieces with fused experts cut, if some of the linears belong to experts; else as they are."""
    parts = parts_of({name: piece.shape for name, piece in pieces.items()})
    if not parts or not any(place_of(linear) for linear in linears):
        return pieces
    fused = {part.fused for part in parts.values()}
    cut = {name: _cut(pieces[part.fused], name, part) for name, part in parts.items()}
    return {name: piece for name, piece in pieces.items() if name not in fused} | cut


def _cut(piece: Piece, name: str, part: Part) -> Piece:
    if piece.begins is None:
        raise ValueError(f"{piece.name} was not read from a file, so it cannot be cut")
    path, begin = piece.begins
    row = part.shape[1] * ELEMENT_BYTES[piece.dtype]
    start = begin + (part.number * piece.shape[1] + part.first) * row
    read = partial(read_span, path, start=start, stop=start + part.shape[0] * row)
    return replace(piece, name=name, shape=part.shape, read=read, begins=(path, start))
