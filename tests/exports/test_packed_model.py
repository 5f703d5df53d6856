"""A packed model as exports read it: blobs as values, all other tensors as they are stored."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from exports.writing import opened


def test_blobs_are_values_and_the_rest_is_read_as_stored(packed_llama: Path) -> None:
    model = opened(packed_llama)
    stored = load_file(packed_llama / "model.safetensors")
    assert model.pieces.keys() == stored.keys()
    assert set(model.linears.values()) == set(model.forms) and len(model.linears) == 14
    assert model.config["model_type"] == "llama"
    for name in stored:
        if name in model.linears:
            assert model.value(name).form == model.forms[model.linears[name]]
        else:
            assert torch.equal(model.tensor(name), stored[name])
