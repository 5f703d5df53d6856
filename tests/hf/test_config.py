"""The configuration object of the plug-in: from JSON and back, forms only when they are asked for."""

import json

import pytest
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from liptt_cli.errors import FormatVersionError
from liptt_cli.forms.leaves import GridForm
from liptt_cli.hf.config import LipttConfig
from liptt_cli.packing.section import Origin, make_section

SECTION = make_section({"a": GridForm((4, 8))}, origin=Origin("tiny", None, "sign", "0" * 64), untouched=["lm_head"])


def test_it_is_registered_and_comes_back_as_the_section() -> None:
    assert AUTO_QUANTIZATION_CONFIG_MAPPING["liptt"] is LipttConfig
    config = LipttConfig.from_dict(SECTION)
    assert config.to_dict() == SECTION == json.loads(config.to_json_string())
    assert config.linears() == {"a": GridForm((4, 8))}


def test_how_it_was_loaded_is_not_saved() -> None:
    config = LipttConfig.from_dict({**SECTION, "dequantize": True})
    assert config.dequantize and config.to_dict() == SECTION


def test_a_newer_section_is_held_but_its_forms_are_not_read() -> None:
    config = LipttConfig.from_dict({**SECTION, "format_version": 2, "forms": {"form0": {"node": "wavelet"}}})
    with pytest.raises(FormatVersionError, match="format_version is 2"):
        config.linears()
