"""`liptt verify`: sound, or exit status 5 with the file's name."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from liptt_cli.cli.main import main
from liptt_cli.cli.verify import verify_command
from liptt_cli.errors import IntegrityError
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.manifest import read_manifest


@pytest.fixture
def copy(packed_llama: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed_llama, tmp_path / "copy")
    return tmp_path / "copy"


def status(directory: Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["verify", str(directory)])
    return int(end.value.code or 0)


def test_a_sound_model_has_identical_logits(packed_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_command(str(packed_llama), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["logits_identical"] and told["linears"] == 14
    assert told["payload_bytes"] == read_manifest(packed_llama).totals.payload_bytes
    verify_command(str(packed_llama))
    assert "sound" in capsys.readouterr().out


@pytest.mark.parametrize("place", [3, 100, -1])
def test_a_flipped_byte_ends_in_5(copy: Path, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[place] ^= 4
    (copy / "model.safetensors").write_bytes(data)
    assert status(copy) == 5
    assert "model.safetensors: changed since it was written" in capsys.readouterr().err


def test_a_truncated_file_a_missing_one_and_a_newer_format_end_in_5(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-7])
    assert status(copy) == 5
    (copy / "model.safetensors").unlink()
    assert status(copy) == 5
    assert "model.safetensors: missing" in capsys.readouterr().err
    (copy / "model.safetensors").write_bytes(weights)
    data = json.loads((copy / "liptt.json").read_text())
    (copy / "liptt.json").write_text(json.dumps({**data, "format_version": 7}))
    assert status(copy) == 5
    assert "format_version is 7" in capsys.readouterr().err


def test_a_dense_model_is_told(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tiny_llama) == 3
    assert "not a model packed by liptt" in capsys.readouterr().err


def test_a_program_that_computes_otherwise_is_found(packed_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PackedLinear.forward

    def wrong(self: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        return 2 * right(self, x)

    monkeypatch.setattr(PackedLinear, "forward", wrong)
    with pytest.raises(IntegrityError, match="logits are not those of the export"):
        verify_command(str(packed_llama))


def test_a_model_without_a_fingerprint_is_told(copy: Path) -> None:
    manifest = read_manifest(copy)
    type(manifest)(manifest.origin, manifest.files, manifest.linears, manifest.totals).write(copy)
    with pytest.raises(IntegrityError, match="no fingerprint"):
        verify_command(str(copy))
