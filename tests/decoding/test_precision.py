"""The dtype of a computation: a packed model's is that of the dense one it stands for."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from liptt_cli.decoding.precision import choose_dtype
from liptt_cli.models import hub
from liptt_cli.models.shards import Shards


def in_bfloat16(directory: Path, target: Path) -> Path:
    """A copy whose floats are bfloat16."""
    target.mkdir()
    (target / "config.json").write_bytes((directory / "config.json").read_bytes())
    for file in directory.glob("*.safetensors"):
        tensors = {
            name: each.bfloat16() if each.is_floating_point() else each for name, each in load_file(file).items()
        }
        save_file(tensors, target / file.name)
    return target


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that multiplies bfloat16."""
    monkeypatch.setattr(hub, "_multiplies_bfloat16", lambda: True)


@pytest.mark.usefixtures("hardware")
def test_packed_bytes_do_not_make_a_model_small(packed_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packed = in_bfloat16(packed_llama, tmp_path / "packed")
    monkeypatch.setattr(hub, "SMALL_PARAMETERS", Shards(packed).parameters() + 1)
    assert choose_dtype(packed) == torch.bfloat16
    assert choose_dtype(packed, "float32") == torch.float32
    monkeypatch.setattr(hub, "SMALL_PARAMETERS", 10**8)
    assert choose_dtype(packed) == torch.float32


@pytest.mark.usefixtures("hardware")
def test_what_was_kept_exact_stays_exact(packed_llama: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "SMALL_PARAMETERS", 0)
    assert choose_dtype(packed_llama) == torch.float32


def test_without_hardware_it_is_float32(packed_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "_multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(hub, "SMALL_PARAMETERS", 0)
    assert choose_dtype(in_bfloat16(packed_llama, tmp_path / "packed")) == torch.float32


@pytest.mark.usefixtures("hardware")
def test_a_dense_model_is_judged_as_it_is_stored(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "SMALL_PARAMETERS", Shards(tiny_llama).parameters())
    assert choose_dtype(tiny_llama) == torch.float32
    assert choose_dtype(in_bfloat16(tiny_llama, tmp_path / "dense")) == torch.bfloat16
