"""The export: nothing appears before the logits that were read back are those of the model in memory."""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from liptt_cli.errors import ConfigError, IntegrityError, ResourceError
from liptt_cli.models.hub import Source
from liptt_cli.packing.artifact import verify_files
from liptt_cli.packing.manifest import read_manifest
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.export import Export, assembled, export_copy, export_packed
from liptt_cli.stages.fingerprint import logits_of

ORIGIN = Origin("tiny", None, "sign", "0" * 64)
Make = Callable[..., Path]


@pytest.fixture
def job(tiny_llama: Path, make_block_files: Callable[[Path, Path], list[Path]], tmp_path: Path) -> Export:
    (tmp_path / "blocks").mkdir()
    overlay = Overlay.read(make_block_files(tiny_llama, tmp_path / "blocks"))
    return Export(Source(tiny_llama, "tiny", None), overlay, ORIGIN)


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_manifest_holds_the_fingerprint_of_what_was_read_back(job: Export, tmp_path: Path) -> None:
    manifest = export_packed(job, tmp_path / "packed")
    assert read_manifest(tmp_path / "packed") == manifest == verify_files(tmp_path / "packed")
    assert manifest.fingerprint is not None
    assert len(manifest.fingerprint["values"]) == 64 and manifest.fingerprint["torch"] == torch.__version__


def test_a_reference_in_memory_is_compared_bit_for_bit(job: Export, tmp_path: Path) -> None:
    model = assembled(job)
    export_packed(replace(job, reference=lambda tokens: logits_of(model, tokens)), tmp_path / "packed")

    def off(tokens: Tensor) -> Tensor:
        logits = logits_of(model, tokens)
        logits[0, 0, 0] += 1e-6
        return logits

    before = listing(tmp_path)
    with pytest.raises(IntegrityError, match="gives other logits than the one in memory"):
        export_packed(replace(job, reference=off), tmp_path / "other")
    assert listing(tmp_path) == before


def test_changed_norms_reach_the_packed_model(job: Export, tmp_path: Path) -> None:
    blocks = sorted((tmp_path / "blocks").iterdir())
    save_file({"model.norm.weight": torch.linspace(0, 3, 32)}, tmp_path / "outside.safetensors")
    changed = replace(job, overlay=Overlay.read([*blocks, tmp_path / "outside.safetensors"]))
    export_packed(changed, tmp_path / "packed")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    assert torch.equal(model.model.norm.weight, torch.linspace(0, 3, 32))


def test_an_existing_directory_is_refused_or_replaced(job: Export, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        export_packed(job, tmp_path / "packed")
    assert not listing(tmp_path / "packed")
    export_packed(job, tmp_path / "packed", replaces=True)
    verify_files(tmp_path / "packed")


def test_a_copy_is_the_same_files(packed_llama: Path, tmp_path: Path) -> None:
    export_copy(packed_llama, tmp_path / "copy")
    assert listing(tmp_path / "copy") == listing(packed_llama)
    assert all(path.read_bytes() == (packed_llama / path.name).read_bytes() for path in (tmp_path / "copy").iterdir())


def test_a_corrupt_packed_model_is_not_copied(packed_llama: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    export_copy(packed_llama, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"model\.safetensors: changed"):
        export_copy(broken, tmp_path / "out")
    assert listing(tmp_path) == ["broken"]


def test_a_full_disk_leaves_nothing_behind(job: Export, tmp_path: Path) -> None:
    before, limits = listing(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(ResourceError, match="no space left"):
            export_packed(job, tmp_path / "new" / "packed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert listing(tmp_path) == before
