"""The dense model of a packed one: by its run, by a directory it was made from, by the hub's name, or not at all."""

import json
from pathlib import Path

import pytest

from liptt_cli.decoding import dense_source
from liptt_cli.decoding.dense_source import find_dense
from liptt_cli.models import hub


def recorded(packed: Path, target: Path, **changes: str | None) -> Path:
    target.mkdir(parents=True)
    for file in packed.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] |= changes
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_by_the_manifest_of_its_run(packed_llama: Path, tiny_llama: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recorded(packed_llama, run / "model")
    (run / "config.resolved.yaml").write_text("")
    there = {"config": {"model": tiny_llama.name}, "origin": str(tiny_llama.parent / "x.yaml")}
    (run / "manifest.json").write_text(json.dumps(there))
    found = find_dense(str(run), hub.locate(str(run)))
    assert found is not None
    assert found.path == tiny_llama
    (run / "manifest.json").write_text(json.dumps({**there, "config": {"model": "gone/away/for-good"}}))
    assert find_dense(str(run), hub.locate(str(run))) is None


def test_by_the_directory_that_it_names(packed_llama: Path, tiny_llama: Path, tmp_path: Path) -> None:
    packed = recorded(packed_llama, tmp_path / "packed", source_model=str(tiny_llama))
    found = find_dense(str(packed), hub.locate(str(packed)))
    assert found is not None
    assert found.path == tiny_llama


def test_by_the_hub_only_if_it_came_from_there(
    packed_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(dense_source, "locate", lambda model, **told: asked.append((model, told)))
    for revision, name in ((None, "local"), ("abc", "fetched")):
        packed = recorded(packed_llama, tmp_path / name, source_model="owner/name", source_revision=revision)
        find_dense(str(packed), hub.Source(packed, name, None))
    assert asked == [("owner/name", {"revision": "abc", "near": None})]


def test_a_dense_model_has_none(tiny_llama: Path) -> None:
    assert find_dense(str(tiny_llama), hub.locate(str(tiny_llama))) is None
