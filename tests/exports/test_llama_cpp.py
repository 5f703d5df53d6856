"""llama.cpp itself runs what is written: the tokenizer's ids, the packed model's logits, text that it goes on with.

Its matrix products round activations to eight bits a block, so logits are compared by their relative error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exports.writing import NO_WINDOW, job_of
from liptt_cli.exports.carrying import GgufType, TableType
from liptt_cli.exports.gguf_file import NAME, write
from liptt_cli.kernels.dispatch import exact

pytestmark = pytest.mark.llama_cpp
ALLOWED_SHARE = {"F16": 0.005}  # of the logits' own size, where activations are not rounded; elsewhere:
ROUNDED_SHARE = 0.05
TEXT = "Once upon a time, there were 12 dogs.\n\n  And the sea's."
Make = Callable[..., Path]


def loaded(path: Path) -> Any:
    import llama_cpp

    return llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, logits_all=True, verbose=False)


def compare(packed: Path, file: Path, *, allowed_share: float = ROUNDED_SHARE) -> None:
    """Compare ids and logits of one text."""
    program, tokenizer = loaded(file), AutoTokenizer.from_pretrained(packed)
    ids = tokenizer(TEXT).input_ids
    assert program.tokenize(TEXT.encode(), special=True) == ids
    program.eval(ids)
    found = np.array(program.scores[: len(ids)], dtype=np.float64)
    with torch.no_grad(), exact():
        model = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float32)
        expected = model(torch.tensor([ids])).logits[0].double().numpy()
    assert np.linalg.norm(found - expected) <= allowed_share * np.linalg.norm(expected)


@pytest.mark.parametrize("wanted", [None, "TQ1_0", "TQ2_0", "Q4_0", "Q8_0", "F16"])
def test_every_type_runs(make_signs: Make, tmp_path: Path, wanted: GgufType | None) -> None:
    packed = make_signs("llama", group=10**6, intermediate_size=512, head_dim=64)
    write(job_of(packed, wanted=wanted), tmp_path / NAME)
    compare(packed, tmp_path / NAME, allowed_share=ALLOWED_SHARE.get(wanted or "", ROUNDED_SHARE))


@pytest.mark.parametrize("family", NO_WINDOW)
@pytest.mark.parametrize("tables", ["F16", "Q8_0"])
def test_every_family_runs(make_signs: Make, tmp_path: Path, family: str, tables: TableType) -> None:
    packed = make_signs(family, **NO_WINDOW[family])
    write(job_of(packed, tables=tables), tmp_path / NAME)
    compare(packed, tmp_path / NAME)


@pytest.mark.outside
def test_a_model_of_pieces_goes_on_with_a_story(shared_data: Path, make_packed_model: Make, tmp_path: Path) -> None:
    packed = make_packed_model(shared_data / "models" / "stories260K" / "hf", tmp_path / "packed")
    write(job_of(packed, wanted="F16", tables="F16"), tmp_path / NAME)
    compare(packed, tmp_path / NAME)
    assert loaded(tmp_path / NAME)("Once upon a time", max_tokens=4)["choices"][0]["text"]
