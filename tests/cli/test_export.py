"""`liptt export`: a copy or a plain model, told per linear, and never over what is there."""

import json
from pathlib import Path

import pytest

from liptt_cli.cli.main import main
from liptt_cli.packing.artifact import verify_files


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_a_packed_model_is_copied_and_told_exact(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", str(packed_llama), "--output", str(tmp_path / "out"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in told["linears"].values()} == {"exact"} and len(told["linears"]) == 14
    verify_files(tmp_path / "out")


def test_a_plain_model_is_told_densified(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", str(packed_llama), "--to", "hf", "-o", str(tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert told.count("densified") == 15 and "Logits differ from the packed model's by" in told
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_gguf_is_refused_without_leave_and_written_with_it(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ("export", str(packed_llama), "--to", "gguf", "-o", str(tmp_path / "out"))
    assert run(*order) == 2
    assert "cannot hold the compressed linears exactly" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run(*order, "--allow-densify", "--type", "F32", "--tables", "Q8_0", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kinds"] == {"densified (F32)": 14} and told["output"] == str(tmp_path / "out")
    assert {row["largest_difference"] for row in told["linears"].values()} == {0.0}
    assert run(*order, "--allow-densify", "--force") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "14 densified (F16)" in said and "a chain, not one matrix of signs." in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "hf", "--type", "Q4_0"), "only GGUF has types"),
        (("--to", "gguf", "--dtype", "float16"), "only a plain model has a dtype"),
        (("--to", "onnx"), "compressed-tensors"),
    ],
)
def test_options_of_another_target_are_refused(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run("export", str(packed_llama), "-o", str(tmp_path / "out"), *words) == 2
    assert said in capsys.readouterr().err


def test_a_run_directory_stands_for_its_model(packed_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.resolved.yaml").write_text("{}")
    (tmp_path / "run" / "model").symlink_to(packed_llama)
    assert run("-q", "export", str(tmp_path / "run"), "--output", str(tmp_path / "out"), "--json") == 0
    verify_files(tmp_path / "out")


def test_existing_output_is_refused_unless_forced(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", str(packed_llama), "--output", str(tmp_path)) == 2
    assert "exists already" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run("export", str(packed_llama), "--output", str(tmp_path), "--force") == 0
    verify_files(tmp_path)


def test_a_file_in_the_way_is_a_usage_error(
    packed_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert run("export", str(packed_llama), "--output", str(tmp_path / "file" / "out")) == 2
    assert "no directory can be made here" in capsys.readouterr().err


def test_a_dense_model_cannot_be_exported(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", str(tiny_llama), "--output", str(tmp_path / "out")) == 3
    assert "not a model packed by liptt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
