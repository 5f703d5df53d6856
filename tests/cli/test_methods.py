"""`liptt methods`: the list, one recipe, a copy to start from."""

import json
from pathlib import Path

import pytest

from liptt_cli import config
from liptt_cli.cli.methods import methods_command, read_claim
from liptt_cli.errors import ConfigError

_RECIPE = """\
# yaml-language-server: $schema=schema.json
# Signs under a rank-one magnitude.
# Paper: Xu et al. 2024, arXiv:2402.11295
# Claims: 1.0 bits (signs alone: the scales (one for each 128
# weights) are not counted)
# More words.
version: 1
method: sample
binarize: {codec: {kind: binary, scale: [group], group_columns: 128}}
"""
_REASON = "signs alone: the scales (one for each 128 weights) are not counted"


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the shipped configurations, with two recipes on it."""
    folder = tmp_path / "shelf"
    (folder / "methods").mkdir(parents=True)
    (folder / "methods" / "sample.yaml").write_text(_RECIPE)
    (folder / "methods" / "bare.yaml").write_text("method: bare\nbinarize: {}\n")
    monkeypatch.setattr(config, "configs_folder", lambda: folder)
    return folder


def test_the_list_has_title_paper_dial_claimed_and_honest_bits(capsys: pytest.CaptureFixture[str]):
    methods_command(as_json=True)
    bare, sample = json.loads(capsys.readouterr().out)["methods"]
    assert (bare["title"], bare["claimed_bits"], bare["reason"]) == ("", None, "")
    assert sample == {
        "name": "sample",
        "title": "Signs under a rank-one magnitude.",
        "paper": "Xu et al. 2024, arXiv:2402.11295",
        "dial": "its own price",
        "claimed_bits": 1.0,
        "honest_bits": 1.125,
        "reason": _REASON,
    }
    methods_command()
    assert "1.125" in capsys.readouterr().out


def test_the_honest_bits_of_a_recipe_with_a_dial_are_below_it(shelf: Path, capsys: pytest.CaptureFixture[str]):
    factor = "decompose: {factor: {kind: tensor_train, start: random, layout: split, cores: 2, rank: auto}}"
    (shelf / "methods" / "bare.yaml").write_text(
        f"method: bare\nbits_per_weight: 0.7\n{factor}\nbinarize: {{codec: {{kind: binary, scale: [axes]}}}}\n"
    )
    methods_command("bare", as_json=True)
    assert 0.69 < json.loads(capsys.readouterr().out)["honest_bits"] <= 0.7


def test_one_method_is_its_file_with_both_counts_behind_it_as_a_comment(capsys: pytest.CaptureFixture[str]):
    methods_command("sample")
    shown = capsys.readouterr().out
    line = f"# bits per weight: claimed 1, honest 1.125 (all bytes of 4096 x 4096): {_REASON}\n"
    assert shown == _RECIPE + line
    methods_command("methods/sample", as_json=True)
    assert json.loads(capsys.readouterr().out)["config"]["binarize"]["codec"]["kind"] == "binary"


def test_a_copy_is_the_recipe_and_overwrites_nothing(tmp_path: Path):
    methods_command("sample", copy=tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == _RECIPE
    with pytest.raises(ConfigError, match="this file exists"):
        methods_command("sample", copy=tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match="does its folder exist"):
        methods_command("sample", copy=tmp_path / "absent" / "mine.yaml")


@pytest.mark.parametrize(
    ("line", "bits"), [("# Claims: 2.5 bits", 2.5), ("# Claims: none (no number was found)", None)]
)
def test_a_claim_may_lack_the_number_or_the_reason(shelf: Path, line: str, bits: float | None):
    (shelf / "methods" / "bare.yaml").write_text(f"# Title.\n{line}\n#\n# And (more).\nmethod: bare\nbinarize: {{}}\n")
    assert (claim := read_claim(shelf / "methods" / "bare.yaml")) is not None
    assert claim.bits == bits
    assert bool(claim.reason) == (bits is None)


@pytest.mark.parametrize("line", ["# Claims: 1.08", "# Claims: about 1 bits", "# Claims: 1 bits\n# Claims: 1 bits"])
def test_a_claim_that_cannot_be_read_is_refused(shelf: Path, line: str):
    (shelf / "methods" / "bare.yaml").write_text(f"{line}\nmethod: bare\nbinarize: {{}}\n")
    with pytest.raises(ConfigError, match="Claims: 1.08 bits"):
        read_claim(shelf / "methods" / "bare.yaml")


def test_an_unknown_method_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'sample'"):
        methods_command("sampel")
    with pytest.raises(ConfigError, match="--copy needs the name"):
        methods_command(copy=Path("x.yaml"))
