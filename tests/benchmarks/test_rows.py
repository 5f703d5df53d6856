"""Verdicts: against the better baseline of equal or more bits, and none where there is no such baseline."""

from collections.abc import Callable
from pathlib import Path

import pytest
from methods import RIVALS
from rows import duels, read_rows, verdicts

Put = Callable[..., Path]


def test_the_better_baseline_of_equal_or_more_bits_counts(put: Put):
    put("reference--sign", "sign", bits=1.13, excess=2.0)
    put("reference--tt-svd-sign-1.0", "tt-svd-sign", bits=1.0, excess=1.0)
    put("reference--liptt-onestep-1.0", "liptt-onestep", bits=1.0, excess=0.4)
    results = put("reference--liptt-onestep-sign", "liptt-onestep", bits=1.13, excess=1.2)
    judged = {verdict.row.cell.name: verdict for verdict in verdicts(read_rows(results, "reference"))}
    assert judged["liptt-onestep-1.0"].baseline.cell.method == "tt-svd-sign"
    assert judged["liptt-onestep-1.0"].share == pytest.approx(0.4)
    assert judged["liptt-onestep-1.0"].answer == "yes"
    assert judged["liptt-onestep-sign"].baseline.cell.method == "sign"  # tt-svd-sign has fewer bits
    assert judged["liptt-onestep-sign"].answer == "no"
    assert "60%" in str(judged["liptt-onestep-sign"])


def test_no_verdict_without_a_baseline(put: Put):
    results = put("reference--liptt-ptq-1.0", "liptt-ptq", bits=1.0, excess=0.4)
    assert verdicts(read_rows(results, "reference")) == []


def test_missing_rows_keep_their_place(tmp_path: Path):
    rows = read_rows(tmp_path, "reference")
    assert [row.cell.method for row in rows][:3] == ["dense", "dense-tuned", "sign"]
    assert not any(row.whole for row in rows)


def test_a_result_on_other_text_is_missing(put: Put):
    results = put("reference--liptt-ptq-1.0", "liptt-ptq", bits=1.0, excess=0.4, calibrated_on="stdlib")
    assert not next(row for row in read_rows(results, "reference") if row.cell.name == "liptt-ptq-1.0").whole


@pytest.mark.parametrize(("ours", "outcome"), [(0.3, "win"), (0.495, "tie"), (0.8, "loss")])
def test_a_duel_is_won_beyond_two_standard_errors(put: Put, ours: float, outcome: str):
    put("reference--liptt-onestep-1.0", "liptt-onestep", bits=1.0, excess=ours)
    put("reference--liptt-ptq-1.0", "liptt-ptq", bits=1.0, excess=0.9)
    results = put(f"reference--{RIVALS[0]}-1.0", RIVALS[0], bits=1.0, excess=0.5)
    fought = duels(read_rows(results, "reference"))
    assert [(duel.ours, duel.theirs, duel.bits, duel.corpus) for duel in fought] == [
        ("liptt-onestep", RIVALS[0], 1.0, "stdlib")
    ]
    assert fought[0].outcome == outcome
    assert fought[0].difference == pytest.approx(ours - 0.5)
