"""Packed models for exports: signs under scales of groups of columns, of any family and tokenizer, without a solver."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.models.hub import Source
from liptt_cli.packing.blob import pack
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.export import Export, export_packed

WIDE = {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2}
MakeSigns = Callable[..., Path]


def signs(weight: torch.Tensor, group: int) -> Grid:
    """Return the signs of a weight under the mean of each row and group, rounded to float16."""
    rows, columns = weight.shape
    group = min(group, columns)
    parts = torch.nn.functional.pad(weight.abs(), (0, -columns % group)).unflatten(1, (-1, group))
    return Grid((weight >= 0).to(torch.uint8)[None], Envelope(parts.mean(2)[None, None], None, group)).settled()


@pytest.fixture(scope="session")
def make_signs(make_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> MakeSigns:
    """Return `make(family, *, group=128, dtype="float32", except_for=(), **overrides) -> directory`, packed.

    Linears whose names end with one of `except_for` stay as they are in the source.
    """

    def make(
        family: str, *, group: int = 128, dtype: str = "float32", except_for: tuple[str, ...] = (), **overrides: object
    ) -> Path:
        folder = tmp_path_factory.mktemp(family)
        source = make_tiny_model(family, folder / "dense", **{**WIDE, **overrides})
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        path, blocks = find_block_list(model)
        tensors, forms = {}, {}
        for number, block in enumerate(blocks):
            for name, linear in linears(block).items():
                if name.endswith(except_for or ("-",)):
                    continue
                value = signs(linear.weight.detach(), group)
                full = f"{path}.{number}.{name}"
                tensors[f"{full}.weight"], forms[full] = pack(value), value.form.to_json()
        save_file(tensors, folder / "blocks.safetensors", metadata={"forms": json.dumps(forms)})
        overlay = Overlay.read([folder / "blocks.safetensors"])
        origin = Origin(f"tiny-{family}", None, "sign", "0" * 64, dtype)
        export_packed(Export(Source(source, f"tiny-{family}", None), overlay, origin), folder / "packed")
        return folder / "packed"

    return make


@pytest.fixture(scope="session")
def signs_llama(make_signs: MakeSigns) -> Path:
    """A packed Llama of signs under scales of groups of 128, with grouped heads; read-only by convention."""
    return make_signs("llama")
