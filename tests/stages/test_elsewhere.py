"""A packed model for other programs: nothing appears before all of it was read back, and what became of it is told."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from liptt_cli.errors import ConfigError, IntegrityError, ModelError, ResourceError
from liptt_cli.exports import gguf_file
from liptt_cli.exports.targets import Name, Wishes
from liptt_cli.kernels.dispatch import exact
from liptt_cli.models.hub import Source
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.run_directory import sha256_of
from liptt_cli.stages.elsewhere import Elsewhere, export_elsewhere
from liptt_cli.stages.export import Export, export_copy, export_packed

ELSEWHERE: tuple[Name, ...] = ("hf", "compressed-tensors", "gguf")
ALLOWED = Wishes(allow_densify=True)
Make = Callable[..., Path]


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("to", ELSEWHERE)
def test_the_record_tells_every_linear_and_the_hash_of_every_file(packed_llama: Path, tmp_path: Path, to: Name) -> None:
    record = export_elsewhere(Elsewhere(packed_llama, to, ALLOWED), tmp_path / "out")
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told == json.loads(json.dumps(record.to_json()))
    assert listing(tmp_path) == ["out"] and set(told["files"]) == set(listing(tmp_path / "out")) - {"export.json"}
    assert all(sha256_of(tmp_path / "out" / name) == file["sha256"] for name, file in told["files"].items())
    assert len(told["linears"]) == 14 and {row["kind"] for row in told["linears"].values()} == {"densified"}
    weights = [name for name in told["files"] if name.endswith((".safetensors", ".gguf"))]
    assert told["file_bytes"] == sum(told["files"][name]["bytes"] for name in weights)
    assert told["others"]["tensors"] == 3 + 2 * 2 and (told["logits"] is None) == (to == "gguf")


def test_a_plain_model_needs_no_plug_in_and_gives_close_logits(packed_llama: Path, tmp_path: Path) -> None:
    record = export_elsewhere(Elsewhere(packed_llama, "hf", shard_bytes=40_000), tmp_path / "plain")
    assert record.logits is not None and record.logits["largest_difference"] <= record.logits["allowed_difference"]
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert "quantization_config" not in config and "liptt.json" not in listing(tmp_path / "plain")
    code = f"""
import torch
from transformers import AutoModelForCausalLM
tokens = torch.arange(10)[None]
torch.save(AutoModelForCausalLM.from_pretrained({str(tmp_path / "plain")!r})(tokens).logits, {str(tmp_path / "x")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ""})
    with exact():
        expected = AutoModelForCausalLM.from_pretrained(packed_llama)(torch.arange(10)[None]).logits
    torch.testing.assert_close(torch.load(tmp_path / "x"), expected, rtol=1e-4, atol=1e-4)


def test_a_plain_model_has_the_dtype_of_its_run_or_the_one_asked_for(
    tiny_llama: Path, make_block_files: Callable[[Path, Path], list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "blocks").mkdir()
    overlay = Overlay.read(make_block_files(tiny_llama, tmp_path / "blocks"))
    origin = Origin("tiny", None, "sign", "0" * 64, "bfloat16")
    export_packed(Export(Source(tiny_llama, "tiny", None), overlay, origin), tmp_path / "packed")
    for dtype, norms in ((None, torch.float32), ("float16", torch.float16)):
        out = tmp_path / str(dtype)
        record = export_elsewhere(Elsewhere(tmp_path / "packed", "hf", Wishes(dtype=dtype)), out)
        stored, written = load_file(out / "model.safetensors"), dtype or "bfloat16"
        assert stored["model.layers.0.mlp.up_proj.weight"].dtype == getattr(torch, written)
        assert stored["model.norm.weight"].dtype == norms
        assert record.kinds() == {f"densified ({written})": 14}
        assert json.loads((out / "config.json").read_text())["dtype"] == written


@pytest.mark.parametrize("to", ["compressed-tensors", "gguf"])
def test_what_cannot_be_exact_is_refused_without_leave(packed_llama: Path, tmp_path: Path, to: Name) -> None:
    with pytest.raises(ConfigError, match=f"{to} cannot hold the compressed linears exactly"):
        export_elsewhere(Elsewhere(packed_llama, to), tmp_path / "out")
    assert not listing(tmp_path)


def test_an_unknown_family_is_refused_and_leaves_nothing(
    make_tiny_model: Make, make_packed_model: Make, tmp_path: Path
) -> None:
    packed = make_packed_model(make_tiny_model("opt", tmp_path / "opt"), tmp_path / "packed")
    with pytest.raises(ModelError, match="model_type 'opt'"):
        export_elsewhere(Elsewhere(packed, "gguf", ALLOWED), tmp_path / "out")
    assert listing(tmp_path) == ["opt", "packed"]


@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_corrupt_packed_model_is_not_exported(packed_llama: Path, tmp_path: Path, to: Name) -> None:
    broken = tmp_path / "broken"
    export_copy(packed_llama, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"model\.safetensors: changed"):
        export_elsewhere(Elsewhere(broken, to, ALLOWED), tmp_path / "out")
    assert listing(tmp_path) == ["broken"]


def test_a_file_that_reads_back_otherwise_does_not_appear(
    packed_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gguf_file._plain
    monkeypatch.setattr(gguf_file, "_plain", lambda matrix, name: plain(matrix * 1.5, name))
    with pytest.raises(IntegrityError, match="read back is not"):
        export_elsewhere(Elsewhere(packed_llama, "gguf", ALLOWED), tmp_path / "out")
    assert not listing(tmp_path)


@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_full_disk_leaves_nothing_behind(packed_llama: Path, tmp_path: Path, to: Name) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(ResourceError, match="no space left"):
            export_elsewhere(Elsewhere(packed_llama, to, ALLOWED), tmp_path / "new" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not listing(tmp_path)
