"""The plan: exact sums, both dials, and refusals whose figure can really be asked for."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liptt_cli.errors import BudgetError, ConfigError, ShapeError
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.formulas import shape_from_config
from liptt_cli.planning.plan import Plan, chosen_sites, structure
from liptt_cli.planning.sites import ModelShape, SiteShape

TREE: dict[str, Any] = {
    "method": "mine",
    "decompose": {"factor": {"kind": "tensor_train", "start": "random"}},
    "binarize": {"codec": {"kind": "binary", "scale": ["axes"]}},
}
NORMS = {"steps": 1, "train": ["scales", "norms"], "objectives": [{"kind": "teacher_nats"}]}


def model(width: int = 96, inner: int = 160, **more: Any) -> ModelShape:
    config = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 4, "num_hidden_layers": 2}
    return shape_from_config({"model_type": "llama", "vocab_size": 300, **config, **more})


def plan(shape: ModelShape, **more: Any) -> Plan:
    config = RunConfig.model_validate(TREE | more)
    return structure(config, shape, chosen_sites(config, shape))


def smallest(error: BudgetError) -> str:
    found = re.search(r"the smallest that can is ([\d.]+)", str(error))
    assert found is not None
    return found[1]


def test_the_totals_are_the_sums_of_the_rows():
    found = plan(model(), bits_per_weight=0.8)
    rows = found.rows()
    assert [row["linear"] for row in rows] == [site.name for site in model().sites]
    assert (
        found.payload_bytes == sum(blob_bytes(form) for form in found.forms.values()) == sum(r["bytes"] for r in rows)
    )
    assert found.weights == 2 * (4 * 96 * 96 + 3 * 96 * 160)
    assert found.bits_per_weight == 8 * found.payload_bytes / found.weights
    assert found.tensor_bytes == 4 * (2 * 300 * 96 + 5 * 96) + found.payload_bytes
    assert found.operations.sign_additions == sum(sum(row["shape"]) * row["ranks"][0] for row in rows)
    assert all(row["bits_per_weight"] == bits_per_weight(found.forms[row["linear"]]) for row in rows)
    assert (rows[0]["node"], rows[0]["out_modes"], rows[0]["in_modes"]) == ("chain", [96, 1], [1, 160])
    assert found.memory_bytes(tokens=100, width=96) == 4 * (4 * found.weights // 2 + 300 * 96) + found.model.other_bytes


@settings(max_examples=12, deadline=None)
@given(st.floats(0.3, 3.0))
def test_the_dial_is_met_to_within_one_step(bits: float):
    try:
        found = plan(model(), bits_per_weight=bits)
    except BudgetError as error:
        assert float(smallest(error)) > bits
        return
    assert found.bits_per_weight <= bits
    step = 8 * (96 + 160) * 8 / 8 + 16
    assert found.bits_per_weight > bits - 8 * step / found.weights or found.bits_per_weight > 1.9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=3))
def test_the_smallest_bits_that_are_named_can_be_met(shapes: list[tuple[int, int]]):
    sites = tuple(SiteShape(f"layers.0.l{k}", 0, shape) for k, shape in enumerate(shapes))
    shape = ModelShape(sites, other_bytes=10, other_tensors=1, norm_entries=0, site_dtype_bytes=4)
    with pytest.raises(BudgetError, match="bits_per_weight: 0.0001 cannot be met by this recipe") as refused:
        plan(shape, bits_per_weight=1e-4)
    least = float(smallest(refused.value))
    found = plan(shape, bits_per_weight=least)
    assert found.bits_per_weight <= least
    with pytest.raises(BudgetError):
        plan(shape, bits_per_weight=round(least - 2e-4, 4))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tuning", [{}, {"finetune": NORMS}])
def test_a_target_size_that_is_too_small_names_one_that_can_be_met(dtype: str, tuning: dict[str, Any]):
    shape = model(dtype=dtype)
    with pytest.raises(BudgetError, match="target_size: 1,000 bytes cannot be met") as refused:
        plan(shape, target_size=1000, **tuning)
    least = int(smallest(refused.value))
    found = plan(shape, target_size=least, **tuning)
    assert found.tensor_bytes < least
    grown = 2 * 5 * 96 if tuning and dtype == "bfloat16" else 0
    assert found.tensor_bytes == shape.other_bytes + grown + found.payload_bytes
    with pytest.raises(BudgetError):
        plan(shape, target_size=least - 1, **tuning)


def test_a_larger_target_is_used_up():
    found = plan(model(), target_size=280_000)
    assert 270_000 < found.tensor_bytes < 280_000


def test_a_recipe_without_a_dial_has_its_own_price_and_refuses_less():
    tree: dict[str, Any] = {"decompose": {}, "binarize": {"codec": {"kind": "binary"}}}
    found = plan(model(), **tree)
    assert found.bits_per_weight == pytest.approx(1 + 16 * sum(map(sum, _shapes())) / found.weights)
    assert plan(model(), bits_per_weight=2.0, **tree).forms == found.forms
    with pytest.raises(BudgetError, match=f"the smallest that can is {-(-found.bits_per_weight * 1e4 // 1) / 1e4:.4f}"):
        plan(model(), bits_per_weight=1.0, **tree)


def test_a_rank_by_name_under_a_budget_that_it_does_not_fit_is_refused():
    factor = {"factor": {"kind": "tensor_train", "rank": 96}}
    wanted = plan(model(), decompose=factor)
    with pytest.raises(BudgetError) as refused:
        plan(model(), bits_per_weight=0.5, decompose=factor)
    assert float(smallest(refused.value)) == pytest.approx(wanted.bits_per_weight, abs=1e-4)


def test_skipped_linears_are_kept_as_they_are():
    whole, part = (plan(model(), bits_per_weight=1.0, load={"skip": skip}) for skip in ([], ["*down_proj"]))
    assert [site.name for site in part.sites] == [s.name for s in whole.sites if not s.name.endswith("down_proj")]
    assert part.weights == whole.weights - 2 * 96 * 160
    assert part.kept_bytes == whole.kept_bytes + 4 * 2 * 96 * 160
    with pytest.raises(ConfigError, match=r"load\.include"):
        plan(model(), bits_per_weight=1.0, load={"include": ["*.q"]})


def test_a_linear_that_does_not_factor_is_named():
    factor = {"factor": {"kind": "tensor_train", "layout": "mpo", "cores": 3, "rank": 2}}
    with pytest.raises(ShapeError, match=r"^model\.layers\.0\.mlp\.down_proj: dimension 31 does not factor"):
        plan(model(inner=31), decompose=factor)


def _shapes() -> list[tuple[int, int]]:
    return [site.shape for site in model().sites]
