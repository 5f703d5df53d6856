"""The manifest: there and back, its own hash, and the bits that it counts."""

import json
from pathlib import Path

import pytest

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.packing.card import card
from liptt_cli.packing.manifest import Manifest, Totals, linears_of, operations_of, read_manifest
from liptt_cli.packing.section import Origin
from liptt_cli.packing.tensor_file import Written

FORMS = {"a": GridForm((4, 8), scale=EnvelopeForm(4, 8)), "b": GridForm((4, 16), scale=EnvelopeForm(4, 16))}
TOTALS = Totals(40, 96, 500, 900, 450, 96, 8)


def manifest() -> Manifest:
    files = {"x": Written(3, "0" * 64)}
    return Manifest(Origin("tiny", None, "sign", "f" * 64), files, linears_of(FORMS), TOTALS, {"values": [0.1, 1e-9]})


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    assert read_manifest(tmp_path) == manifest()


def test_bits_are_bytes_over_weights() -> None:
    data = manifest().to_json()
    assert data["linears"]["a"] == {"bytes": 24, "weights": 32, "bits_per_weight": 6.0}
    assert data["totals"]["bits_per_weight"] == pytest.approx(8 * 40 / 96, abs=1e-6)


def test_operations_add_up() -> None:
    assert operations_of(FORMS).sign_additions == 96
    assert operations_of({}).multiplications == 0


@pytest.mark.parametrize("key", ["totals", "linears", "files", "origin", "fingerprint", "liptt_version"])
def test_any_changed_value_is_seen(tmp_path: Path, key: str) -> None:
    manifest().write(tmp_path)
    data = json.loads((tmp_path / "liptt.json").read_text())
    data[key] = "other"
    (tmp_path / "liptt.json").write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match=r"liptt\.json: corrupt"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}'])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "liptt.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"liptt\.json: corrupt"):
        read_manifest(tmp_path)


def test_the_card_tells_the_numbers() -> None:
    text = card(manifest())
    assert "40 bytes for 96 weights" in text and "96 sign additions, 8 multiplications" in text
