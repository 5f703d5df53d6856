"""The options of a run: the export's belong to its targets."""

from typing import Any

import pytest

from liptt_cli.menu.run import RunConfig


@pytest.mark.parametrize(
    ("export", "words"),
    [
        ({"to": ["liptt"], "dtype": "float16"}, "dtype is of hf, which is not in to"),
        ({"to": ["liptt", "hf"], "gguf_type": "Q4_0"}, "gguf_type is of gguf, which is not in to"),
        ({"to": ["onnx"]}, "compressed-tensors"),
        ({"to": ["gguf"], "gguf_type": "Q2_K"}, "Q1_0"),
    ],
)
def test_an_option_of_an_export_that_is_not_wanted_is_refused(export: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RunConfig.model_validate({"method": "mine", "export": export})
