"""One weight as one blob of bytes: all sections of its form, each at a multiple of 16.

The blob is stored under `<linear>.weight` as uint8: it cannot be cast by accident, it offloads, it
fails loudly in a program that does not know the format, and its length is the size.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.build import build
from liptt_cli.formats.dense import DTYPES
from liptt_cli.forms.base import Form, Section, blob_bytes, offsets
from liptt_cli.packing.bits import pack_indices, unpack_indices


def pack(value: Encoded) -> UInt8[Tensor, " bytes"]:
    """Return the blob of a settled value; its length is `blob_bytes(value.form)`."""
    sections = value.form.sections()
    fields = value.fields()
    device = next((tensor.device for tensor in fields.values()), None)
    blob = torch.zeros(blob_bytes(value.form), dtype=torch.uint8, device=device)
    for section, start in zip(sections, offsets(sections), strict=True):
        blob[start : start + section.bytes] = _to_bytes(fields[section.name], section)
    return blob


def unpack(form: Form, blob: UInt8[Tensor, " bytes"]) -> Encoded:
    """Return the value whose blob this is.

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
    return build(form, fields)


def _to_bytes(tensor: Tensor, section: Section) -> UInt8[Tensor, " bytes"]:
    if tuple(tensor.shape) != section.shape:
        raise ValueError(f"{section.name}: shape {tuple(tensor.shape)}, but its form says {section.shape}")
    if section.storage == "index":
        return pack_indices(tensor, bits=section.bits).flatten()
    if tensor.dtype != DTYPES[section.storage]:
        raise ValueError(f"{section.name}: {tensor.dtype}, but {section.storage} is stored; settle the value first")
    return tensor.contiguous().flatten().view(torch.uint8)


def _from_bytes(part: UInt8[Tensor, " bytes"], section: Section) -> Tensor:
    if section.storage == "index":
        *lead, columns = section.shape
        return unpack_indices(part.reshape(*lead, -1), columns=columns, bits=section.bits)
    return part.view(DTYPES[section.storage]).reshape(section.shape)
