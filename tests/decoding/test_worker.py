"""What the process answers, wish by wish; that it is a process is tested with `liptt bench`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from liptt_cli.decoding.worker import Job, _answers
from liptt_cli.errors import ModelError


def told(*wishes: object) -> Iterator[str]:
    return map(json.dumps, wishes)


def test_every_wish_has_one_answer(packed_llama: Path) -> None:
    job = Job("lean", str(packed_llama), threads=1, capacity_tokens=8)
    wishes = [
        {"do": "round", "prompt": [5, 6, 7], "new_tokens": 3},
        {"do": "facts"},
        {"do": "agreement", "prompt": [5, 6, 7], "tokens": [8, 9]},
    ]
    ready, round_, facts, compared = _answers(told(asdict(job), *wishes))
    assert ready["load_seconds"] > 0
    assert len(round_["tokens"]) == 3
    assert round_["round"]["steps"] == 2
    assert facts["engine"] == "lean"
    assert 0 < facts["idle_bytes"] <= facts["peak_bytes"]
    assert compared["agreement"]["tokens"] == 2
    json.dumps([ready, round_, facts, compared], allow_nan=False)


def test_a_model_that_is_not_there_is_our_error(tmp_path: Path) -> None:
    job = Job("transformers", str(tmp_path), threads=1, capacity_tokens=8)
    with pytest.raises(ModelError, match="no config.json"):
        next(_answers(told(asdict(job))))
