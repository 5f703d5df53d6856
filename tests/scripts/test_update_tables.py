"""`make tables`: writes between the markers alone, is stable, and knows what is stale."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import update_tables
from update_tables import BEGIN, END, between_markers, main

README = f"# Title\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A README with markers, and no results."""
    (tmp_path / "README.md").write_text(README, encoding="utf8")
    places = {"--results": "results", "--readme": "README.md", "--record": "RESULTS.md"}
    return [word for option, name in places.items() for word in (option, str(tmp_path / name))]


def test_writes_once_and_then_nothing_is_stale(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*options, "--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert not (tmp_path / "RESULTS.md").exists()
    assert main(options) == 0
    assert main([*options, "--check"]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf8")
    assert text.startswith("# Title\n\nBefore.\n\n" + BEGIN)
    assert text.endswith(END + "\n\nAfter.\n")
    assert "old" not in text
    (tmp_path / "RESULTS.md").write_text("edited by hand", encoding="utf8")
    assert main([*options, "--check"]) == 1


@pytest.mark.parametrize("text", ["no marker", f"{BEGIN} alone", f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_markers_are_needed_once_in_order(text: str):
    with pytest.raises(SystemExit, match="once and in this order"):
        between_markers(text, "table")


def test_the_tables_in_the_repository_are_those_of_its_results():
    assert update_tables.main(["--check"]) == 0
