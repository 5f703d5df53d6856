"""Coverage: the share of matrices, what is left out by kind, and when it is low."""

import pytest

from liptt_cli.planning.coverage import Coverage, named

LEFT = [(f"m.{b}.mlp.experts.{e}.down", 10) for b in range(2) for e in range(3)] + [("m.0.mlp.gate", 40)]


def test_the_share_and_the_kinds():
    coverage = Coverage(900, named(LEFT))
    assert coverage.share == pytest.approx(0.9) and not coverage.is_low
    assert coverage.kinds() == {"m.*.mlp.experts.*.down": 60, "m.*.mlp.gate": 40}
    assert coverage.told() == (
        "90.0% of the weights of the blocks' matrices are compressed; left dense: m.*.mlp.experts.*.down (6.00%), "
        "m.*.mlp.gate (4.00%)"
    )
    assert coverage.to_json() == {"share": 0.9, "left_out": coverage.kinds(), "told": coverage.told()}
    assert Coverage(899, coverage.left_out).is_low


def test_nothing_left_out_names_nothing_and_many_kinds_are_counted():
    assert Coverage(5, ()).told() == "100.0% of the weights of the blocks' matrices are compressed"
    assert Coverage(1, named((f"m.0.{leaf}", 1) for leaf in "abcdef")).told().endswith("m.*.d (14.29%), 2 more")
