"""Where embedding and head are found, whatever they are called, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from liptt_cli.errors import ModelError
from liptt_cli.models.hub import empty_model, locate
from liptt_cli.models.shards import Shards
from liptt_cli.models.tables import find_tables


def found(directory: Path) -> dict[str, tuple[int, int]]:
    model = empty_model(locate(str(directory)), dtype=torch.float32)
    return {table.name: table.shape for table in find_tables(model, Shards(directory))}


def test_untied_tables_are_two_and_tied_ones_one(make_tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    untied = make_tiny_model("llama", tmp_path / "untied", tie_word_embeddings=False)
    assert found(untied) == {"lm_head": (320, 32), "model.embed_tokens": (320, 32)}
    tied = make_tiny_model("llama", tmp_path / "tied", tie_word_embeddings=True)
    assert found(tied) == {"model.embed_tokens": (320, 32)}
    held = load_file(tied / "model.safetensors")
    held["lm_head.weight"] = held.pop("model.embed_tokens.weight")
    save_file(held, tied / "model.safetensors", metadata={"format": "pt"})
    assert found(tied) == {"lm_head": (320, 32)}


def test_a_model_that_does_not_tell_them_is_refused(make_tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="TrellisForCausalLM does not tell its embedding"):
        found(make_tiny_model("trellis", tmp_path))
    assert found(make_tiny_model("opt", tmp_path / "opt")) == {"model.decoder.embed_tokens": (320, 32)}


def test_an_embedding_that_does_more_than_look_up_rows_is_refused(
    make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    class Scaled(nn.Embedding):
        """An embedding that multiplies its rows, as Gemma's does."""

    directory = make_tiny_model("llama", tmp_path)
    model = empty_model(locate(str(directory)), dtype=torch.float32)
    model.set_input_embeddings(Scaled(320, 32))
    with pytest.raises(ModelError, match="is Scaled, not a plain Embedding"):
        find_tables(model, Shards(directory))
