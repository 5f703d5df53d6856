"""Tokens of the lean loop are those of transformers' own `generate`: greedy, sampled, with penalties and ends."""

from pathlib import Path
from typing import Any

import pytest
import torch

from liptt_cli.decoding.decoder import Decoder
from liptt_cli.decoding.generation import generate
from liptt_cli.decoding.sampling import Sampling
from liptt_cli.models import hub

PROMPT = [5, 17, 200, 31, 99, 4]
NEW = 10
WISHES = [
    {},
    {"repetition_penalty": 1.3},
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 1.0, "top_k": 0, "top_p": 0.6, "repetition_penalty": 1.1},
]


@pytest.fixture(scope="module")
def packed(packed_llama: Path) -> Any:
    return hub.load_model(hub.locate(str(packed_llama)), dtype=torch.float32)


def lean(model: Any, wishes: dict[str, Any], seed: int) -> list[int]:
    decoder = Decoder(model, capacity_tokens=len(PROMPT) + NEW)
    sampling = Sampling.of(model.generation_config, temperature=wishes.get("temperature", 0.0))
    return list(generate(decoder, PROMPT, new_tokens=NEW, sampling=sampling, seed=seed))


def by_transformers(model: Any, wishes: dict[str, Any], seed: int) -> list[int]:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        ids = torch.tensor([PROMPT])
        drawn = {**wishes, "do_sample": "temperature" in wishes}
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, pad_token_id=1, **drawn)
    return list(made[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("wishes", WISHES, ids=str)
def test_the_same_tokens_as_transformers_on_a_packed_model(
    wishes: dict[str, Any], packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPTT_KERNEL", "torch")
    for name in ("top_k", "top_p", "repetition_penalty"):
        monkeypatch.setattr(packed.generation_config, name, wishes.get(name))
    found = lean(packed, wishes, seed=1)
    assert found == by_transformers(packed, wishes, seed=1)
    assert len(set(found)) > 3


def test_a_token_that_ends_the_text_is_the_last(packed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lean(packed, {}, 0)
    assert len(whole) == NEW
    end = whole[NEW // 2]
    monkeypatch.setattr(packed.generation_config, "eos_token_id", [319, end])
    assert lean(packed, {}, 0) == whole[: whole.index(end) + 1] == by_transformers(packed, {}, 0)
