"""Evidence: kept and read back whole, and refused where it is of something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.errors import ConfigError, InputError
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.planning.evidence import (
    FILE,
    Evidence,
    candidates_of,
    check,
    ladders_of,
    middle,
    points_of,
    read_evidence,
    recipe_of,
)
from liptt_cli.planning.plan import chosen_sites
from measured import evidence_of, knapsack_config, small_model

MODEL = small_model()


def sites_of(config):
    return chosen_sites(config, MODEL)


def test_it_is_read_back_as_it_was_written(tmp_path: Path):
    evidence = evidence_of(knapsack_config(mpo=True), MODEL)
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(json.dumps(evidence.to_json()))
    assert read_evidence(tmp_path) == read_evidence(tmp_path / FILE) == evidence
    written = evidence.to_json()["linears"]["model.layers.0.mlp.down_proj"]
    assert (written["shape"], written["block"], len(written["points"])) == ([96, 160], 0, 6)
    assert written["points"][0]["bytes"] * 8 / (96 * 160) == written["points"][0]["bits_per_weight"]


def test_what_is_measured_are_the_largest_forms_within_the_rates():
    config = knapsack_config()
    (each,) = ladders_of(config, (96, 160))
    found = points_of([0.5, 0.8, 1.3], [each])
    assert [candidate for candidate, _ in found] == [0, 0, 0]
    for (_, form), bits in zip(found, [0.5, 0.8, 1.3], strict=True):
        assert bits_per_weight(form) <= bits < each.bits[each.forms.index(form) + 1]
    assert points_of([0.01, 0.02, 0.8], [each])[0] == (0, each.forms[0])
    with pytest.raises(ConfigError, match=r"at_bits: \[0.01, 0.02\] is one and the same form for a 96 x 160 linear"):
        points_of([0.01, 0.02], [each])


def test_a_linear_with_one_form_needs_none():
    config = knapsack_config(factor={"kind": "tensor_train", "start": "random", "rank": 8})
    assert points_of([0.5, 0.8], ladders_of(config, (96, 96))) == []
    assert [middle(count) for count in (1, 2, 3, 4, 5)] == [0, 0, 1, 1, 2]


def test_evidence_of_the_same_model_and_options_is_accepted_also_without_the_base_model_s_name():
    config = knapsack_config()
    evidence = evidence_of(config, MODEL)
    check(evidence, config, model="small", sites=sites_of(config))
    dropped = {name.removeprefix("model."): linear for name, linear in evidence.linears.items()}
    assert evidence.of(sites_of(config)[0]) == next(iter(dropped.values()))
    with_more = Evidence("small", evidence.recipe, {f"base.{name}": each for name, each in evidence.linears.items()})
    check(with_more, config, model="small", sites=sites_of(config))


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 3},
        {"calibration": {"windows": 7}},
        {"binarize": {"codec": {"kind": "binary", "scale": ["axes"]}, "refit": True}},
        {"at_bits": [0.5, 0.9, 1.3]},
        {"iterations": 8},
        {"mpo": True},
    ],
)
def test_evidence_measured_with_other_options_is_refused(other: dict[str, Any]):
    config, changed = knapsack_config(), knapsack_config(**other)
    with pytest.raises(ConfigError, match="the evidence was measured with other options") as refused:
        check(evidence_of(config, MODEL), changed, model="small", sites=sites_of(changed))
    assert any(key in str(refused.value) for key in ("seed", "windows", "refit", "at_bits", "iterations", "factors"))


def test_budget_ties_and_training_are_no_part_of_the_evidence():
    same = {"bits_per_weight": 1.1, "tie": "shared", "finetune": {"steps": 1, "objectives": [{"kind": "teacher_nats"}]}}
    assert recipe_of(knapsack_config()) == recipe_of(knapsack_config(**same))
    moved = {"calibration": {"corpus": "/elsewhere/text.txt"}}
    assert recipe_of(knapsack_config(**moved)) == recipe_of(knapsack_config(calibration={"corpus": "text.txt"}))


def test_another_model_and_missing_linears_are_refused_by_name():
    config = knapsack_config()
    evidence = evidence_of(config, MODEL)
    with pytest.raises(InputError, match="of the model small, and this plan is of other"):
        check(evidence, config, model="other", sites=sites_of(config))
    with pytest.raises(InputError, match=r"not tell of .*down_proj, 64 x 160.*there it is of shape 96 x 160"):
        check(evidence, config, model="small", sites=chosen_sites(config, small_model(width=64)))
    first = next(iter(evidence.linears))
    fewer = Evidence("small", evidence.recipe, {n: each for n, each in evidence.linears.items() if n != first})
    with pytest.raises(InputError, match=f"does not tell of {first}, "):
        check(fewer, config, model="small", sites=sites_of(config))


@pytest.mark.parametrize("text", ["no json", "[]", '{"version": 1}', '{"version": 1, "linears": {"a": {}}}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str):
    (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(InputError, match="not evidence as liptt writes it"):
        read_evidence(tmp_path / "evidence.json")


def test_an_absent_and_a_newer_file_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no evidence here .*decompose.allocator.kind is knapsack"):
        read_evidence(tmp_path)
    (tmp_path / "evidence.json").write_text('{"version": 2}')
    with pytest.raises(InputError, match="evidence of version 2, this liptt reads 1"):
        read_evidence(tmp_path / "evidence.json")


def test_each_candidate_has_its_own_ladder():
    config = knapsack_config(mpo=True)
    assert [each.decompose.factor.layout for each in candidates_of(config)] == ["split", "mpo"]
    split, mpo = ladders_of(config, (96, 96))
    assert split.forms[-1].out_modes == (96, 1) and mpo.forms[-1].out_modes == (12, 8)
