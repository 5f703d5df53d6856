"""A model that a target does not know is refused before it is compressed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.errors import ModelError
from liptt_cli.exports.model_check import refuse_model
from liptt_cli.menu.run import RunConfig


def config(*to: str) -> RunConfig:
    return RunConfig.model_validate({"method": "mine", "export": {"to": list(to)}})


def test_a_family_or_tokenizer_without_an_equal_is_refused_only_where_it_matters(
    make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_tiny_model("opt", tmp_path / "opt")
    refuse_model(config("liptt", "hf", "compressed-tensors"), other)
    with pytest.raises(ModelError, match="model_type 'opt' has no GGUF export"):
        refuse_model(config("liptt", "gguf"), other)
    known = make_tiny_model("llama", tmp_path / "llama")
    refuse_model(config("gguf"), known)
    (known / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        refuse_model(config("gguf"), known)


def test_a_missing_package_is_found_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("liptt_cli.exports.model_check.require_package", asked.append)
    refuse_model(config("hf", "compressed-tensors"), tmp_path)
    assert asked == ["hf", "compressed-tensors"]
