"""Scores from a sentencepiece model's protocol buffer, and what is no such file."""

from pathlib import Path

import pytest

from liptt_cli.errors import ModelError
from liptt_cli.exports.sentencepiece_file import piece_scores
from sentencepiece_models import sentencepiece_model

SCORES = {"<unk>": 0.0, "\u2581the": -1.5, "x" * 300: -12.0}


def test_the_score_of_each_piece_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model(SCORES))
    assert piece_scores(tmp_path / "tokenizer.model") == SCORES


def test_another_kind_of_model_has_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model(SCORES, kind=1))
    assert piece_scores(tmp_path / "tokenizer.model") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sentencepiece_model(SCORES)[:-3], "it ends within a field"),
        (b"\x0b\x01", "unknown kind 3"),
        (b"\x12\xff", "index out of range"),
        (b"\x08\x01\x12\x02\x18\x02", "a number where a message should be"),
        (b"\x0a\x02\x08\x01\x12\x02\x18\x02", "a piece without a text"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ModelError, match=words):
        piece_scores(tmp_path / "tokenizer.model")
