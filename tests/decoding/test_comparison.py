"""Rounds take turns, everything is compared within a round, and the document holds every number."""

import json
from typing import Any

import pytest

from liptt_cli.decoding import comparison
from liptt_cli.decoding.comparison import Plan, compare
from liptt_cli.decoding.contestant import Contestant
from liptt_cli.decoding.worker import Job
from liptt_cli.metrics.speed import Round

PLAN = Plan(prompt_tokens=4, new_tokens=8, rounds=3, vocabulary=50)


class Pretended(Contestant):
    """A contestant without a process: `speed` tokens a second, half of it in the second round."""

    def __init__(self, name: str, speed: float, order: list[str]) -> None:
        super().__init__(name, Job("lean", "", 1, 12))
        self.speed, self.order = speed, order
        self.prompts: list[list[int]] = []

    def __enter__(self) -> "Pretended":
        return self

    def __exit__(self, *_told: object) -> None:
        pass

    def round(self, prompt: list[int], new_tokens: int) -> tuple[Round, list[int]]:
        self.order.append(self.name)
        self.prompts.append(prompt)
        seconds = (2 if len(self.prompts) == 3 else 1) / self.speed
        return Round(
            len(prompt),
            prefill_seconds=seconds * len(prompt) / 10,
            steps=new_tokens - 1,
            decode_seconds=seconds * (new_tokens - 1),
            prefill_processor_seconds=seconds,
            decode_processor_seconds=seconds,
        ), list(range(new_tokens))

    def facts(self) -> dict[str, Any]:
        return {"engine": "none", "weight_bytes_per_token": 1000, "cache_bytes_per_token": 10}

    def agreement(self, _prompt: list[int], tokens: list[int]) -> dict[str, Any]:
        return {"tokens": len(tokens)}


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Floor:
        def bytes_per_second(self) -> float:
            return 1e6

    monkeypatch.setattr(comparison, "MemoryFloor", Floor)


def test_engines_take_turns_and_the_order_goes_round(floor: None) -> None:
    order: list[str] = []
    told: list[str] = []
    found = compare([Pretended(name, 100, order) for name in "abc"], PLAN, told.append)
    assert order[:3] == ["a", "b", "c"]  # they warm up
    assert order[3:] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert len(told) == PLAN.steps(3) == 18
    assert [len(engine.rounds) for engine in found.engines] == [3, 3, 3]


def test_a_disturbance_of_both_leaves_the_ratio(floor: None) -> None:
    order: list[str] = []
    found = compare([Pretended("ours", 300, order), Pretended("dense", 100, order)], PLAN, lambda _words: None)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["ratios"] == [
        {
            "of": "ours",
            "to": "dense",
            **{
                key: {"median": pytest.approx(3.0), "low": pytest.approx(3.0), "high": pytest.approx(3.0)}
                for key in ("decode", "prefill", "decode_by_processor_seconds")
            },
        }
    ]
    ours = document["engines"][0]
    assert ours["decode_tokens_per_second"]["median"] == pytest.approx(300)
    assert ours["bytes_read_per_token"] == 1000 + 8 * 10
    assert ours["memory_floor_share"]["high"] == pytest.approx(1080 / 1e6 * 300)
    assert len(ours["rounds"]) == 3
    assert "summed" in document["memory_floor"]["how"]


def test_every_round_reads_the_same_prompt_of_the_vocabulary(floor: None) -> None:
    one = Pretended("ours", 100, [])
    compare([one], PLAN, lambda _words: None)
    assert all(prompt == PLAN.prompt() for prompt in one.prompts)
    assert len(set(PLAN.prompt())) > 1
    assert all(0 <= token < 50 for token in PLAN.prompt())
