"""The driver without the work: what is skipped, what is repeated, what a failure leaves, and what a rate depends on."""

import json
from pathlib import Path
from typing import Any

import cell_work
import pytest
import run
from cell_work import CellFailed, Stopped
from cells import Cell, find_cells
from methods import METHODS, ROOT
from run import Bench, is_finished, write_result
from setting import HELD_OUT, TEXTS, Prepared, Setting, sign_bits

from liptt_cli.config import load_config
from liptt_cli.forms.leaves import EnvelopeForm, GridForm

NATS = {0.5: 3.2, 1.0: 3.1, 2.0: 3.3, 4.0: 3.4}


@pytest.fixture
def taken(setting: Setting, texts: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cells that were run, in order; dense leaves its scores, a trial the nats above."""
    names: list[str] = []

    def run_cell(cell: Cell, prepared: Prepared, where: Setting) -> dict[str, Any]:
        names.append(cell.name)
        if cell.name == "dense":
            folder = where.folder(cell, prepared)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{TEXTS}.json").write_text("{}", encoding="utf8")
        corpora = {} if cell.trial is None else {f"{HELD_OUT} stdlib": {"nats": NATS[cell.trial]}}
        return {"price": prepared.price, "rate": prepared.rate, "corpora": corpora}

    monkeypatch.setattr(run, "run_cell", run_cell)
    return names


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts made up, since the model to sample from is made up too."""
    monkeypatch.setattr(Setting, "_write_texts", _write_texts)


def _write_texts(setting: Setting, cell: Cell) -> None:
    (setting.work / "texts").mkdir(parents=True, exist_ok=True)
    for name in ("stdlib-tuning", "stdlib-held-out", "self-tuning", "self-held-out", "self-calibration"):
        (setting.work / "texts" / f"{name}.jsonl").write_text(name, encoding="utf8")


def result(setting: Setting, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((setting.results / f"{key}.json").read_text(encoding="utf8"))
    return found


def test_finished_cells_are_skipped_and_lost_scores_measured_again(setting: Setting, taken: list[str]):
    cells = find_cells("reference--sign")
    assert Bench(setting, 1).run(cells) == 0
    assert taken == ["dense", "sign"]
    assert Bench(setting, 2).run(cells) == 0
    assert taken == ["dense", "sign"]
    (setting.results / "reference--sign.json").unlink()
    setting.dense_evaluations("reference")[0].unlink()
    assert Bench(setting, 1).run(cells) == 0
    assert taken == ["dense", "sign"] * 2


def test_the_best_trial_gives_the_rate(setting: Setting, taken: list[str]):
    assert Bench(setting, 2).run(find_cells("reference--dense-tuned")) == 0
    rate = result(setting, "reference--dense-tuned")["rate"]
    assert rate["factor"] == 1.0
    assert rate["values"] == {"finetune.learning_rate.weights": 3e-4, "finetune.learning_rate.norms": 3e-4}
    assert rate["held_out_nats"] == {f"{factor:.2g}": NATS[factor] for factor in METHODS["dense-tuned"].factors}
    assert taken[-1] == "dense-tuned"


def test_a_failed_cell_is_recorded_and_tried_again(setting: Setting, taken: list[str], monkeypatch: pytest.MonkeyPatch):
    def fail(cell: Cell, prepared: Prepared, where: Setting) -> dict[str, Any]:
        raise CellFailed(where.without_paths(f"no space in {where.work}/x"))

    working = run.run_cell
    monkeypatch.setattr(run, "run_cell", fail)
    assert Bench(setting, 1).run(find_cells("reference--dense-tuned")) == 1
    assert result(setting, "reference--dense")["error"] == "no space in WORK/x"
    assert "no trial" in result(setting, "reference--dense-tuned")["error"]
    monkeypatch.setattr(run, "run_cell", working)
    assert Bench(setting, 1).run(find_cells("reference--dense-tuned")) == 0
    assert result(setting, "reference--dense-tuned")["status"] == "ok"


def test_a_stop_leaves_no_result(setting: Setting, taken: list[str], monkeypatch: pytest.MonkeyPatch):
    def stop(cell: Cell, prepared: Prepared, where: Setting) -> dict[str, Any]:
        raise Stopped(cell.name)

    monkeypatch.setattr(run, "run_cell", stop)
    assert Bench(setting, 1).run(find_cells("reference--sign")) == 130
    assert not setting.results.exists()


def test_inputs_change_with_configuration_model_and_measures_only(setting: Setting, texts: None):
    cell = Cell("reference", "sign", "sign")
    prepared = setting.prepare(cell)
    write_result(cell, prepared.inputs, {"status": "ok", "price": prepared.price}, setting)
    assert is_finished(cell, prepared, setting)
    assert setting.prepare(Cell("reference", "tt", "tt-svd-sign", 1.0)).inputs != prepared.inputs
    valid = setting.shared / "data" / "corpus" / "valid.txt.gz"
    valid.parent.mkdir(parents=True)
    valid.write_bytes(b"text")
    assert not is_finished(cell, setting.prepare(cell), setting)  # a measure that is possible now
    valid.unlink()
    assert is_finished(cell, setting.prepare(cell), setting)


def test_the_price_is_that_of_the_plan(setting: Setting, texts: None):
    sign = setting.prepare(Cell("reference", "sign", "sign")).price
    assert sign["bits_per_weight"] == pytest.approx(sign_bits(setting.reference), abs=1e-6)
    liptt = setting.prepare(Cell("reference", "t", "tt-svd-sign", "sign")).price
    assert liptt["bits_per_weight"] <= sign["bits_per_weight"]
    dense = setting.prepare(Cell("reference", "dense")).price
    assert dense["bf16_bytes"] == 2 * (dense["weights"] + 32 * 64)


def test_without_the_lipschitz_term_all_else_is_the_same(setting: Setting, taken: list[str]):
    assert Bench(setting, 1).run(find_cells("reference--liptt-onestep-1.0-no-lipschitz")) == 0
    with_term = setting.prepare(Cell("reference", "a", "liptt-onestep", 1.0))
    without = setting.prepare(Cell("reference", "b", "liptt-onestep", 1.0, variant="no-lipschitz"))
    assert without.overrides == (*with_term.overrides, "finetune.objectives.2.weight=0.0")
    configs = [load_config(each.config, overrides=each.overrides).config for each in (with_term, without)]
    weights = [{each.kind: each.weight for each in config.finetune.objectives} for config in configs]
    assert weights[0]["lipschitz"] > weights[1]["lipschitz"] == 0.0
    assert with_term.inputs != without.inputs


def test_the_work_of_a_cell(setting: Setting, texts: None, monkeypatch: pytest.MonkeyPatch):
    evaluation = {
        "perplexity": {"stdlib": {"tokens": 8, "nats": 3.5, "window_nats": [3.0, 4.0]}},
        "tasks": {},
        "corpora": {"stdlib": "00ff"},
    }
    report = {
        "stages": {"load": {"seconds": 1.0, "peak_bytes": 5}, "export": {"seconds": 2.0, "peak_bytes": 7}},
        "lipschitz": {"before": [{"ratio": 0.5}], "after": [{"ratio": 0.9}]},
        "finetune": {"steps": 0},
        "totals": {"file_bytes": 10},
        "price": {"bits_per_weight": 1.2345678},
        "corpus": {"sha256": "aa", "tokens": 64},
    }

    def ran(arguments: list[str], stem: Path, where: Setting) -> cell_work.Ran:
        printed = report if arguments[0] == "compress" else evaluation
        stem.with_suffix(".json").write_text(json.dumps(printed), encoding="utf8")
        return cell_work.Ran(printed, 3.0, 2.0, 9)

    codes = GridForm((3, 8), scale=EnvelopeForm(3, 8))
    monkeypatch.setattr(cell_work, "_run", ran)
    monkeypatch.setattr(cell_work, "read_section", lambda packed: packed)
    monkeypatch.setattr(cell_work, "read_forms", lambda packed: {"linear": codes})
    dense, sign = find_cells("reference--sign")
    cell_work.run_cell(dense, setting.prepare(dense), setting)
    found = cell_work.run_cell(sign, setting.prepare(sign), setting)
    assert found["corpora"]["stdlib"]["excess"] == 0.0
    assert (found["price"]["bits_per_weight"], found["price"]["code_bits_per_weight"]) == (1.23457, 1.0)
    assert found["seconds"] == {"load": 1.0, "export": 2.0, "measure": 3.0, "all": 6.0, "all_cpu": 4.0}
    assert found["peak_bytes"] == {"compress": 7, "measure": 9}
    assert found["gain_ratios"] == {"before": [0.5], "after": [0.9]}
    assert found["commands"][0].startswith("liptt compress --config methods/sign --set model=MODEL")
    assert str(setting.work) not in " ".join(found["commands"])


@pytest.mark.slow
@pytest.mark.outside
def test_one_whole_cell(tmp_path: Path):
    shared = ROOT.parent / "shared"
    options = ["--quick", "--only", "stories260K--sign", "--shared", str(shared), "--work", str(tmp_path / "work")]
    assert run.main([*options, "--results", str(tmp_path / "results")]) == 0
    found = json.loads((tmp_path / "results" / "stories260K--sign.json").read_text(encoding="utf8"))
    assert found["corpora"]["tinystories"]["excess"] > 1
    assert found["totals"]["bits_per_weight"] == pytest.approx(found["price"]["bits_per_weight"], abs=1e-5)
    assert run.main([*options, "--results", str(tmp_path / "results")]) == 0
