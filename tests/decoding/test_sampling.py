"""How a token is chosen, and which wishes of a generation configuration are told apart."""

import pytest
import torch
from transformers import GenerationConfig

from liptt_cli.decoding.sampling import Sampling, why_not

LOGITS = torch.tensor([0.0, 3.0, 2.0, 1.0, -1.0])


def drawn(sampling: Sampling, draws: int = 300) -> set[int]:
    generator = torch.Generator().manual_seed(0)
    return {sampling.choose(LOGITS, seen=[], generator=generator) for _ in range(draws)}


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(Sampling()) == {1}


def test_top_k_and_top_p_leave_out_the_unlikely() -> None:
    assert drawn(Sampling(temperature=5.0)) == {0, 1, 2, 3, 4}
    assert drawn(Sampling(temperature=5.0, top_k=2)) == {1, 2}
    assert drawn(Sampling(temperature=1.0, top_p=0.7)) == {1, 2}
    assert drawn(Sampling(temperature=5.0, top_p=0.01)) == {1}


def test_the_penalty_falls_on_tokens_seen_whatever_their_sign() -> None:
    assert Sampling(repetition_penalty=2.0).choose(LOGITS, seen=[1, 1]) == 2
    assert Sampling(repetition_penalty=9.0).choose(-LOGITS.abs() - 1, seen=[0, 0]) == 3


def test_a_model_s_own_wishes_are_read() -> None:
    found = Sampling.of(
        GenerationConfig(top_k=7, top_p=0.9, repetition_penalty=1.1, eos_token_id=[3, 4]), temperature=1.0
    )
    assert found == Sampling(1.0, top_k=7, top_p=0.9, repetition_penalty=1.1, ends=frozenset({3, 4}))
    assert Sampling.of(GenerationConfig(eos_token_id=2), temperature=0.0).ends == {2}
    assert Sampling.of(GenerationConfig(), temperature=0.0) == Sampling(top_k=50)


def test_a_wish_beyond_these_is_told() -> None:
    assert why_not(GenerationConfig()) is None
    assert why_not(GenerationConfig(num_beams=4, min_p=0.1)) == "generation_config.json asks for min_p=0.1, num_beams=4"


def test_every_knob_of_transformers_is_known_or_neutral() -> None:
    """A knob of a newer transformers that changes logits would be missed; it must be looked at when this fails."""
    from liptt_cli.decoding.sampling import _NEUTRAL

    known = {"temperature", "top_k", "top_p", "repetition_penalty", "eos_token_id", "do_sample"}
    numbers = {
        name
        for name, value in GenerationConfig._get_default_generation_params().items()
        if name not in known | set(_NEUTRAL)
    }
    assert numbers <= {
        "max_length",
        "use_cache",
        "early_stopping",
        "length_penalty",
        "num_return_sequences",
        "output_scores",
        "return_dict_in_generate",
        "remove_invalid_values",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "target_lookbehind",
        "num_beam_groups",
        "diversity_penalty",
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_decides(seed: int) -> None:
    one, again = (
        [Sampling(temperature=3.0).choose(LOGITS, seen=[], generator=made) for _ in range(20)]
        for made in (torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed))
    )
    assert one == again
