"""What the stages changed in a model: blobs of linears under their forms, and other tensors, read from block files.

A block file is a safetensors file whose metadata holds `forms`, the JSON of each linear's form, and `tables`, that of
embedding and head if they are rounded. Later files win, so `finetune` lies over `binarize`. Latents
(`<linear>.latent.<k>`) are left out; they are no part of the model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.formats.around import matrix_of
from liptt_cli.formats.base import Encoded, Stored
from liptt_cli.forms.base import Form, blob_bytes
from liptt_cli.forms.read import form_from_json
from liptt_cli.packing.blob import unpack_stored
from liptt_cli.packing.section import read_forms, read_section
from liptt_cli.packing.tensor_file import Piece, read_header
from liptt_cli.planning.experts import stored_as

_LATENT = re.compile(r"\.latent\.\d+$")
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "U8": torch.uint8,
}


@dataclass(frozen=True)
class Overlay:
    """Forms by linear, the tensors that lie over the source model's, by their name in the model, and forms by table."""

    forms: Mapping[str, Form]
    tensors: Mapping[str, Piece]
    tables: Mapping[str, Form] = field(default_factory=dict)

    @property
    def packed(self) -> dict[str, Form]:
        """Return the form of every module that has a blob: linears, embedding and head."""
        return {**self.forms, **self.tables}

    @classmethod
    def read(cls, files: Sequence[Path]) -> "Overlay":
        """Read the headers of block files; of two that hold a tensor, the later wins.

        Raises:
            IntegrityError: if a file is corrupt, or a blob's length is not its form's.
        """
        forms: dict[str, Form] = {}
        tables: dict[str, Form] = {}
        tensors: dict[str, Piece] = {}
        for file in files:
            pieces, metadata = read_header(file)
            kept = {name: piece for name, piece in pieces.items() if not _LATENT.search(name)}
            forms = _without(forms, kept) | _forms(metadata, "forms")
            tables = _without(tables, kept) | _forms(metadata, "tables")
            tensors |= kept
        return cls(forms, tensors, tables).checked()

    @classmethod
    def of_packed(cls, directory: Path) -> "Overlay":
        """Read the compressed linears of a packed model, its embedding and its head.

        Raises:
            IntegrityError: if a weight file or `config.json` is corrupt or disagrees with the other.
            FormatVersionError: if the model is of a newer format.
        """
        section = read_section(directory)
        forms, tables = read_forms(section), read_forms(section, "tables")
        pieces: dict[str, Piece] = {}
        for file in sorted(directory.glob("*.safetensors")):
            pieces |= read_header(file)[0]
        wanted = {f"{name}.weight" for name in (*forms, *tables)}
        found = {resolve(name, pieces): name for name in wanted if resolve(name, pieces)}
        return cls(forms, {name: pieces[stored] for stored, name in found.items() if stored}, tables).checked()

    def checked(self) -> "Overlay":
        """Return itself if every form has a blob of its length.

        Raises:
            IntegrityError: naming the first linear that has not.
        """
        for linear, form in self.packed.items():
            piece, wanted = self.tensors.get(f"{linear}.weight"), blob_bytes(form)
            if piece is None:
                raise IntegrityError(f"{linear}: a form, but no tensor {linear}.weight; the file is not whole")
            if piece.dtype != "U8" or piece.bytes != wanted:
                raise IntegrityError(
                    f"{linear}: a blob of {piece.bytes} bytes of {piece.dtype}, but its form asks for {wanted}"
                )
        return self

    def blob(self, name: str) -> UInt8[Tensor, " bytes"]:
        """Return the blob of a linear or table."""
        return read_tensor(self.tensors[f"{name}.weight"])

    def value(self, name: str) -> Encoded:
        """Return the weight of a linear or table as a matrix.

        Raises:
            IntegrityError: if there is something around it.
        """
        return matrix_of(self.stored(name))

    def stored(self, name: str) -> Stored:
        """Return what a linear or table became."""
        return unpack_stored(self.packed[name], self.blob(name))

    def changed(self, name: str) -> Tensor | None:
        """Return the tensor that lies over the source's `name`, blobs included, or None."""
        piece = self.tensors.get(name)
        return None if piece is None else read_tensor(piece)


def read_tensor(piece: Piece) -> Tensor:
    """Read a piece into memory of its own."""
    data = bytearray(b"".join(piece.read()))
    if not data:
        return torch.empty(piece.shape, dtype=TORCH_DTYPES[piece.dtype])
    return torch.frombuffer(data, dtype=TORCH_DTYPES[piece.dtype]).reshape(piece.shape)


def resolve(name: str, stored: Mapping[str, object]) -> str | None:
    """Return the stored name of a tensor that may lack, or have more, the first part: the base model's prefix.

    A family's files may also call a part of the block otherwise.
    """
    return _under_prefix(name, stored) or _under_prefix(stored_as(name), stored)


def _forms(metadata: Mapping[str, str], kind: str) -> dict[str, Form]:
    return {name: form_from_json(data) for name, data in json.loads(metadata.get(kind, "{}")).items()}


def _without(forms: Mapping[str, Form], written: Mapping[str, object]) -> dict[str, Form]:
    """Return the forms whose weight a later file has not written."""
    return {name: form for name, form in forms.items() if f"{name}.weight" not in written}


def _under_prefix(name: str, stored: Mapping[str, object]) -> str | None:
    if name in stored:
        return name
    shorter = name.partition(".")[2]
    longer = [other for other in stored if other.partition(".")[2] == name]
    candidates = longer + ([shorter] if shorter in stored else [])
    return candidates[0] if len(candidates) == 1 else None
