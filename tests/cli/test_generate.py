"""`liptt generate`: text on stdout, the same for the same seed."""

from pathlib import Path

import pytest

from liptt_cli.cli.generate import generate_command
from liptt_cli.errors import ConfigError

PROMPT = "Once upon a time"


def text(model: Path, capsys: pytest.CaptureFixture[str], **options: float) -> str:
    generate_command(str(model), PROMPT, max_new_tokens=12, **options)  # type: ignore[arg-type]  # ints and floats
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
