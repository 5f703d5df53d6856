"""`liptt inspect`: each linear, the bytes, the whole file, and what the run's report knows."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.cli.inspect import inspect_command
from liptt_cli.errors import ModelError
from liptt_cli.packing.manifest import read_manifest


def told(model: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    inspect_command(str(model), as_json=True)
    return json.loads(capsys.readouterr().out)


def test_the_document_says_where_the_bits_went(packed_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, totals = told(packed_llama, capsys), read_manifest(packed_llama).totals
    assert sum(document["bytes"].values()) == document["totals"]["file_bytes"] == totals.file_bytes
    assert sum(linear["bytes"] for linear in document["linears"].values()) == totals.payload_bytes
    assert document["lipschitz"] is None
    assert document["linears"]["model.layers.0.self_attn.k_proj"]["form"].startswith("chain of 2 cores, rank 13")


def test_a_run_adds_its_errors_and_ratios(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratio = {"block": 0, "teacher_gain": 2.0, "student_gain": 3.0, "ratio": 1.5, "error_in": 0, "amplification": None}
    report = {
        "linears": {"model.layers.0.self_attn.k_proj": {"error": 0.25}},
        "lipschitz": {"before": [{**ratio, "ratio": 1.75}], "after": [ratio]},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "config.resolved.yaml").write_text("{}")
    (tmp_path / "model").mkdir()
    for path in packed_llama.iterdir():
        (tmp_path / "model" / path.name).symlink_to(path)
    document = told(tmp_path, capsys)
    assert document["linears"]["model.layers.0.self_attn.k_proj"]["error"] == 0.25
    assert document["linears"]["model.layers.0.self_attn.q_proj"]["error"] is None
    assert document["lipschitz"]["after"][0]["ratio"] == 1.5
    inspect_command(str(tmp_path))
    text = capsys.readouterr().out
    assert "1.750" in text and "1.500" in text and "0.2500" in text and "honest bits per weight" in text
    assert "not measured" in text, "a run of an older version knows no bounds"
    report["lipschitz"]["after"] = [{**ratio, "amplification": 1.25, "error_out": 0.375, "spectral_largest": 1.125}]
    (tmp_path / "report.json").write_text(json.dumps(report))
    inspect_command(str(tmp_path))
    text = capsys.readouterr().out
    assert "1.250" in text and "0.375" in text and "1.125" in text


def test_a_dense_model_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="not a model packed by liptt"):
        inspect_command(str(tiny_llama))
