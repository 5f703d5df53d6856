"""The tables: missing and failed cells are shown, a judge that cannot decide is named, nothing is made up."""

from collections.abc import Callable
from pathlib import Path

from cells import trials
from methods import METHODS
from tables import long_text, short_table

Put = Callable[..., Path]


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {start} |"))


def test_nothing_measured_is_said(tmp_path: Path):
    assert short_table(tmp_path).startswith("Not measured yet")
    assert "| liptt-onestep at 0.3 bits | missing |" in long_text(tmp_path)


def test_the_short_table_has_methods_by_budgets(put: Put):
    put("reference--dense", "dense", bits=16.0, excess=0.0)
    put("reference--sign", "sign", bits=1.13, excess=2.0)
    text = short_table(put("reference--liptt-onestep-1.0", "liptt-onestep", bits=0.999, excess=0.5))
    assert "| 1.130 | 2.000 / missing |" in line_of(text, "sign")
    assert "| 0.500 / missing |" in line_of(text, "liptt-onestep")
    assert "| missing |" in line_of(text, "liptt-ptq")


def test_a_row_has_its_figures_and_missing_columns(put: Put):
    put("reference--dense", "dense", bits=16.0, excess=0.0)
    put("reference--sign", "sign", bits=1.13, excess=2.0)
    results = put("reference--liptt-onestep-1.0", "liptt-onestep", bits=1.0, excess=0.5)
    text = long_text(results)
    row = line_of(text, "liptt-onestep")
    assert "| 1.000 | 0.900 | 1 | -75.0% | -15.0% | +0.500 ± 0.010 | missing | 80% ± 5% | missing | 3 | 600 |" in row
    assert "0 (dense: 3.000)" in line_of(text, "dense")
    assert "missing" in line_of(text, "liptt-ptq at 1.0 bits")
    assert "In 1 of 1 comparisons." in short_table(results)
    assert "-75%, -15%, 80% ± 5% (BLiMP)" in text


def test_a_failed_cell_is_told_with_its_reason(put: Put):
    put("reference--dense", "dense", bits=16.0, excess=0.0)
    results = put("reference--sign", "sign", bits=1.1, excess=1.0, status="failed", error="liptt compress ended with 4")
    text = long_text(results)
    assert "| sign | failed |" in text
    assert "- sign: liptt compress ended with 4" in text


def test_a_judge_below_the_bar_cannot_decide(put: Put):
    results = put("reference--dense", "dense", bits=16.0, excess=0.0, tasks={"blimp": {"accuracy": 0.571, "kept": 1.0}})
    assert "57.1% on BLiMP, under 60%: this judge cannot decide" in short_table(results)


def test_the_quick_scale_is_named(put: Put):
    results = put("reference--dense", "dense", bits=16.0, excess=0.0, scale="quick")
    assert "quick scale" in short_table(results)


def test_the_search_is_told_with_what_is_missing(put: Put):
    corpora = {"stdlib": {}, "held-out stdlib": {"nats": 3.0}, "held-out self": {"nats": 3.2}}
    results = put(trials("reference", "liptt-ptq")[-1].key, "liptt-ptq", bits=1.0, excess=0.0, corpora=corpora)
    *others, last = (f"x{factor:.2g}" for factor in METHODS["liptt-ptq"].factors)
    shown = ", ".join([*(f"{other} missing" for other in others), f"{last} 3.1000"])
    assert f"- liptt-ptq: {shown}; taken: {last}" in long_text(results)
