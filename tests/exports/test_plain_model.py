"""A plain model: every tensor is the packed model's in the dtype asked for, and a changed one is found."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exports.writing import opened
from liptt_cli.errors import IntegrityError
from liptt_cli.exports.plain_model import PlainJob, read_back, write, written_bytes


@pytest.mark.parametrize(("dtype", "casts", "largest"), [("float32", False, 0.0), ("bfloat16", True, 0.01)])
def test_every_tensor_is_read_back_in_its_dtype(
    signs_llama: Path, tmp_path: Path, dtype: str, casts: bool, largest: float
) -> None:
    job = PlainJob(opened(signs_llama), dtype, casts=casts)
    write(job, tmp_path, shard_bytes=400_000)
    differences = read_back(job, tmp_path)
    assert differences.keys() == job.model.pieces.keys() and max(differences.values()) <= largest
    tensors = {name: t for path in tmp_path.glob("*.safetensors") for name, t in load_file(path).items()}
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    assert written_bytes(job, tmp_path) == {name: tensor.nbytes for name, tensor in tensors.items()}


def test_a_changed_or_absent_tensor_is_found(signs_llama: Path, tmp_path: Path) -> None:
    job = PlainJob(opened(signs_llama), "float32")
    write(job, tmp_path, shard_bytes=10**9)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name].nextafter(torch.tensor(9.0))}, tmp_path / "model.safetensors")
    with pytest.raises(IntegrityError, match=f"{name}: read back"):
        read_back(job, tmp_path)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, tmp_path / "model.safetensors")
    with pytest.raises(IntegrityError, match="are not those that were written"):
        read_back(job, tmp_path)
