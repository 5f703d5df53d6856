"""The compressed model in memory: the dense one with what the stages left laid over it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.packed_table import put_tables
from liptt_cli.layers.surgery import get_module, replace_module
from liptt_cli.models.hub import load_model
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.job import Job


def dense_model(job: Job) -> nn.Module:
    """Return the dense model, frozen and in eval mode."""
    model = load_model(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    return model.requires_grad_(False)


def compressed_model(job: Job, files: Sequence[Path]) -> nn.Module:
    """Return the model that the block files make, running on its packed bytes; later files override."""
    model = dense_model(job)
    lay_over(model, Overlay.read(files))
    return model


@torch.no_grad()
def lay_over(model: nn.Module, overlay: Overlay) -> None:
    """Put packed linears and changed tensors into a dense model, in place."""
    for name, form in overlay.forms.items():
        bias = getattr(get_module(model, name), "bias", None)
        packed = PackedLinear(form, bias=bias is not None)
        packed.weight.copy_(overlay.blob(name))
        packed.bias = bias
        replace_module(model, name, packed)
    if overlay.tables:
        put_tables(model, overlay.tables)
    for name in overlay.tables:
        get_module(model, name).get_parameter("weight").copy_(overlay.blob(name))
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    for name in overlay.tensors:
        changed = overlay.changed(name)
        if changed is not None and name.removesuffix(".weight") not in overlay.packed:
            own[name].copy_(changed)
