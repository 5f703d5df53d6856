"""Engines beside each other: rounds in turn, each a prompt read and tokens made, and what comes of them.

Every engine holds its model in a process of its own, all of them at once, and only one works at a time. The order goes
round, so that none is always behind the same other. The memory floor is measured in each round too.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch

from liptt_cli.decoding.contestant import Contestant
from liptt_cli.metrics.speed import FLOOR_WORDS, MemoryFloor, Round, Spread, floor_share, ratios

WARM_UP_TOKENS = 4
Told = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What each round is."""

    prompt_tokens: int
    new_tokens: int
    rounds: int
    vocabulary: int

    def prompt(self) -> list[int]:
        """Return tokens by chance, the same ones always: the speed does not depend on what they say."""
        generator = torch.Generator().manual_seed(0)
        return [int(i) for i in torch.randint(0, self.vocabulary, (self.prompt_tokens,), generator=generator)]

    def steps(self, contestants: int) -> int:
        """Return how often `told` will be called."""
        return contestants * (self.rounds + 3)

    @property
    def context_tokens(self) -> float:
        """Return how many tokens a step attends to on average."""
        return self.prompt_tokens + self.new_tokens / 2


@dataclass(frozen=True)
class Measured:
    """What came of one engine."""

    name: str
    facts: dict[str, Any]
    rounds: tuple[Round, ...]
    tokens: tuple[int, ...]
    agreement: dict[str, Any] | None
    load_seconds: float

    @property
    def decode(self) -> list[float]:
        """Return tokens a second behind the first, by round."""
        return [each.decode_tokens_per_second for each in self.rounds]

    @property
    def prefill(self) -> list[float]:
        """Return tokens of the prompt a second, by round."""
        return [each.prefill_tokens_per_second for each in self.rounds]

    @property
    def decode_by_processor(self) -> list[float]:
        """Return tokens behind the first a second of all processors together: on one thread, what waits left out."""
        return [each.steps / each.decode_processor_seconds for each in self.rounds]

    def bytes_per_token(self, context_tokens: float) -> float:
        """Return what is read for a token: the weights, and keys and values of those before it."""
        cached: float = self.facts["cache_bytes_per_token"] * context_tokens
        weights: float = self.facts["weight_bytes_per_token"]
        return weights + cached


@dataclass(frozen=True)
class Comparison:
    """What came of all of them, the first being the one that the others are compared with."""

    plan: Plan
    engines: tuple[Measured, ...]
    floor_bytes_per_second: tuple[float, ...]

    def floor_shares(self, engine: Measured) -> list[float]:
        """Return how near an engine came to the memory floor, by round."""
        return [
            floor_share(
                bytes_per_token=engine.bytes_per_token(self.plan.context_tokens),
                seconds_per_token=1 / speed,
                floor_bytes_per_second=floor,
            )
            for speed, floor in zip(engine.decode, self.floor_bytes_per_second, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return everything, the rounds included."""
        first, *others = self.engines
        return {
            "settings": asdict(self.plan),
            "memory_floor": {
                "bytes_per_second": Spread.of(self.floor_bytes_per_second).to_json(),
                "how": FLOOR_WORDS,
            },
            "engines": [self._told(engine) for engine in self.engines],
            "ratios": [
                {
                    "of": first.name,
                    "to": other.name,
                    "decode": ratios(first.decode, other.decode).to_json(),
                    "prefill": ratios(first.prefill, other.prefill).to_json(),
                    "decode_by_processor_seconds": ratios(
                        first.decode_by_processor, other.decode_by_processor
                    ).to_json(),
                }
                for other in others
            ],
        }

    def _told(self, engine: Measured) -> dict[str, Any]:
        return {
            "name": engine.name,
            **engine.facts,
            "load_seconds": engine.load_seconds,
            "decode_tokens_per_second": Spread.of(engine.decode).to_json(),
            "prefill_tokens_per_second": Spread.of(engine.prefill).to_json(),
            "first_token_seconds": Spread.of([each.prefill_seconds for each in engine.rounds]).to_json(),
            "bytes_read_per_token": engine.bytes_per_token(self.plan.context_tokens),
            "memory_floor_share": Spread.of(self.floor_shares(engine)).to_json(),
            "agreement": engine.agreement,
            "rounds": [asdict(each) for each in engine.rounds],
        }


def compare(contestants: Sequence[Contestant], plan: Plan, told: Told) -> Comparison:
    """Start every engine, run the rounds, and return what came of them.

    Args:
        contestants: not yet started.
        plan: what each round is.
        told: called after each step with what it was; `plan.steps(len(contestants))` times in all.

    Raises:
        ResourceError: if a process is ended by the system.
        LipttError: what the processes raise.
    """
    prompt = plan.prompt()
    with ExitStack() as stack:
        for contestant in contestants:
            stack.enter_context(contestant)
            told(f"loaded {contestant.name}")
        for contestant in contestants:
            contestant.round(prompt, min(plan.new_tokens, WARM_UP_TOKENS))
            told(f"warmed up {contestant.name}")
        rounds, tokens, floors = _rounds(contestants, plan, told)
        measured = []
        for number, contestant in enumerate(contestants):
            facts = contestant.facts()
            agreement = contestant.agreement(prompt, tokens[number])
            told(f"looked at {contestant.name}")
            found = (tuple(rounds[number]), tuple(tokens[number]))
            measured.append(Measured(contestant.name, facts, *found, agreement, contestant.load_seconds))
    return Comparison(plan, tuple(measured), tuple(floors))


def _rounds(
    contestants: Sequence[Contestant], plan: Plan, told: Told
) -> tuple[list[list[Round]], list[list[int]], list[float]]:
    prompt, floor = plan.prompt(), MemoryFloor()
    rounds: list[list[Round]] = [[] for _ in contestants]
    tokens: list[list[int]] = [[] for _ in contestants]
    floors = []
    for turn in range(plan.rounds):
        floors.append(floor.bytes_per_second())
        for number in (*range(turn % len(contestants), len(contestants)), *range(turn % len(contestants))):
            found, tokens[number] = contestants[number].round(prompt, plan.new_tokens)
            rounds[number].append(found)
            told(f"{contestants[number].name}: {found.decode_tokens_per_second:.1f} tokens/s")
    return rounds, tokens, floors
