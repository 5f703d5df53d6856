"""Where a model's shape is found: beside, in the shipped folder, or at the hub; and what is said if it is nowhere."""

import json
import shutil
import time
from pathlib import Path
from socket import socket

import huggingface_hub
import pytest

from liptt_cli.config import configs_folder
from liptt_cli.errors import ModelError
from liptt_cli.planning.architectures import find_shape, model_shape


def find(model: str, near: Path = Path("nowhere")):
    return find_shape(model, revision=None, near=near, configs=configs_folder())


def test_a_directory_is_found_from_here_and_from_beside_the_configuration(tiny_llama: Path):
    assert find(str(tiny_llama)) == find(tiny_llama.name, near=tiny_llama.parent) == model_shape(tiny_llama)


def test_weights_win_over_the_config_and_the_config_serves_without_them(tiny_llama: Path, tmp_path: Path):
    shutil.copyfile(tiny_llama / "config.json", tmp_path / "config.json")
    assert model_shape(tmp_path) == model_shape(tiny_llama)
    other = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 5}
    (tmp_path / "config.json").write_text(json.dumps(other))
    assert len(model_shape(tmp_path).sites) == 35
    shutil.copyfile(tiny_llama / "model.safetensors", tmp_path / "model.safetensors")
    assert len(model_shape(tmp_path).sites) == 14


def test_llama_7b_ships_with_its_shape():
    shape = find("huggyllama/llama-7b")
    assert len(shape.sites) == 7 * 32
    assert sum(site.weights for site in shape.sites) == 6_476_005_376
    assert shape.dense_bytes == 2 * 6_738_415_616


def test_a_directory_without_anything_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"neither \.safetensors files nor config\.json"):
        model_shape(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not JSON"):
        model_shape(tmp_path)


def test_a_model_that_is_nowhere_is_refused_with_both_ways_out(monkeypatch: pytest.MonkeyPatch):
    def offline(*_arguments: object, **_named: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="owner/absent: no such directory.*Give a local directory, or `hf download"):
        find("owner/absent")


def test_the_hub_s_config_is_enough(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tiny_llama))
    assert find("owner/name") == model_shape(tiny_llama)


def test_the_shipped_reference_is_found_from_anywhere_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find("reference") == model_shape(configs_folder() / "reference")


def test_without_a_hub_the_refusal_does_not_wait_for_a_better_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing listens where the hub should be; a client that tries again sleeps in between."""
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", dead)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
        with pytest.raises(ModelError, match="could not be fetched from the hub"):
            find("owner/absent")
