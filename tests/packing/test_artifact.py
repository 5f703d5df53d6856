"""The packed directory: what is in it, what its manifest says, and that no changed byte goes unseen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from liptt_cli.errors import FormatVersionError, IntegrityError, ModelError
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.packing.artifact import verify_files, write_packed
from liptt_cli.packing.manifest import read_manifest
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin

ORIGIN = Origin("tiny/llama", "abc", "sign", "0" * 64, "float32")
MakeBlockFiles = Callable[[Path, Path], list[Path]]


@pytest.fixture
def block_files(tiny_llama: Path, make_block_files: MakeBlockFiles, tmp_path: Path) -> list[Path]:
    (tmp_path / "blocks").mkdir()
    return make_block_files(tiny_llama, tmp_path / "blocks")


@pytest.fixture
def copy(packed_llama: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed_llama, tmp_path / "copy")
    return tmp_path / "copy"


def write(source: Path, files: list[Path], directory: Path) -> Path:
    directory.mkdir()
    shards = sorted(source.glob("*.safetensors"))
    write_packed(directory, source=shards, overlay=Overlay.read(files), origin=ORIGIN, shard_bytes=10**9)
    return directory


def test_linears_become_blobs_and_all_else_is_kept_to_the_bit(
    make_tiny_model: Callable[..., Path], make_block_files: MakeBlockFiles, tmp_path: Path
) -> None:
    source = make_tiny_model("llama", tmp_path / "source")
    brain = {name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(brain, source / "model.safetensors", metadata={"format": "pt"})
    files = make_block_files(source, tmp_path)
    save_file({"model.norm.weight": torch.arange(32.0)}, tmp_path / "outside.safetensors")
    stored = load_file(write(source, [*files, tmp_path / "outside.safetensors"], tmp_path / "x") / "model.safetensors")
    forms = Overlay.read(files).forms
    assert stored.keys() == brain.keys()
    for name, tensor in stored.items():
        form = forms.get(name.removesuffix(".weight"))
        if form is not None:
            assert tensor.dtype == torch.uint8 and tensor.shape == (blob_bytes(form),)
        elif name == "model.norm.weight":
            assert torch.equal(tensor, torch.arange(32.0))
        else:
            assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, brain[name])


def test_the_manifest_counts_the_bytes_that_are_there(packed_llama: Path, tiny_llama: Path) -> None:
    manifest = read_manifest(packed_llama)
    forms = Overlay.of_packed(packed_llama).forms
    stored = load_file(packed_llama / "model.safetensors")
    payload = sum(tensor.numel() for tensor in stored.values() if tensor.dtype == torch.uint8)
    totals = manifest.totals
    assert totals.payload_bytes == payload == sum(linear.bytes for linear in manifest.linears.values())
    assert totals.weights == sum(form.shape[0] * form.shape[1] for form in forms.values())
    assert totals.bits_per_weight == 8 * payload / totals.weights
    assert totals.file_bytes == (packed_llama / "model.safetensors").stat().st_size
    assert totals.dense_file_bytes == (tiny_llama / "model.safetensors").stat().st_size
    dense = load_file(tiny_llama / "model.safetensors")
    assert totals.dense_bf16_bytes == 2 * sum(tensor.numel() for tensor in dense.values())
    assert totals.sign_additions == sum(form.operations().sign_additions for form in forms.values())
    for name, form in forms.items():
        assert manifest.linears[name].bits_per_weight == bits_per_weight(form)


def test_equal_forms_are_written_once(packed_llama: Path) -> None:
    section = json.loads((packed_llama / "config.json").read_text())["quantization_config"]
    assert len(section["layers"]) == 14 and len(section["forms"]) < 14
    texts = [json.dumps(form, sort_keys=True) for form in section["forms"].values()]
    assert len(set(texts)) == len(texts)
    assert section["modules_to_not_convert"] == ["lm_head", "model.embed_tokens"]


def test_companions_are_texts_only(
    make_tiny_model: Callable[..., Path], make_block_files: MakeBlockFiles, tmp_path: Path
) -> None:
    source = make_tiny_model("llama", tmp_path / "source")
    for name in ("modeling_x.py", "tokenizer.pkl", "training_args.bin", "trainer_state.json", "LICENSE"):
        (source / name).write_text("{}")
    names = {path.name for path in write(source, make_block_files(source, tmp_path), tmp_path / "x").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "LICENSE", "README.md", "liptt.json", "config.json"} <= names
    assert not names & {"modeling_x.py", "tokenizer.pkl", "training_args.bin", "trainer_state.json"}


def test_the_card_says_how_to_load_it_and_what_it_costs(
    tiny_llama: Path, block_files: list[Path], tmp_path: Path
) -> None:
    text = (write(tiny_llama, block_files, tmp_path / "x") / "README.md").read_text()
    bits = read_manifest(tmp_path / "x").totals.bits_per_weight
    assert "import liptt_cli" in text and f"{bits:.3f}" in text and "tiny/llama at abc" in text and "0" * 64 in text


def test_two_writes_give_the_same_bytes(tiny_llama: Path, block_files: list[Path], tmp_path: Path) -> None:
    one, two = (write(tiny_llama, block_files, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in sorted(one.iterdir())] == [path.name for path in sorted(two.iterdir())]
    assert all(path.read_bytes() == (two / path.name).read_bytes() for path in one.iterdir())


def test_a_tensor_that_the_source_does_not_have_is_named(
    tiny_llama: Path, block_files: list[Path], tmp_path: Path
) -> None:
    save_file({"model.extra": torch.zeros(1)}, tmp_path / "outside.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.extra: changed by the run, but the source"):
        write(tiny_llama, [*block_files, tmp_path / "outside.safetensors"], tmp_path / "x")


def test_a_tensor_of_another_shape_is_named(tiny_llama: Path, block_files: list[Path], tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.zeros(5)}, tmp_path / "outside.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.norm\.weight: \(5,\) in the run, but \(32,\)"):
        write(tiny_llama, [*block_files, tmp_path / "outside.safetensors"], tmp_path / "x")


def test_an_untouched_model_verifies(packed_llama: Path) -> None:
    assert verify_files(packed_llama) == read_manifest(packed_llama)


def test_a_flipped_byte_anywhere_is_seen_and_its_file_named(copy: Path) -> None:
    for path in sorted(copy.iterdir()):
        data = path.read_bytes()
        for place in (0, len(data) // 2, len(data) - 2):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(IntegrityError, match=path.name.replace(".", r"\.")):
                verify_files(copy)
        path.write_bytes(data)
    verify_files(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    for path in sorted(copy.iterdir()):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(IntegrityError, match=rf"{path.name}: missing"):
            verify_files(copy)
        path.write_bytes(data)


@pytest.mark.parametrize("change", [b"!", None])
def test_a_longer_or_shorter_file_is_named(copy: Path, change: bytes | None) -> None:
    path = copy / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change is None else data + change)
    with pytest.raises(IntegrityError, match=r"model\.safetensors: \d+ bytes, but \d+ were written"):
        verify_files(copy)


def test_weights_and_code_that_do_not_belong_are_named(copy: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"1")
    with pytest.raises(IntegrityError, match=r"pytorch_model\.bin: not of this model"):
        verify_files(copy)


def test_a_newer_format_is_told_apart_from_a_broken_one(copy: Path) -> None:
    data = json.loads((copy / "liptt.json").read_text())
    (copy / "liptt.json").write_text(json.dumps({**data, "format_version": 2, "wavelets": True}))
    with pytest.raises(FormatVersionError, match=r"liptt\.json: format_version is 2"):
        verify_files(copy)


def test_a_source_without_config_is_refused_by_reading(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        Overlay.of_packed(tmp_path)
