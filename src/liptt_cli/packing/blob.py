"""One weight as one blob of bytes: all sections of its form, each at a multiple of 16.

The blob is stored under `<linear>.weight` as uint8: it cannot be cast by accident, it offloads, it
fails loudly in a program that does not know the format, and its length is the size.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.formats.around import matrix_of
from liptt_cli.formats.base import Encoded, Stored
from liptt_cli.formats.build import build, build_around
from liptt_cli.formats.dense import DTYPES
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form, Section, blob_bytes, offsets
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.packing.bits import pack_indices, unpack_indices
from liptt_cli.packing.trits import pack_trits, unpack_trits


def pack(value: Stored) -> UInt8[Tensor, " bytes"]:
    """Return the blob of a settled value; its length is `blob_bytes(value.form)`."""
    sections = value.form.sections()
    fields = value.fields()
    device = next((tensor.device for tensor in fields.values()), None)
    blob = torch.zeros(blob_bytes(value.form), dtype=torch.uint8, device=device)
    for section, start in zip(sections, offsets(sections), strict=True):
        blob[start : start + section.bytes] = _to_bytes(fields[section.name], section)
    return blob


def unpack(form: Form, blob: UInt8[Tensor, " bytes"]) -> Encoded:
    """Return the matrix whose blob this is.

    Raises:
        IntegrityError: if the blob's length is not the form's, or if it is more than a matrix.
    """
    return matrix_of(unpack_stored(form, blob))


def unpack_stored(form: Form, blob: UInt8[Tensor, " bytes"]) -> Stored:
    """Return the value whose blob this is, with what is around the weight.

    Raises:
        IntegrityError: if the blob's length is not the form's.
    """
    if blob.numel() != blob_bytes(form):
        raise IntegrityError(f"a blob of {blob.numel()} bytes, but its form asks for {blob_bytes(form)}")
    sections = form.sections()
    fields = {
        section.name: _from_bytes(blob[start : start + section.bytes], section)
        for section, start in zip(sections, offsets(sections), strict=True)
    }
    return build_around(form, fields) if isinstance(form, AroundForm) else build(form, fields)


def unpack_rows(
    form: Form, blob: UInt8[Tensor, " bytes"], index: Int[Tensor, " some"]
) -> Float[Tensor, "some columns"]:
    """Return rows of the float32 matrix behind a blob; the others are not looked at if all is stored row by row."""
    rows, columns = form.shape
    scale = form.scale if isinstance(form, GridForm) else None
    if not isinstance(form, GridForm) or scale is None or form != _by_row(form, scale, rows):
        return unpack(form, blob).rows(index)
    some = replace(_by_row(form, scale, len(index)), shape=(len(index), columns))
    fields = {
        section.name: _from_bytes(blob[start : start + whole.bytes].view(rows, -1)[index].flatten(), section)
        for section, whole, start in zip(some.sections(), form.sections(), offsets(form.sections()), strict=True)
    }
    return build(some, fields).dense()


def _by_row(form: GridForm, scale: EnvelopeForm, rows: int) -> GridForm:
    """Return the form as it would be with one plane of codes and scales of rows alone."""
    return replace(form, planes=1, scale=EnvelopeForm(rows, scale.group_columns), shift=None)


def _to_bytes(tensor: Tensor, section: Section) -> UInt8[Tensor, " bytes"]:
    if tuple(tensor.shape) != section.shape:
        raise ValueError(f"{section.name}: shape {tuple(tensor.shape)}, but its form says {section.shape}")
    if section.storage == "index":
        return pack_indices(tensor, bits=section.bits).flatten()
    if section.storage == "trit":
        return pack_trits(tensor).flatten()
    if tensor.dtype != DTYPES[section.storage]:
        raise ValueError(f"{section.name}: {tensor.dtype}, but {section.storage} is stored; settle the value first")
    return tensor.contiguous().flatten().view(torch.uint8)


def _from_bytes(part: UInt8[Tensor, " bytes"], section: Section) -> Tensor:
    *lead, columns = section.shape
    if section.storage == "index":
        return unpack_indices(part.reshape(*lead, -1), columns=columns, bits=section.bits)
    if section.storage == "trit":
        return unpack_trits(part.reshape(*lead, -1), columns=columns)
    return part.view(DTYPES[section.storage]).reshape(section.shape)
