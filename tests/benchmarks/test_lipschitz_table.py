"""What the Lipschitz tables say of made-up results."""

import json
from pathlib import Path
from typing import Any

from lipschitz_cells import DISTURBANCES, Cell
from lipschitz_table import answers, table, window_counts

NONE, TERM = Cell("good", 1, 100, "none", 0), Cell("good", 1, 100, "retention.two.0.1", 0)


def excess(shift: float) -> dict[str, Any]:
    windows = [4000 + 10 * (k % 3) + round(10000 * shift) for k in range(40)]
    return {"excess": sum(windows) / 40 / 1e4, "excess_windows": " ".join(map(str, windows))}


def write(folder: Path, cell: Cell, shifts: dict[str, float] | None) -> None:
    folder.mkdir(exist_ok=True)
    found: dict[str, Any] = {"status": "failed", "error": "not finite"}
    if shifts is not None:
        found = {"status": "ok", "ledger": {"ratio": [0.9, 1.2]}}
        found["excess"] = {name: {"valid": excess(shifts.get(name, 0.0))} for name in DISTURBANCES}
    (folder / f"{cell.key}.json").write_text(json.dumps(found), encoding="utf8")


def test_each_comparison_is_better_worse_or_a_tie(tmp_path: Path):
    write(tmp_path, NONE, {})
    write(tmp_path, TERM, {"8-bit": -0.02, "4-bit": -0.05, "noise": 0.03})
    (line,) = answers(tmp_path, [NONE, TERM])
    assert line.startswith("retention.two.0.1 on valid: better in 2 of 4, worse in 1; from -0.050")
    assert "(good-x1-d100, 4-bit)" in line and "to +0.030" in line
    assert list(answers(tmp_path, [NONE, TERM], extremes=False)) == [line.partition(";")[0]]


def test_the_table_shows_excess_without_a_term_and_differences_with_one(tmp_path: Path):
    write(tmp_path, NONE, {"noise": 0.5})
    write(tmp_path, TERM, {"noise": 0.4})
    lines = list(table(tmp_path, [NONE, TERM]))
    assert lines[0].startswith("| valid | term | plain |")
    assert window_counts(tmp_path, [NONE, TERM]) == [40]
    assert "| 0.901 | 1.20 | 0 |" in lines[2] and "| none |" in lines[2]
    assert "| -0.1000 ± 0.0000 | 1.20 | 0 |" in lines[3]


def test_a_training_that_diverged_is_counted_and_compared_with_nothing(tmp_path: Path):
    write(tmp_path, NONE, {})
    write(tmp_path, TERM, None)
    lines = list(table(tmp_path, [NONE, TERM]))
    assert lines[3].endswith("| - | - | - | - | - | 1 |")
    assert list(answers(tmp_path, [NONE, TERM])) == []
