"""The reference model's loss through the kernels is that of the torch meaning, within the noise of bfloat16."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.kernels import native
from liptt_cli.kernels.dispatch import VARIABLE, exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.surgery import replace_module
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.packing.blob import pack

_REFERENCE = Path(__file__).parents[2] / "configs" / "reference"
_GROUP_COLUMNS = 128
_BFLOAT16_NATS, _FAST_NATS = 1e-3, 1e-2  # on this model: 5e-4 for inputs in bfloat16, 1e-3 for 7-bit tables


@pytest.fixture(scope="module")
def signs():
    """The reference model with every linear of a block as signs under group scales, and 256 tokens."""
    model = AutoModelForCausalLM.from_pretrained(_REFERENCE, dtype=torch.float32)
    for block in find_block_list(model)[1]:
        for name, linear in linears(block).items():
            replace_module(block, name, _packed(linear.weight.detach()))
    text = Path(torch.nn.__file__).read_text(encoding="utf8") + Path(pytest.__file__).read_text(encoding="utf8")
    return model, AutoTokenizer.from_pretrained(_REFERENCE)(text, return_tensors="pt").input_ids[:, :256]


def _packed(weight):
    groups = weight.abs().split(_GROUP_COLUMNS, dim=1)
    scales = torch.stack([group.mean(1) for group in groups], dim=1).reshape(1, 1, len(weight), -1)
    value = Grid((weight >= 0).to(torch.uint8).unsqueeze(0), Envelope(scales, None, _GROUP_COLUMNS)).settled()
    module = PackedLinear(value.form, bias=False)
    module.weight.copy_(pack(value))
    return module


@pytest.mark.parametrize("kernel", [name for name, there in native.kernels().items() if there] or ["torch"])
def test_the_loss_stays_within_the_noise_of_bfloat16(signs, kernel: str, monkeypatch: pytest.MonkeyPatch):
    model, tokens = signs
    monkeypatch.setenv(VARIABLE, kernel)
    with torch.no_grad():
        found = model(tokens, labels=tokens).loss.item()
        with exact():
            wanted = model(tokens, labels=tokens).loss.item()
    assert abs(found - wanted) <= (_FAST_NATS if kernel.endswith("-fast") else _BFLOAT16_NATS)
