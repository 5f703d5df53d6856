"""The section of `config.json`: forms once each, there and back, and a clear refusal of what cannot be read."""

import json
from pathlib import Path

import pytest

from liptt_cli.errors import FormatVersionError, IntegrityError, ModelError
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.packing.section import Origin, check_version, make_section, read_forms, read_section

ORIGIN = Origin("tiny", "abc", "sign", "f" * 64)
FORMS = {
    "a": GridForm((4, 8), scale=EnvelopeForm(4, 8, cols=True)),
    "b": ChainForm((4, 8), (4, 1), (1, 8), (3,), (GridForm((4, 3)), DenseForm((3, 8), "float16")), (True, False, True)),
    "c": GridForm((4, 8), scale=EnvelopeForm(4, 8, cols=True)),
}


def test_forms_come_back_through_json_and_equal_ones_are_stored_once() -> None:
    section = json.loads(json.dumps(make_section(FORMS, origin=ORIGIN, untouched=["lm_head"])))
    assert read_forms(section) == FORMS
    assert list(section["forms"]) == ["form0", "form1"]
    assert section["layers"] == {"a": "form0", "b": "form1", "c": "form0"}
    assert (section["source_model"], section["source_revision"], section["recipe_sha256"]) == ("tiny", "abc", "f" * 64)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(FormatVersionError, match="here: format_version is .* upgrade it"):
        check_version(version, place="here")


def test_a_directory_without_a_packed_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_section(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="not a model packed by liptt"):
        read_section(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"config\.json: no readable JSON"):
        read_section(tmp_path)
