"""The Lipschitz benchmark without the work: what a cell sets, which cells share a base, and when they may not."""

import json
from pathlib import Path
from typing import Any

import forking
import lipschitz
import pytest
from lipschitz import Bench, Cell, all_cells, table

from liptt_cli.config import load_config
from liptt_cli.run_directory import Written, create


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "model", tmp_path / "none", tmp_path / "results", tmp_path / "work", 1.0, 256, 390, None)


def resolved(bench: Bench, cell: Cell) -> Any:
    words = [f"{key}={value}" for key, value in bench.overrides(cell).items()]
    return load_config(lipschitz.RECIPE, overrides=words).resolved


def test_every_cell_has_its_own_name_and_a_valid_configuration(bench: Bench) -> None:
    cells = list(all_cells([0, 1]))
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 8 * len(lipschitz.TERMS)
    for cell in cells[::17]:
        finetune = resolved(bench, cell)["finetune"]
        terms = [each for each in finetune["objectives"] if each["kind"] == "lipschitz"]
        assert len(terms) == (cell.term != "none")
        if terms:
            name = f"{terms[0]['estimator']}.{terms[0]['sided']}.{terms[0]['weight']:g}"
            assert name == cell.term
        assert finetune["learning_rate"]["codes"] == pytest.approx(0.03 * cell.rate)


def test_less_data_is_less_for_the_fit_as_well(bench: Bench) -> None:
    little = resolved(bench, Cell("naive", 1, 10, "none", 0))
    assert little["calibration"]["windows"] == 25
    assert little["binarize"]["solver"]["kind"] == "direct" and little["decompose"]["factor"]["start"] == "svd"


def run_of(path: Path, resolved: Any, *, windows: bytes = b"same") -> Path:
    create(path, Written(path, "", "", resolved)).release()
    (path / "01-load").mkdir()
    (path / "01-load" / "windows.safetensors").write_bytes(windows)
    return path


def test_a_fork_shares_a_base_only_if_it_would_have_made_it_itself(bench: Bench, tmp_path: Path) -> None:
    cells = {term: resolved(bench, Cell("good", 1, 100, term, 0)) for term in ("none", "directional.one.0.1")}
    base, fork = (run_of(tmp_path / name, each) for name, each in cells.items())
    forking._require_same(base, fork)
    other = run_of(tmp_path / "other", resolved(bench, Cell("naive", 1, 100, "none", 0)))
    with pytest.raises(ValueError, match=r"cannot share none: binarize\.refit.*decompose\.factor\.start"):
        forking._require_same(base, other)
    with pytest.raises(ValueError, match="other windows"):
        forking._require_same(base, run_of(tmp_path / "late", cells["none"], windows=b"others"))


def test_the_table_pairs_terms_with_none(bench: Bench) -> None:
    bench.results.mkdir()
    for term, excess in (("none", 5000), ("retention.two.0.1", 4900)):
        figures = {"excess": excess / 1e4, "excess_windows": f"{excess - 50} {excess + 50}"}
        found = {
            "excess": {name: {"stdlib": figures} for name in lipschitz.DISTURBANCES},
            "ledger": {"ratio": [0.9, 1.1]},
        }
        cell = Cell("good", 1, 100, term, 0)
        (bench.results / f"{cell.key}.json").write_text(json.dumps({"status": "ok", **found}))
    failed = Cell("good", 1, 100, "retention.two.1", 0)
    (bench.results / f"{failed.key}.json").write_text(json.dumps({"status": "failed", "error": "x"}))
    lines = list(table(bench, [cell for cell in all_cells([0]) if cell.situation == "good-x1-d100"]))
    assert "| good-x1-d100 | none | 0.500 | 0.500 | 0.500 | 0.500 | 1.10 | 0 |" in lines
    assert any(line.startswith("| good-x1-d100 | retention.two.0.1 | -0.0100 ± 0.0000 |") for line in lines)
    assert "| good-x1-d100 | retention.two.1 | - | - | - | - | - | 1 |" in lines
