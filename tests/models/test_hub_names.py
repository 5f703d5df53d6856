"""Names that are neither a path nor asked of the hub in vain: the shipped model, and data sets."""

import shutil
from pathlib import Path

import pytest

from liptt_cli.config import configs_folder
from liptt_cli.models import hub
from liptt_cli.models.hub import locate, why_no_data


def test_the_shipped_reference_is_found_by_its_name_where_nothing_nearer_has_it(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that every recipe takes `model: reference`."""
    monkeypatch.chdir(tmp_path)
    assert locate("reference", near=tmp_path).path == configs_folder() / "reference"
    shutil.copytree(tiny_llama, tmp_path / "reference")
    assert locate("reference").path == tmp_path / "reference"


def test_a_data_set_is_asked_for_once_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its card alone is fetched."""
    asked: list[object] = []

    def refuse(name: str, **named: object) -> str:
        asked.append((name, named["repo_type"], named["allow_patterns"]))
        raise OSError("no route\nand more")

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", refuse)
    assert why_no_data("owner/texts") == "OSError: no route"
    assert asked == [("owner/texts", "dataset", ["README.md"])]
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", lambda *_, **__: "somewhere")
    assert why_no_data("owner/texts") is None
