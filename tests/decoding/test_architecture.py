"""What the lean loop does not run is told with the reason, by configuration and by modules."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from liptt_cli.decoding.architecture import why_not, window_tokens
from tiny_models import tiny_config

ORIGINAL = {"rope_theta": 1e4, "factor": 2.0}


def model(family: str = "llama", **overrides: Any) -> Any:
    return AutoModelForCausalLM.from_config(tiny_config(family, **overrides))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_four_families_are_known(family: str) -> None:
    assert why_not(model(family)) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "dynamic", **ORIGINAL}}, "'dynamic' change with the length"),
    ],
    ids=["activation", "rotary"],
)
def test_a_configuration_beyond_the_loop(overrides: dict[str, Any], words: str) -> None:
    assert words in str(why_not(model(**overrides)))


def test_modules_beyond_the_loop() -> None:
    strange = model()
    strange.model.layers[1].self_attn.gate = nn.Linear(2, 2)
    assert why_not(strange) == "block 1 holds other modules than the family's own"


def test_a_class_that_is_not_of_transformers() -> None:
    class Renamed(type(model())):  # type: ignore[misc]
        pass

    assert why_not(Renamed(tiny_config("llama"))) == "its code is not that of transformers"


def test_offloaded_and_spread_models() -> None:
    with torch.device("meta"):
        assert why_not(model()) == "it is offloaded"
    hooked = model()
    hooked.model.layers[0]._hf_hook = object()
    assert why_not(hooked) == "it is offloaded"


def test_windows_are_those_of_each_block() -> None:
    assert [window_tokens(tiny_config("mistral"), block) for block in (0, 1)] == [8, 8]
    assert [window_tokens(tiny_config("qwen2"), block) for block in (0, 1)] == [None, 8]
    assert [window_tokens(tiny_config(family), 0) for family in ("llama", "qwen3")] == [None, None]
    assert window_tokens(tiny_config("mistral", sliding_window=None), 0) is None
