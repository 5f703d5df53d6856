"""`liptt eval` from outside: one JSON document or a table on stdout, gates, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from liptt_cli.cli.evaluate import evaluate_command
from liptt_cli.errors import ConfigError, CorpusError, GateError, LipttError, ModelError


@pytest.fixture(scope="module")
def other_llama(make_tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("llama", tmp_path_factory.mktemp("tiny") / "other", seed=1)


@pytest.fixture
def book(tmp_path: Path) -> str:
    path = tmp_path / "book.txt"
    path.write_text("The cores are signs, and the signs are read twice. " * 40)
    return str(path)


def run(*arguments: object) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(evaluate_command)
    typer.main.get_command(app).main([str(argument) for argument in arguments], standalone_mode=False)


def test_json_is_one_document_with_differences_and_gates(
    tiny_llama: Path, other_llama: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [tiny_llama, "--perplexity", book, "--window-tokens", 32, "--windows", 4, "--against", other_llama]
    run(*arguments, "--fail-if", "nats>+100", "--json")
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    found, beside = (part["perplexity"][book] for part in (document, document["against"]))
    assert document["settings"]["windows"] == 4
    assert document["differences"][0]["name"] == f"{book}.nats"
    assert document["differences"][0]["difference"] == pytest.approx(found["nats"] - beside["nats"])
    assert document["gates"][0]["passed"] is True
    assert "perplexity on" in captured.err


def test_a_table_shows_both_models_and_what_was_kept(
    tiny_llama: Path, other_llama: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_llama, "--perplexity", book, "--tasks", "stdlib_cloze", "--limit", 5, "--against", other_llama)
    out = capsys.readouterr().out
    for words in ("book.txt", "windows of 256 tokens, stride 256", "stdlib_cloze", "reference", "difference", "kept"):
        assert words in out


def test_a_failed_gate_ends_in_status_6_after_the_result(
    tiny_llama: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = ["--fail-if", "perplexity>1", "--fail-if", "nats<0"]
    with pytest.raises(GateError, match=r"1 of 2 quality gates failed") as caught:
        run(tiny_llama, "--perplexity", book, "--window-tokens", 32, "--json", *gates)
    assert caught.value.exit_status == 6
    assert [gate["passed"] for gate in json.loads(capsys.readouterr().out)["gates"]] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], ConfigError, "nothing to measure"),
        (["--perplexity", "book.txt", "--fail-if", "nats>+0.1"], ConfigError, "--against"),
        (["--perplexity", "book.txt", "--fail-if", "nats"], ConfigError, "Examples"),
        (["--perplexity", "absent.txt"], CorpusError, "no such corpus"),
        (["--tasks", "absent/task.yaml"], ConfigError, "no task file"),
        (["--perplexity", "stdlib", "--window-tokens", 300], ConfigError, "at most 256"),
        (["--perplexity", "stdlib", "--against", "./absent"], ModelError, "absent"),
    ],
)
def test_refusals_print_nothing_on_stdout(
    tiny_llama: Path,
    arguments: list[object],
    error: type[LipttError],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(error, match=words):
        run(tiny_llama, *arguments)
    assert capsys.readouterr().out == ""


def test_models_with_other_tokenizers_are_not_compared(
    tiny_llama: Path, other_llama: Path, book: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(other_llama)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(tmp_path / "renamed")
    AutoModelForCausalLM.from_pretrained(other_llama).save_pretrained(tmp_path / "renamed")
    with pytest.raises(ConfigError, match="tokenizers differ"):
        run(tiny_llama, "--perplexity", book, "--window-tokens", 32, "--against", tmp_path / "renamed")


def test_a_disturbance_is_the_same_for_both_models_and_is_said(
    tiny_llama: Path, packed_llama: Path, book: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [packed_llama, "--perplexity", book, "--window-tokens", 32, "--windows", 4, "--against", tiny_llama]
    found = {}
    for name, options in {"plain": [], "coarse": ["--activation-bits", 3], "noisy": ["--input-noise", 0.5]}.items():
        run(*arguments, *options, "--json")
        found[name] = json.loads(capsys.readouterr().out)
    plain, coarse, noisy = found.values()
    assert "activation_bits" not in plain["settings"]
    assert coarse["settings"]["activation_bits"] == coarse["against"]["settings"]["activation_bits"] == 3
    assert noisy["settings"]["input_noise"] == 0.5
    for other in (coarse, noisy):
        for ours, theirs in ((plain, other), (plain["against"], other["against"])):
            assert ours["perplexity"][book]["nats"] != theirs["perplexity"][book]["nats"]
    run(*arguments, "--activation-bits", 8, "--input-noise", 0.1)
    assert "activations of 8 bits, input noise 0.1" in " ".join(capsys.readouterr().out.split())
