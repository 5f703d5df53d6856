"""Verdicts: against the better baseline of equal or more bits, and none where there is no such baseline."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rows import read_rows, verdicts

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
