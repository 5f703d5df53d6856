"""The measured sections of a suite: what `liptt bench` measures, and what weight files take, dense beside compressed.

Five rounds, a prompt of 128 tokens and 64 new ones, fewer of both for a model with few positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from liptt_cli.cli.bench import Bench, Dtype

if TYPE_CHECKING:
    from liptt_cli.decoding.comparison import Comparison, Measured
    from liptt_cli.evaluation.suites import Section
    from liptt_cli.models.hub import Source

_ROUNDS = 5
_PROMPT_TOKENS, _NEW_TOKENS = 128, 64


@dataclass(frozen=True)
class Efficiency:
    """The numbers of a model, and of the one that it is compared with; absent is what could not be measured."""

    ours: dict[str, float]
    dense: dict[str, float] | None
    comparison: "Comparison"

    def sections(self, sections: "Sequence[Section]", numbers: dict[str, float]) -> dict[str, dict[str, float]]:
        """Return numbers by section and measure, as gates name them."""
        return {
            section.name: {key: numbers[key] for key in section.measures if key in numbers}
            for section in sections
            if section.measures
        }

    def to_json(self, section: "Section") -> dict[str, Any]:
        """Return one section, beside the dense model if there is one."""
        measures = {key: self._beside(key) for key in section.measures}
        return {"suite": section.suite, "section": section.name, "title": section.title, "measures": measures}

    def _beside(self, key: str) -> dict[str, Any]:
        value = self.ours.get(key)
        if self.dense is None:
            return {"value": value}
        reference = self.dense.get(key)
        return {"value": value, "reference": reference, "ratio": self._ratio(key, value, reference)}

    def _ratio(self, key: str, value: float | None, reference: float | None) -> dict[str, float] | None:
        """Return how much of the dense number ours is; of a speed the median within rounds, with quartiles."""
        from liptt_cli.metrics.speed import ratios

        first, other = self.comparison.engines[0], self.comparison.engines[-1]
        if key == "decode_tokens_per_second":
            return ratios(first.decode, other.decode).to_json()
        if key == "prefill_tokens_per_second":
            return ratios(first.prefill, other.prefill).to_json()
        if value is None or not reference:
            return None
        return {"median": value / reference, "low": value / reference, "high": value / reference}


def measure_efficiency(
    model: str, against: str | None, *, dtype: Dtype, revision: str | None, trust_remote_code: bool
) -> Efficiency:
    """Run the bench on a model and, if one is named, on what it is compared with.

    Raises:
        ModelError: if a model cannot be found or loaded.
        ResourceError: if the system ends an engine's process.
    """
    import torch

    from liptt_cli.models import hub

    positions = getattr(hub.read_config(hub.locate(model, revision=revision)), "max_position_embeddings", None)
    prompt, new = (_PROMPT_TOKENS, _NEW_TOKENS) if positions is None else _fitting(positions)
    bench = Bench(model, prompt, new, torch.get_num_threads(), trust_remote_code, revision=revision)
    dense = [] if against is None else bench.dense(against)
    found = bench.run([bench.candidate(dtype), *dense], rounds=_ROUNDS)
    sources = [bench.source, *(() if against is None else (hub.locate(against),))]
    numbers = [_numbers(found, engine, source) for engine, source in zip(found.engines, sources, strict=True)]
    return Efficiency(numbers[0], numbers[1] if dense else None, found)


def _fitting(positions: int) -> tuple[int, int]:
    """Return how many tokens of prompt and new ones a model with so many positions reads."""
    return min(_PROMPT_TOKENS, positions // 2), max(2, min(_NEW_TOKENS, positions // 4))


def _numbers(found: "Comparison", engine: "Measured", source: "Source") -> dict[str, float]:
    from liptt_cli.metrics.speed import Spread
    from liptt_cli.packing.stored import stored

    size = stored(source.path)
    numbers = {
        "file_bytes": size.file_bytes,
        "bits_per_weight": size.bits_per_weight,
        "peak_bytes": engine.facts["peak_bytes"],
        "bytes_read_per_token": engine.bytes_per_token(found.plan.context_tokens),
        "decode_tokens_per_second": Spread.of(engine.decode).median,
        "prefill_tokens_per_second": Spread.of(engine.prefill).median,
    }
    return {key: float(value) for key, value in numbers.items() if value is not None}
