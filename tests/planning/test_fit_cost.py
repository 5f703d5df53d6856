"""The price of a fit: the formula counts what a real fit multiplies."""

from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from drawn import gram, llm_like, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.fit_cost import evidence_multiplications, fit_multiplications, training_multiplications
from liptt_cli.planning.price import ladder
from liptt_cli.planning.sites import SiteShape
from liptt_cli.stages.fit import linear_plan

SHAPE = (48, 80)
EIGEN, CHOLESKY = 9, 1 / 3


class Counted(TorchDispatchMode):
    """Counts multiply-additions of products and factorisations as they run."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name == "mm":
            self.total += args[0].shape[0] * args[0].shape[1] * args[1].shape[1]
        elif name == "bmm":
            self.total += args[0].numel() * args[1].shape[2]
        elif name == "_linalg_eigh":
            self.total += EIGEN * args[0].shape[-1] ** 3
        elif name == "linalg_cholesky_ex":
            self.total += CHOLESKY * args[0].shape[-1] ** 3
        elif name == "cholesky_solve":
            self.total += args[0].numel() * args[1].shape[-1]
        return func(*args, **(kwargs or {}))


def config(cols: str = "none", *, factor: dict[str, Any] | None = None, **solver: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "method": "mine",
            "decompose": {"factor": {"kind": "tensor_train", "start": "random", "rank": 40} | (factor or {})},
            "binarize": {
                "codec": {"kind": "binary", "scale": ["axes"]},
                "metric": {"cols": cols},
                "solver": {"kind": "admm", "iterations": 40, **solver},
            },
        }
    )


@pytest.mark.parametrize(
    "settings",
    [
        config(),
        config("diagonal"),
        config("full"),
        config("full", inner=3),
        config(factor={"cores": 4, "rank": 12}),
        config("diagonal", factor={"layout": "mpo", "rank": 12}),
        config("full", factor={"layout": "mpo", "rank": 12}, cg_steps=0),
    ],
    ids=["none", "diagonal", "full", "inner", "four cores", "mpo", "mpo, product"],
)
def test_the_formula_counts_what_a_fit_multiplies(settings: RunConfig):
    form = ladder(settings, SHAPE).forms[0]
    cols = {"none": None, "diagonal": gram(80).diagonal(), "full": gram(80)}[settings.binarize.metric.cols]
    metric = Metric(None, None if cols is None else cols.float())
    with Counted() as counted:
        compress(llm_like(*SHAPE), plan=linear_plan(settings, form), metric=metric, generator=seeded(0))
    told = fit_multiplications(settings, form)
    assert told is not None
    assert told == pytest.approx(counted.total, rel=0.1)


def test_more_iterations_cost_more_and_a_direct_code_next_to_nothing():
    twice = config(iterations=80)
    form = ladder(twice, SHAPE).forms[0]
    assert fit_multiplications(twice, form) == pytest.approx(2 * (fit_multiplications(config(), form) or 0))
    sign = RunConfig.model_validate({"method": "mine", "binarize": {"codec": {"kind": "binary"}}})
    assert fit_multiplications(sign, ladder(sign, SHAPE).forms[0]) == 0


def test_what_has_no_formula_is_not_guessed():
    whole = config("full", factor={"layout": "mpo", "rank": 12})
    assert fit_multiplications(whole, ladder(whole, SHAPE).forms[0]) is None


def test_terms_of_a_sum_add_up_over_the_rounds():
    plain = config()
    tree = plain.model_dump()
    term = {key: tree["binarize"][key] for key in ("codec", "solver")} | {"factor": tree["decompose"]["factor"]}
    tree["binarize"] |= {"residual": [term], "rounds": 3}
    both = RunConfig.model_validate(tree)
    one = fit_multiplications(plain, ladder(plain, SHAPE).forms[0]) or 0
    assert fit_multiplications(both, ladder(both, SHAPE).forms[0]) == 3 * 2 * one


def test_evidence_costs_its_short_fits_and_training_four_a_parameter_and_token():
    tree = config().model_dump() | {"bits_per_weight": 2.0}
    tree["decompose"]["factor"]["rank"] = "auto"
    tree["decompose"]["allocator"] = {"kind": "knapsack", "at_bits": [1.0, 2.0], "iterations": 5}
    tree["finetune"] = {"steps": 3, "batch_windows": 2, "accumulate": 5, "objectives": [{"kind": "teacher_nats"}]}
    settings = RunConfig.model_validate(tree)
    tree["binarize"]["solver"]["iterations"] = 5
    short = RunConfig.model_validate(tree)
    rungs = ladder(settings, SHAPE)
    each = sum(fit_multiplications(short, rungs.forms[rungs.best(bits)]) or 0 for bits in (1.0, 2.0))
    assert evidence_multiplications(settings, [SiteShape(str(k), k, SHAPE) for k in range(3)]) == 3 * each > 0
    assert evidence_multiplications(config(), [SiteShape("0", 0, SHAPE)]) == 0
    tokens = 3 * 2 * 5 * settings.calibration.most_tokens
    assert training_multiplications(settings, 1000) == 4 * 1000 * tokens
