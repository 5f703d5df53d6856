"""What the papers of signs in zones claim, on one small layer: inputs with outlier channels, a weight with heavy rows.

Errors are of the outputs unless said otherwise, relative and squared, each recipe as it is shipped; one seed. Where the
layer matters, the test says so: LOG.md has the numbers.
"""

from functools import cache

import pytest
import torch

from drawn import llm_like, seeded
from liptt_cli.algebra.compose import Solved, compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.config import load_config
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.planning.price import ladder
from liptt_cli.stages.fit import linear_plan

ROWS, COLUMNS = 96, 256
PLAIN = ("salient.refit=[]", "rest.parts.low.refit=[]", "rest.parts.high.refit=[]")


def weight(kind: str) -> torch.Tensor:
    if kind == "low rank":
        return llm_like(ROWS, COLUMNS)
    normal = torch.randn(ROWS, COLUMNS, generator=seeded(1)) * torch.exp(
        0.2 * torch.randn(ROWS, 1, generator=seeded(2))
    )
    return normal * torch.exp(0.5 * torch.randn(COLUMNS, generator=seeded(4))) if kind == "columns differ" else normal


@cache
def moment() -> torch.Tensor:
    """Inputs that share sixteen directions, six of them six times as large."""
    inputs = torch.randn(4 * COLUMNS, COLUMNS, generator=seeded(3))
    shared = torch.randn(4 * COLUMNS, 16, generator=seeded(5)) @ torch.randn(16, COLUMNS, generator=seeded(6))
    inputs = inputs + 0.15 * shared
    inputs[:, torch.randperm(COLUMNS, generator=seeded(8))[:6]] *= 6
    found = inputs.T @ inputs / len(inputs)
    return found + 0.01 * found.diagonal().mean() * torch.eye(COLUMNS)


@cache
def solved(method: str, *overrides: str, kind: str = "normal") -> Solved:
    config = load_config(f"methods/{method}", overrides=[f"binarize.codec.{each}" for each in overrides]).config
    plan = linear_plan(config, ladder(config, (ROWS, COLUMNS)).forms[0])
    return compress(weight(kind), plan=plan, metric=Metric(cols=moment()), generator=seeded())


def error(method: str, *overrides: str, kind: str = "normal") -> float:
    return solved(method, *overrides, kind=kind).error


def test_billm_is_better_than_pb_llm_at_fewer_bits_of_the_papers_own_count():
    """1.1 against 1.7; by all bits PB-LLM has its share lowered to BiLLM's 2.5. Heavier tails turn it around."""
    billm, same = solved("billm"), solved("pb-llm", "mask.share=0.07")
    rows_bits = 64 / COLUMNS  # of scales and means of whole rows, which a wide layer has for next to nothing
    assert abs(bits_per_weight(same.value.form) - rows_bits - bits_per_weight(billm.value.form)) < 0.03
    assert billm.error < same.error
    assert billm.plain_error < 0.8 * solved("pb-llm").plain_error


@pytest.mark.parametrize("kind", ["normal", "low rank"])
def test_a_refinement_is_better_than_none_and_arb_than_billm(kind: str):
    none = error("arb-llm-plain", *(f"parts.{each}" for each in PLAIN), kind=kind)
    assert error("arb-llm-plain", kind=kind) < 0.9 * none
    assert error("arb-llm-plain", kind=kind) < min(error(billm, kind=kind) for billm in ("billm", "billm-code"))


def test_column_scales_are_better_where_columns_differ():
    assert error("arb-llm-rc", kind="columns differ") < error("arb-llm-plain", kind="columns differ")
    assert error("arb-llm-rc") > error("arb-llm-plain")


def test_splitting_salient_columns_too_is_better():
    """By a tenth here, and by nothing on a weight of low rank: there are only two or three such columns in 128."""
    assert error("arb-llm") < error("arb-llm-rc")


@pytest.mark.parametrize("kind", ["normal", "low rank"])
def test_keeping_six_of_eight_is_better_than_four(kind: str):
    assert error("stbllm", "mask.keep=6", kind=kind) < 0.8 * error("stbllm", kind=kind)


def test_pruned_weights_stay_zero_while_errors_are_pushed_on():
    zeros = solved("stbllm").value.dense() == 0
    assert zeros.unflatten(1, (-1, 8)).sum(2).unique().tolist() == [4]


def test_bits_by_block_are_better_than_equal_ones():
    """SliM-LLM against two bits everywhere, their ranges searched alike; a quarter of the inputs is twice as large."""
    rows, columns = 32, 1024
    inputs = torch.randn(2 * columns, columns, generator=seeded(3))
    inputs = inputs + 0.15 * torch.randn(2 * columns, 16, generator=seeded(5)) @ torch.randn(
        16, columns, generator=seeded(6)
    )
    inputs[:, :256] *= 2
    metric = Metric(cols=inputs.T @ inputs / len(inputs) + 0.01 * torch.eye(columns))
    searched = "fit: search, search_range: [0.9, 1.1], search_steps: 101"
    equal = (
        f"binarize.codec={{kind: grid, alphabet: uint2, shift: true, scale: [group], group_columns: 128, {searched}}}"
    )
    errors = []
    for method, overrides in (("slim-llm", []), ("gptq", [equal])):
        config = load_config(f"methods/{method}", overrides=overrides).config
        plan = linear_plan(config, ladder(config, (rows, columns)).forms[0])
        dense = torch.randn(rows, columns, generator=seeded(1))
        errors.append(compress(dense, plan=plan, metric=metric, generator=seeded()).error)
    assert errors[0] < 0.85 * errors[1]
