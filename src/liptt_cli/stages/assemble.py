"""The compressed model in memory: the dense one with its linears replaced by what the stages left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from liptt_cli.formats.base import Encoded
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.surgery import get_module, replace_module
from liptt_cli.models.hub import load_model
from liptt_cli.packing.blob import pack
from liptt_cli.packing.block_file import read_block
from liptt_cli.stages.job import Job


@dataclass
class Compressed:
    """All values, sources and changed tensors of a run's block files; later files override earlier ones."""

    values: dict[str, Encoded] = field(default_factory=dict)
    sources: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    changed: dict[str, Tensor] = field(default_factory=dict)


def read_blocks(files: Sequence[Path]) -> Compressed:
    """Read block files in order."""
    found = Compressed()
    for path in files:
        block = read_block(path)
        found.values |= block.values
        found.sources |= block.sources
        found.changed |= block.changed
    return found


def dense_model(job: Job) -> nn.Module:
    """Return the dense model, frozen and in eval mode."""
    model = load_model(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    return model.requires_grad_(False)


def compressed_model(job: Job, files: Sequence[Path]) -> nn.Module:
    """Return the model that the block files make, running on its packed bytes."""
    model = dense_model(job)
    found = read_blocks(files)
    apply_changed(model, found.changed)
    for name, value in found.values.items():
        bias = getattr(get_module(model, name), "bias", None)
        packed = PackedLinear(value.form, bias=bias is not None)
        packed.weight = nn.Parameter(pack(value), requires_grad=False)
        packed.bias = bias
        replace_module(model, name, packed)
    return model


@torch.no_grad()
def apply_changed(model: nn.Module, changed: dict[str, Tensor]) -> None:
    """Put changed tensors into the model, in place."""
    parameters = dict(model.named_parameters())
    for name, tensor in changed.items():
        parameters[name].copy_(tensor)
