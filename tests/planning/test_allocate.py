"""Allocation by evidence: the budget met to within one step, at the least cost, ties and reach respected."""

from typing import Any

import pytest

from liptt_cli.errors import BudgetError, ShapeError
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.planning.allocate import Offer, allocate, costs_of, offers_of
from liptt_cli.planning.plan import Plan, chosen_sites, structure, with_rates
from measured import evidence_of, knapsack_config, small_model

MODEL = small_model()


def plan(seed: int = 0, **more: Any) -> Plan:
    config = knapsack_config(**more)
    sites = chosen_sites(config, MODEL)
    return structure(config, MODEL, sites, evidence=evidence_of(config, MODEL, seed=seed))


@pytest.mark.parametrize("seed", range(2))
def test_the_budget_is_met_to_within_one_step_at_less_cost_than_uniform_s(seed: int):
    found = plan(seed)
    step = 8 * (96 + 160) * 8 / 8 + 16
    assert 0.9 - 8 * step / found.weights < found.bits_per_weight <= 0.9
    assert found.predicted_costs is not None
    chosen, uniform = found.predicted_costs
    assert chosen < 0.98 * uniform
    assert len({bits_per_weight(form) for form in found.forms.values()}) > 4


def test_more_budget_is_never_dearer():
    costs = [plan(bits_per_weight=bits / 100).predicted_costs for bits in range(60, 150, 30)]
    chosen = [each[0] for each in costs if each is not None]
    assert len(chosen) == 3
    assert chosen == sorted(chosen, reverse=True)


def test_a_linear_that_counts_more_gets_more():
    config = knapsack_config()
    evidence, sites = evidence_of(config, MODEL), chosen_sites(config, MODEL)
    name = "model.layers.0.self_attn.q_proj"
    own = evidence.linears[name]
    heavier = {**evidence.linears, name: type(own)(own.shape, own.block, own.group, own.points, 20 * own.weight)}
    budget = 9_000
    light, _ = allocate(config, sites, evidence, budget_bytes=budget)
    heavy, _ = allocate(config, sites, type(evidence)("small", evidence.recipe, heavier), budget_bytes=budget)
    assert blob_bytes(heavy[name]) > blob_bytes(light[name])
    assert sum(map(blob_bytes, heavy.values())) <= budget


def test_tied_linears_get_one_form():
    found = plan(tie="shared").forms
    loose = plan().forms
    path = "model.layers.0"
    for leaves in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        assert len({str(found[f"{path}.{leaf}"]) for leaf in leaves}) == 1
        assert len({str(loose[f"{path}.{leaf}"]) for leaf in leaves}) > 1
    assert found[f"{path}.self_attn.o_proj"] != found[f"{path}.self_attn.q_proj"]


def test_a_form_costs_its_weight_at_the_middle_point():
    config = knapsack_config(mpo=True)
    own = evidence_of(config, MODEL).linears["model.layers.0.mlp.up_proj"]
    middle = own.points[1]
    offer = Offer(0, middle.form, bits_per_weight(middle.form), blob_bytes(middle.form))
    other = Offer(1, own.points[4].form, bits_per_weight(own.points[4].form), 0)
    assert costs_of(own, [offer]) == pytest.approx([own.weight])
    assert costs_of(own, [other]) == pytest.approx([own.weight * own.points[4].error / middle.error])


def test_the_better_layout_is_taken():
    forms = plan(mpo=True, bits_per_weight=0.8).forms
    assert {form.to_json()["out_modes"][1] for form in forms.values()} == {1}  # mpo is a fifth worse in this evidence
    config = knapsack_config(mpo=True)
    evidence, sites = evidence_of(config, MODEL), chosen_sites(config, MODEL)
    turned = {}
    for name, own in evidence.linears.items():
        points = tuple(type(p)(p.candidate, p.form, p.error * (0.3 if p.candidate else 1)) for p in own.points)
        turned[name] = type(own)(own.shape, own.block, own.group, points, own.weight)
    better = type(evidence)("small", evidence.recipe, turned)
    forms, cost = allocate(config, sites, better, budget_bytes=8_000)
    assert all(form.to_json()["out_modes"][1] > 1 for form in forms.values())
    assert cost < allocate(config, sites, evidence, budget_bytes=8_000)[1]


@pytest.mark.parametrize("bits", [0.45, 2.2])
def test_a_dial_that_the_measured_points_do_not_lead_to_is_refused_with_and_without_evidence(bits: float):
    config = knapsack_config(bits_per_weight=bits, at_bits=[0.9, 1.0, 1.2])
    sites = chosen_sites(config, MODEL)
    message = r"at_bits: forms are offered from 0\.\d+ to 1\.\d+ bits per weight.*; give at_bits a rate near it"
    with pytest.raises(BudgetError, match=message):
        structure(config, MODEL, sites)
    with pytest.raises(BudgetError, match=message):
        structure(config, MODEL, sites, evidence=evidence_of(config, MODEL))


def test_offers_lie_within_one_interval_of_what_is_measured():
    config = knapsack_config()
    sites = chosen_sites(config, MODEL)
    for shape, offers in offers_of(config, sites).items():
        bits = [offer.bits for offer in offers.each]
        assert 0.1 < min(bits) <= 0.5 and 1.3 < max(bits) < 1.9, shape
        assert not offers.whole


@pytest.mark.parametrize("dial", [{"bits_per_weight": 0.8}, {"bits_per_weight": None, "target_size": "240KB"}])
def test_rates_may_be_given_in_what_the_dial_affords(dial: dict[str, Any]):
    config = knapsack_config(at_bits=[0.5, 1.0, 2.0], at_unit="dial", **dial)
    sites = chosen_sites(config, MODEL)
    absolute = with_rates(config, MODEL, sites)
    at_bits = absolute.decompose.allocator.at_bits
    assert at_bits[0] < structure(config, MODEL, sites).bits_per_weight <= at_bits[1] < 1.5
    assert at_bits == pytest.approx([at_bits[1] / 2, at_bits[1], at_bits[1] * 2], rel=1e-5)
    assert with_rates(absolute, MODEL, sites) is absolute
    evidence = evidence_of(absolute, MODEL)
    assert structure(config, MODEL, sites, evidence=evidence) == structure(absolute, MODEL, sites, evidence=evidence)


def test_without_evidence_the_forms_are_the_uniform_split():
    config = knapsack_config()
    plain = config.model_copy(update={"decompose": config.decompose.model_copy(update={"allocator": _uniform()})})
    sites = chosen_sites(config, MODEL)
    found = structure(config, MODEL, sites)
    assert found.forms == structure(plain, MODEL, sites).forms
    assert found.predicted_costs is None


def test_a_candidate_that_does_not_factor_names_the_linear():
    model = small_model(inner=31)
    config = knapsack_config(mpo=True, bits_per_weight=1.4)
    with pytest.raises(ShapeError, match=r"^model\.layers\.0\.mlp\.down_proj: dimension 31 does not factor"):
        structure(config, model, chosen_sites(config, model))


def _uniform():
    from liptt_cli.menu.decompose import Uniform

    return Uniform()
