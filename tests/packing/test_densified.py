"""A packed model written plainly: each matrix is the one that its blob stands for."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from liptt_cli.packing.densified import write_dense
from liptt_cli.packing.overlay import Overlay


def test_matrices_are_those_of_the_values_and_the_rest_is_the_same(packed_llama: Path, tmp_path: Path) -> None:
    files = write_dense(tmp_path, packed=packed_llama, shard_bytes=10**9)
    assert set(files) == {path.name for path in tmp_path.iterdir()}
    overlay, packed = Overlay.of_packed(packed_llama), load_file(packed_llama / "model.safetensors")
    plain = load_file(tmp_path / "model.safetensors")
    assert plain.keys() == packed.keys()
    for name, tensor in plain.items():
        linear = name.removesuffix(".weight")
        expected = overlay.value(linear).dense() if linear in overlay.forms else packed[name]
        assert torch.equal(tensor, expected)


def test_all_tensors_have_the_dtype_asked_for(packed_llama: Path, tmp_path: Path) -> None:
    write_dense(tmp_path, packed=packed_llama, shard_bytes=10**9, dtype="float16")
    overlay, packed = Overlay.of_packed(packed_llama), load_file(packed_llama / "model.safetensors")
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        linear = name.removesuffix(".weight")
        expected = overlay.value(linear).dense() if linear in overlay.forms else packed[name]
        assert torch.equal(tensor, expected.half())
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
