"""Text as it comes adds up to the whole text, and no half character is shown."""

import pytest

from liptt_cli.decoding.streaming import TextStream
from tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def to_text(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize(
    "text", ["Once upon a time, a dog.", "größer als 3 €, 語 und 🙂!", " two  spaces\nand a line "]
)
@pytest.mark.parametrize("prompt", ["The", "A block "])
def test_the_pieces_are_the_whole(prompt: str, text: str) -> None:
    before, ids = TOKENIZER(prompt)["input_ids"], TOKENIZER(text)["input_ids"]
    stream = TextStream(to_text, before)
    pieces = [stream.add(token) for token in ids]
    assert prompt + "".join([*pieces, stream.rest()]) == to_text([*before, *ids]) == prompt + text
    assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_character_is_held_back_and_shown_at_the_end() -> None:
    euro = TOKENIZER("€")["input_ids"]
    assert len(euro) == 3
    stream = TextStream(to_text, TOKENIZER("a")["input_ids"])
    assert [stream.add(token) for token in euro[:2]] == ["", ""]
    assert stream.rest() == "\ufffd"
    assert stream.add(euro[2]) == "€"
