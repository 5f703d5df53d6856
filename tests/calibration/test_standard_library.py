"""The two sides of the standard library's text."""

import pytest

from liptt_cli.calibration.standard_library import standard_library


@pytest.fixture(scope="module")
def sides() -> dict[str, list[str]]:
    return {"calibration": standard_library("calibration"), "evaluation": standard_library("evaluation")}


def test_the_sides_share_no_sequence_of_13_words(sides: dict[str, list[str]]) -> None:
    sequences = {}
    for side, documents in sides.items():
        words = [document.split() for document in documents]
        sequences[side] = {tuple(text[i : i + 13]) for text in words for i in range(len(text) - 12)}
    assert len(sequences["evaluation"]) > 10_000
    assert sequences["calibration"].isdisjoint(sequences["evaluation"])


def test_both_sides_are_large_and_calibration_the_larger(sides: dict[str, list[str]]) -> None:
    characters = {side: sum(map(len, documents)) for side, documents in sides.items()}
    assert characters["calibration"] > characters["evaluation"] > 100_000


def test_no_document_is_empty_or_on_both_sides(sides: dict[str, list[str]]) -> None:
    assert all(document.strip() for documents in sides.values() for document in documents)
    assert set(sides["calibration"]).isdisjoint(sides["evaluation"])
