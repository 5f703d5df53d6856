"""The Lipschitz experiments without the work: their cells, what tells them apart, and what is tried again."""

import json
from pathlib import Path

import pytest
from lipschitz import Bench, Cell, all_cells

from liptt_cli.config import load_config

NONE, TERM = Cell("good", 1, 100, "none", 0), Cell("good", 1, 100, "directional.one.0.1", 0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    model = tmp_path / "model"
    model.mkdir()
    return Bench(model, tmp_path / "nowhere", tmp_path / "results", tmp_path / "work", 1.0, 40, 8, None)


def test_every_situation_has_every_term_once():
    cells = list(all_cells([0, 1]))
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 8 * 19
    assert len({cell.situation for cell in cells}) == 8


def test_cells_differ_in_the_fine_tune_alone_and_share_their_base(bench: Bench):
    assert bench.base_overrides(NONE) == bench.base_overrides(TERM)
    configs = [
        load_config("methods/liptt-onestep", overrides=[f"{k}={v}" for k, v in bench.overrides(cell).items()]).config
        for cell in (NONE, TERM)
    ]
    kinds = [[each.kind for each in config.finetune.objectives] for config in configs]
    assert kinds == [["teacher_nats", "hidden_square"], ["teacher_nats", "hidden_square", "lipschitz"]]
    last = configs[1].finetune.objectives[-1]
    assert (last.estimator, last.sided, last.weight) == ("directional", "one", 0.1)  # type: ignore[union-attr]
    assert configs[0].model_copy(update={"finetune": None}) == configs[1].model_copy(update={"finetune": None})


def test_a_faster_cell_has_all_its_rates_times_four(bench: Bench):
    slow, fast = (
        json.loads(str(bench.overrides(Cell("good", r, 100, "none", 0))["finetune.learning_rate"])) for r in (1, 4)
    )
    assert {key: fast[key] / slow[key] for key in slow} == pytest.approx(dict.fromkeys(slow, 4.0))


@pytest.mark.parametrize(
    ("found", "finished"),
    [
        ({"status": "ok"}, True),
        ({"status": "failed", "error": "not finite", "exit_status": 5}, True),
        ({"status": "failed", "error": "disk full", "exit_status": 4}, False),
    ],
)
def test_what_diverged_is_a_result_and_another_failure_is_not(bench: Bench, found: dict[str, object], finished: bool):
    bench.results.mkdir()
    path = bench.results / f"{NONE.key}.json"
    path.write_text(json.dumps({**found, "inputs": bench.inputs(NONE)}), encoding="utf8")
    assert bench.is_finished(NONE) is finished
    path.write_text(json.dumps({**found, "inputs": "of something else"}), encoding="utf8")
    assert not bench.is_finished(NONE)
