"""What PT2-LLM (arXiv:2510.03267) claims of its pieces, on one small layer: relative errors of weights and of outputs.

Alike columns that stand apart share no scale until they are put together; on a layer without kinds of columns the order
brings 0 to 6 %, and may cost as much (LOG.md).
"""

from functools import cache

import torch

from drawn import gram, llm_like, normal, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.config import load_config
from liptt_cli.planning.price import ladder
from liptt_cli.stages.fit import linear_plan

ROWS, COLUMNS = 64, 256
ITF = "binarize.codec.refit=[{iterations: 10, metric: none}]"
START = "binarize.codec.refit=[]"
NATURAL = "binarize.transforms=[]"
DIRECT = "binarize.solver={kind: direct}"


@cache
def solved(*overrides, kinds=False):
    config = load_config("methods/pt2-llm", overrides=list(overrides)).config
    weight = of_two_kinds() if kinds else llm_like(ROWS, COLUMNS)
    plan = linear_plan(config, ladder(config, (ROWS, COLUMNS)).forms[0])
    metric = Metric(cols=gram(COLUMNS, dtype=torch.float32))
    return compress(weight, plan=plan, metric=metric, generator=seeded())


def of_two_kinds():
    """Every other column is around 1 and of small spread, the others are around -1 and of large."""
    spread, mean = torch.tensor([0.3, 2.0]).repeat(COLUMNS // 2), torch.tensor([1.0, -1.0]).repeat(COLUMNS // 2)
    return normal(ROWS, COLUMNS, dtype=torch.float32) * spread + mean


def test_itf_lowers_the_error_of_the_weights():
    assert solved(NATURAL, ITF, DIRECT).plain_error < 0.97 * solved(NATURAL, START, DIRECT).plain_error


def test_aga_lowers_the_error_of_the_outputs_and_raises_that_of_the_weights():
    """What it is for: scale and shift of fixed codes, for outputs instead of weights."""
    both, alone = (solved(NATURAL, each, DIRECT) for each in ("version=1", ITF))
    assert both.error < 0.9 * alone.error
    assert both.plain_error > alone.plain_error


def test_aga_lowers_the_error_of_the_outputs_within_the_whole_method():
    assert solved().error < 0.97 * solved(ITF).error


def test_alike_columns_that_stand_apart_share_scales_once_they_are_in_one_group():
    assert solved(kinds=True).error < 0.8 * solved(NATURAL, kinds=True).error
    order = solved(kinds=True).value.right[0].order.long()
    assert torch.equal(order[:128] % 2, order[0].expand(128) % 2)


def test_the_order_is_the_only_price_of_it():
    fields = solved().value.fields()
    assert {name: tensor.shape for name, tensor in fields.items() if name.startswith("right")} == {
        "right.0.order": (COLUMNS,)
    }
