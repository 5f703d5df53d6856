"""A packed model as its exports read it: forms, values, all other tensors, and the texts beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.forms.base import Form
from liptt_cli.packing.artifact import headers
from liptt_cli.packing.manifest import Manifest
from liptt_cli.packing.overlay import Overlay, read_tensor, resolve
from liptt_cli.packing.tensor_file import Piece


@dataclass(frozen=True)
class PackedModel:
    """A directory whose files were verified against its manifest."""

    path: Path
    manifest: Manifest

    @cached_property
    def overlay(self) -> Overlay:
        """Return the compressed linears."""
        return Overlay.of_packed(self.path)

    @cached_property
    def pieces(self) -> dict[str, Piece]:
        """Return all tensors by their stored names, blobs included, not yet read."""
        return headers(sorted(self.path.glob("*.safetensors")))

    @cached_property
    def linears(self) -> dict[str, str]:
        """Return the linear of each blob, by the blob's stored name."""
        stored = {linear: resolve(f"{linear}.weight", self.pieces) for linear in self.overlay.forms}
        return {name: linear for linear, name in stored.items() if name is not None}

    @cached_property
    def tables(self) -> dict[str, str]:
        """Return the table of each blob of embedding or head, by the blob's stored name."""
        stored = {table: resolve(f"{table}.weight", self.pieces) for table in self.overlay.tables}
        return {name: table for table, name in stored.items() if name is not None}

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return `config.json`."""
        found: dict[str, Any] = json.loads((self.path / "config.json").read_bytes())
        return found

    @property
    def forms(self) -> Mapping[str, Form]:
        """Return the form of each compressed linear."""
        return self.overlay.forms

    def value(self, name: str) -> Encoded:
        """Return the weight behind a blob's stored name."""
        return self.overlay.value(self._modules[name])

    def tensor(self, name: str) -> Tensor:
        """Return a tensor that is no linear's blob: as stored, or the numbers that a rounded table stands for."""
        return self.value(name).dense(torch.float32) if name in self.tables else read_tensor(self.pieces[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, of a blob that of the matrix that it stands for."""
        module = self._modules.get(name)
        return self.pieces[name].shape if module is None else self.overlay.packed[module].shape

    @property
    def _modules(self) -> dict[str, str]:
        return {**self.linears, **self.tables}
