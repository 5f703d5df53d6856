"""`liptt generate`: text on stdout, the same for the same seed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.cli.generate import generate_command
from liptt_cli.errors import ConfigError

PROMPT = "Once upon a time"


def text(model: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    generate_command(str(model), PROMPT, max_new_tokens=12, **options)
    return capsys.readouterr().out


def test_the_prompt_goes_on_and_the_seed_decides(packed_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, again, other = (text(packed_llama, capsys, seed=seed, temperature=2.0) for seed in (1, 1, 2))
    assert one.startswith(PROMPT) and len(one) > len(PROMPT) + 1
    assert one == again != other


def test_temperature_zero_ignores_the_seed(packed_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert text(packed_llama, capsys, temperature=0.0, seed=1) == text(packed_llama, capsys, temperature=0.0, seed=2)


def test_a_dense_model_generates_too(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert text(tiny_llama, capsys).startswith(PROMPT)


def test_too_many_tokens_and_an_empty_prompt_are_refused(packed_llama: Path) -> None:
    with pytest.raises(ConfigError, match="more than the model's 256 positions"):
        generate_command(str(packed_llama), PROMPT, max_new_tokens=300)
    with pytest.raises(ConfigError, match="PROMPT: empty"):
        generate_command(str(packed_llama), "")


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_both_engines_make_the_same_text(
    temperature: float, packed_llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPTT_KERNEL", "torch")
    lean, other = (
        text(packed_llama, capsys, engine=engine, temperature=temperature, seed=3)
        for engine in ("lean", "transformers")
    )
    assert lean == other


def test_on_a_terminal_the_same_text_comes_in_pieces(
    packed_llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = text(packed_llama, capsys)
    pieces = []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "write", lambda piece: pieces.append(piece))
    generate_command(str(packed_llama), PROMPT, max_new_tokens=12)
    assert "".join(pieces) == whole
    assert pieces[0] == PROMPT
    assert len([piece for piece in pieces if piece]) > 4


def test_what_the_lean_loop_does_not_know_goes_through_transformers_and_says_so(
    make_tiny_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_tiny_model("opt", tmp_path / "opt")
    generate_command(str(other), PROMPT, max_new_tokens=4)
    told = capsys.readouterr()
    assert told.out.startswith(PROMPT)
    assert "through transformers, not by the lean loop: architecture 'opt'" in told.err
    with pytest.raises(ConfigError, match="--engine: the lean loop cannot: architecture 'opt'"):
        generate_command(str(other), PROMPT, engine="lean")
