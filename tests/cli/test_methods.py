"""`liptt methods`: the list, one recipe, a copy to start from."""

import json
from pathlib import Path

import pytest

from liptt_cli import config
from liptt_cli.cli.methods import methods_command
from liptt_cli.errors import ConfigError

_RECIPE = """\
# yaml-language-server: $schema=schema.json
# Signs under a rank-one magnitude.
# Paper: Xu et al. 2024, arXiv:2402.11295
version: 1
method: sample
bits_per_weight: 1.0
binarize: {codec: {kind: binary}}
"""


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the shipped configurations, with two recipes on it."""
    folder = tmp_path / "shelf"
    (folder / "methods").mkdir(parents=True)
    (folder / "methods" / "sample.yaml").write_text(_RECIPE)
    (folder / "methods" / "bare.yaml").write_text("method: bare\nbinarize: {}\n")
    monkeypatch.setattr(config, "configs_folder", lambda: folder)
    return folder


def test_the_list_has_title_paper_and_dial(capsys: pytest.CaptureFixture[str]):
    methods_command(as_json=True)
    assert json.loads(capsys.readouterr().out)["methods"] == [
        {"name": "bare", "title": "", "paper": "", "dial": "its own price"},
        {
            "name": "sample",
            "title": "Signs under a rank-one magnitude.",
            "paper": "Xu et al. 2024, arXiv:2402.11295",
            "dial": "1",
        },
    ]
    methods_command()
    assert "sample" in capsys.readouterr().out


def test_one_method_is_its_file(capsys: pytest.CaptureFixture[str]):
    methods_command("sample")
    assert capsys.readouterr().out == _RECIPE
    methods_command("methods/sample", as_json=True)
    assert json.loads(capsys.readouterr().out)["config"]["binarize"]["codec"]["kind"] == "binary"


def test_a_copy_is_the_recipe_and_overwrites_nothing(tmp_path: Path):
    methods_command("sample", copy=tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == _RECIPE
    with pytest.raises(ConfigError, match="this file exists"):
        methods_command("sample", copy=tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match="does its folder exist"):
        methods_command("sample", copy=tmp_path / "absent" / "mine.yaml")


def test_an_unknown_method_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'sample'"):
        methods_command("sampel")
    with pytest.raises(ConfigError, match="--copy needs the name"):
        methods_command(copy=Path("x.yaml"))
