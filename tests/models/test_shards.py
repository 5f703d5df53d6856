"""Reading safetensors by name: what is stored is what comes back, and everything broken is refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from liptt_cli.errors import IntegrityError, ModelError
from liptt_cli.models.shards import INDEX_NAME, SINGLE_NAME, Shards


def two_tensors() -> dict[str, Tensor]:
    """Return a float and an integer tensor."""
    return {"model.a.weight": torch.arange(6.0).reshape(2, 3), "model.codes": torch.arange(5, dtype=torch.uint8)}


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A directory with one file."""
    save_file(two_tensors(), tmp_path / SINGLE_NAME)
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A directory with two files and an index."""
    tensors = two_tensors()
    files = {"model.a.weight": "model-1.safetensors", "model.codes": "model-2.safetensors"}
    for name, file in files.items():
        save_file({name: tensors[name]}, tmp_path / file)
    (tmp_path / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return tmp_path


@pytest.mark.parametrize("layout", ["single", "sharded"])
def test_reads_what_was_saved(layout: str, request: pytest.FixtureRequest) -> None:
    """Both layouts give names, shapes, dtypes and values; integers keep their dtype when floats are converted."""
    shards = Shards(request.getfixturevalue(layout))
    assert set(shards.names()) == set(two_tensors())
    assert shards.shape("model.a.weight") == (2, 3)
    assert shards.dtype("model.codes") == torch.uint8
    assert shards.parameters() == 11
    assert shards.main_dtype() == torch.float32
    read = shards.read(["model.codes", "model.a.weight"], dtype=torch.bfloat16)
    assert list(read) == ["model.codes", "model.a.weight"]
    assert read["model.a.weight"].dtype == torch.bfloat16
    assert torch.equal(read["model.codes"], two_tensors()["model.codes"])
    assert torch.equal(shards.read(["model.a.weight"])["model.a.weight"], two_tensors()["model.a.weight"])


def test_file_of_names_the_shard(sharded: Path) -> None:
    """Each tensor is traced to its own file."""
    shards = Shards(sharded)
    assert shards.file_of("model.codes") == sharded / "model-2.safetensors"
    assert len(shards.files()) == 2


def test_a_whole_file_beside_an_index_wins(sharded: Path) -> None:
    """As transformers does: an index beside a whole file is left over from an earlier save."""
    save_file({"other": torch.ones(1)}, sharded / SINGLE_NAME)
    assert Shards(sharded).names() == ("other",)


def test_writing_into_a_tensor_leaves_the_file_alone(single: Path) -> None:
    """What is read lies in memory of its own."""
    read = Shards(single).read(["model.a.weight"], dtype=torch.float32)["model.a.weight"]
    read.zero_()
    assert torch.equal(load_file(single / SINGLE_NAME)["model.a.weight"], two_tensors()["model.a.weight"])


@pytest.mark.parametrize(("asked", "stored"), [("model.a.weight", "model.a.weight"), ("a.weight", "model.a.weight")])
def test_resolve_adds_the_prefix_of_the_base_model(single: Path, asked: str, stored: str) -> None:
    """A base model's name finds the tensor that was saved with a head."""
    assert Shards(single).resolve(asked) == stored
    assert asked in Shards(single)


def test_resolve_leaves_the_prefix_of_the_base_model_out(tmp_path: Path) -> None:
    """A causal model's name finds the tensor that was saved from the base model, under the asked name."""
    save_file({"a.weight": torch.ones(2)}, tmp_path / SINGLE_NAME)
    assert list(Shards(tmp_path).read(["model.a.weight"], dtype=torch.float32)) == ["model.a.weight"]


def test_an_ambiguous_name_is_not_resolved(tmp_path: Path) -> None:
    """Two prefixes fit: neither is guessed."""
    save_file({"left.a": torch.ones(2), "right.a": torch.ones(2)}, tmp_path / SINGLE_NAME)
    assert "a" not in Shards(tmp_path)


def test_an_absent_tensor_is_refused(single: Path) -> None:
    """The message names tensor and directory."""
    with pytest.raises(ModelError, match=r"no tensor 'model\.b'"):
        Shards(single).read(["model.b"], dtype=torch.float32)


def test_no_weights_are_refused(tmp_path: Path) -> None:
    """An empty directory is named."""
    with pytest.raises(ModelError, match="no weights") as refusal:
        Shards(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Only pickle weights: the message says to convert."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*safetensors"):
        Shards(tmp_path)


def test_shards_without_an_index_are_refused(sharded: Path) -> None:
    """Nothing is guessed from the files alone."""
    (sharded / INDEX_NAME).unlink()
    with pytest.raises(ModelError, match=INDEX_NAME):
        Shards(sharded)


@pytest.mark.parametrize("kept_bytes", [0, 4, 60, -1])
def test_a_truncated_shard_is_refused_at_opening(sharded: Path, kept_bytes: int) -> None:
    """Cut in the length, in the header, or one byte before the end: the file is named."""
    file = sharded / "model-1.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(ModelError, match=r"model-1\.safetensors.*truncated or corrupt"):
        Shards(sharded)


def test_a_corrupt_header_is_refused(single: Path) -> None:
    """A header that is no JSON."""
    file = single / SINGLE_NAME
    content = bytearray(file.read_bytes())
    content[8:20] = b"\xff" * 12
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors.*truncated or corrupt"):
        Shards(single)


def test_a_shard_that_vanished_after_opening_is_refused(single: Path) -> None:
    """Reading names the file too."""
    shards = Shards(single)
    (single / SINGLE_NAME).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        shards.read(["model.codes"], dtype=torch.float32)


def test_an_absent_shard_is_refused(sharded: Path) -> None:
    """The index names a file that is not there."""
    (sharded / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-2\.safetensors.*absent.*1 of 2"):
        Shards(sharded)


def test_an_index_that_promises_too_much_is_refused(sharded: Path) -> None:
    """The index names a tensor that its shard lacks."""
    index = json.loads((sharded / INDEX_NAME).read_text())
    index["weight_map"]["model.lost"] = "model-2.safetensors"
    (sharded / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-2\.safetensors.*model\.lost"):
        Shards(sharded)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index_is_refused(sharded: Path, text: str) -> None:
    """Not JSON, or not the JSON that is expected."""
    (sharded / INDEX_NAME).write_text(text)
    with pytest.raises(ModelError, match=INDEX_NAME):
        Shards(sharded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    """The message names file, tensor and count; other tensors of the file can still be read."""
    broken = torch.ones(3, 4, dtype=dtype)
    broken[0, :2] = value
    save_file({"good": torch.ones(2), "broken": broken}, tmp_path / SINGLE_NAME)
    shards = Shards(tmp_path)
    assert torch.equal(shards.read(["good"], dtype=dtype)["good"], torch.ones(2, dtype=dtype))
    with pytest.raises(IntegrityError, match=r"model\.safetensors.*'broken' holds 2 .* of 12"):
        shards.read(["broken"], dtype=torch.float32)
