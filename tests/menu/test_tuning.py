"""Options of trainings that contradict each other are refused, and say what to do."""

import pytest
from pydantic import ValidationError

from liptt_cli.menu.binarize import Binarize
from liptt_cli.menu.needs import needs_gradients
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.tuning import Tuning, weighs_by_gradient

SQUARE = {"kind": "hidden_square"}
LOSS = {"objectives": [SQUARE]}
FISHER = {"kind": "hidden_square", "weights": "fisher"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finetune": {"steps": 3, "epochs": 1, "objectives": [SQUARE]}}, "steps: 3 and epochs: 1 say the same"),
        ({"finetune": {"epochs": 1}}, "a training needs one with a weight above 0"),
        ({"finetune": {"epochs": 1, "objectives": [FISHER]}}, "weights: fisher is for the tuning of blocks"),
        ({"binarize": {"rest": {"train": ["codes"]}}}, "codes are not dense; the rest has weights and norms"),
        ({"binarize": {"order": ["key", "query", "key"]}}, "key is there twice"),
        (
            {"binarize": {"rest": {"steps": 1, "windows": 200, "objectives": [SQUARE]}}},
            "binarize.rest.windows is 200, but calibration.windows is 128",
        ),
        (
            {
                "binarize": {"codes": {"epochs": 1, "latent": {"unit": False}, "objectives": [SQUARE]}},
                "finetune": {"epochs": 1, "objectives": [SQUARE]},
            },
            "latent.unit differ, but they share their start",
        ),
        (
            {"finetune": {"steps": 1, "latent": {"kind": "none", "scales": "closed"}, "train": ["scales"], **LOSS}},
            "closed scales follow latents; train codes",
        ),
        (
            {"binarize": {"codes": {"steps": 1, "objectives": [{"kind": "hidden_cosine", "drop_last": True}]}}},
            "first and drop_last are for finetune",
        ),
        (
            {"binarize": {"codec": {"kind": "binary", "scale": ["group"]}, "around": {"routed": {"experts": 4}}}},
            "its experts take over a scale a row and a column",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate({"method": "x", **options})


def test_the_defaults_train_nothing_and_leave_the_order_of_calls():
    found = Binarize()
    assert (found.order, found.rest.trains, found.codes.trains, found.codes.when) == ("shared", False, False, "block")
    assert found.rest.train == ["weights"]
    assert RunConfig(method="x").unit_sources


def test_squared_gradients_are_measured_for_a_training_that_weighs_by_them():
    def config(**changes):
        return RunConfig.model_validate({"method": "x", "binarize": changes})

    assert not needs_gradients(config(rest={"objectives": [FISHER]}))
    assert needs_gradients(config(rest={"epochs": 2, "objectives": [FISHER]}))
    assert needs_gradients(config(codes={"steps": 2, "objectives": [SQUARE, FISHER]}))
    assert not weighs_by_gradient(Tuning(steps=1, objectives=[SQUARE]))
