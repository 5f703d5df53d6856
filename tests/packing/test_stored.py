"""What a model takes on disk: a packed one by its manifest, a dense one by its headers, no bits of a foreign one."""

import json
import shutil
from pathlib import Path

from liptt_cli.packing.manifest import read_manifest
from liptt_cli.packing.stored import stored


def test_a_dense_model_has_the_bits_of_its_dtype(tiny_llama: Path) -> None:
    found = stored(tiny_llama)
    assert found.bits_per_weight == 32.0
    assert found.file_bytes == (tiny_llama / "model.safetensors").stat().st_size


def test_a_packed_model_has_those_of_its_manifest(packed_llama: Path) -> None:
    totals = read_manifest(packed_llama).totals
    assert stored(packed_llama).bits_per_weight == totals.bits_per_weight
    assert stored(packed_llama).file_bytes == totals.file_bytes


def test_what_another_program_packed_is_not_counted_in_bits(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "foreign")
    config = json.loads((tmp_path / "foreign/config.json").read_text())
    (tmp_path / "foreign/config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "x"}}))
    assert stored(tmp_path / "foreign").bits_per_weight is None
