"""Ablations: a line a change, the difference from the recipe as it is, and what is missing said so."""

from collections.abc import Callable
from pathlib import Path

from ablations import ablation_table
from rows import read_rows

Put = Callable[..., Path]


def test_a_change_is_told_by_its_difference(put: Put):
    put("reference--liptt-onestep-1.0", "liptt-onestep", bits=1.0, excess=0.4)
    put("reference--liptt-onestep-0.55", "liptt-onestep", bits=0.55, excess=0.9)
    results = put("reference--liptt-onestep-1.0-diagonal", "liptt-onestep", bits=1.0, excess=0.7)
    put("reference--liptt-onestep-0.55-uniform", "liptt-onestep", bits=0.55, excess=0.8)
    lines = {line.split(" | ")[0].strip("| "): line for line in ablation_table(read_rows(results, "reference"))}
    assert "| +0.300 ± 0.000 / missing | missing |" in lines["diagonal metric"]
    assert "| missing | -0.100 ± 0.000 / missing |" in lines["uniform split of the bits"]
    assert "| missing | missing |" in lines["magnitudes of rank 2"]


def test_nothing_changed_is_no_table(put: Put):
    results = put("reference--liptt-onestep-1.0", "liptt-onestep", bits=1.0, excess=0.4)
    assert ablation_table(read_rows(results, "reference")) == []
