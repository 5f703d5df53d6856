"""lm-evaluation-harness loads a packed directory by its name, as `--model hf` does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_loads_a_packed_directory(packed_llama: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    loaded: Any = HFLM(pretrained=str(packed_llama), device="cpu", batch_size=1, max_length=64)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(packed_llama)(tokens).logits
        assert torch.equal(loaded.model(tokens).logits, expected)
