"""The multiple-choice task made of the standard library's text."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.calibration.standard_library import standard_library
from liptt_cli.errors import CorpusError
from liptt_cli.evaluation.stdlib_task import NAME, stdlib_items, write_stdlib_task


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return standard_library("evaluation")


def joined(text: str) -> str:
    return " ".join(text.split())


def test_the_true_beginning_and_no_other_stands_before_the_rest_in_the_evaluation_side(documents: list[str]) -> None:
    text = " \n ".join(map(joined, documents))
    for item in stdlib_items(documents, 0):
        beginnings: Any = item["beginnings"]
        continued = [f"{beginning} {item['rest']}" in text for beginning in beginnings]
        assert continued == [place == item["label"] for place in range(4)]


def test_no_calibration_document_holds_an_items_text(documents: list[str]) -> None:
    calibration = " \n ".join(map(joined, standard_library("calibration")))
    long = [item for item in stdlib_items(documents, 0) if len(str(item["rest"]).split()) >= 13]
    assert long
    assert not any(str(item["rest"]) in calibration for item in long)


def test_beginnings_are_of_like_length_and_labels_spread(documents: list[str]) -> None:
    items: list[Any] = stdlib_items(documents, 0)
    lengths = [[len(beginning) for beginning in item["beginnings"]] for item in items]
    assert sum(max(row) <= 1.1 * min(row) for row in lengths) > 190
    labels = [item["label"] for item in items]
    assert len(items) == 200
    assert min(map(labels.count, range(4))) > 25


def test_the_seed_decides(documents: list[str]) -> None:
    assert stdlib_items(documents, 1) == stdlib_items(documents, 1) != stdlib_items(documents, 2)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="200 in more than 4 documents needed"):
        stdlib_items(["Only one sentence, which is far too little text for two hundred items of a test."], 0)


def test_the_files_are_a_task_and_its_items(tmp_path: Path) -> None:
    path = write_stdlib_task(tmp_path, seed=3)
    assert path.read_text().startswith(f"task: {NAME}\n")
    rows = [json.loads(line) for line in (tmp_path / f"{NAME}.jsonl").read_text().splitlines()]
    assert len(rows) == 200
    assert all(set(row) == {"rest", "beginnings", "label"} for row in rows)
