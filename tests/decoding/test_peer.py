"""llama.cpp beside us: what is written for it, what is left out, and how to get it where it is not."""

from pathlib import Path

import pytest

from liptt_cli.decoding import peer
from liptt_cli.decoding.peer import LlamaCpp, why_absent, write_files
from liptt_cli.errors import MissingExtra
from tiny_models import tiny_config

SHAPE = {"hidden_size": 256, "intermediate_size": 512}


def test_every_type_that_can_hold_the_shapes_is_written_and_the_others_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    found = dict(write_files(tiny_config("llama", hidden_size=128, intermediate_size=256), tmp_path, notes.append))
    assert list(found) == ["Q1_0", "Q4_0", "F16"]
    assert all(file.stat().st_size > 0 for file in found.values())
    assert notes == ["llama.cpp's TQ2_0 is left out: 128 columns are no multiple of its blocks of 256"]


def test_where_it_is_not_installed_the_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_PACKAGE", "no_such_package_of_llama")
    assert "pip install 'liptt" in str(why_absent())
    with pytest.raises(MissingExtra, match="pip install 'liptt"):
        LlamaCpp("nowhere.gguf", capacity_tokens=4, threads=1)


@pytest.mark.llama_cpp
@pytest.mark.parametrize("kind", peer.KINDS)
def test_llama_cpp_runs_the_noise(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    config = tiny_config("qwen3", **{**SHAPE, "head_dim": 64})
    file = dict(write_files(config, tmp_path, lambda _words: None, kinds=[kind]))[kind]
    engine = LlamaCpp(str(file), capacity_tokens=16, threads=1)
    first, again = ([engine.prefill([3, 4, 5]), engine.step(6), engine.step(7)] for _ in range(2))
    assert first == again
    assert all(0 <= token < config.vocab_size for token in first)
    facts = engine.facts()
    embedding = config.vocab_size * config.hidden_size * 2
    assert embedding < facts["weight_bytes_per_token"] < file.stat().st_size - embedding
    assert facts["cache_bytes_per_token"] > 0
