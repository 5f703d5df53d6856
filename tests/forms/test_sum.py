"""Sums: sections under their part's name, costs that add up, ranks of all chains."""

from liptt_cli.forms.base import Operations, blob_bytes
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, GridForm
from liptt_cli.forms.sum import SumForm, inner_ranks

CHAIN = ChainForm((8, 16), (8, 1), (1, 16), (4,), (GridForm((8, 4)), GridForm((4, 16))), (True, True, True))
PLAIN = DenseForm((8, 16), "float16")


def test_sections_stand_depth_first_at_multiples_of_sixteen():
    form = SumForm((CHAIN, PLAIN))
    names = [section.name for section in form.sections()]
    assert names == [
        "parts.0.cores.0.codes",
        "parts.0.cores.1.codes",
        "parts.0.scales.0",
        "parts.0.scales.1",
        "parts.0.scales.2",
        "parts.1.values",
    ]
    assert blob_bytes(form) == -(-blob_bytes(CHAIN) // 16) * 16 + 256


def test_costs_and_ranks_are_those_of_all_parts():
    form = SumForm((CHAIN, SumForm((PLAIN, CHAIN))))
    assert form.shape == (8, 16)
    assert form.operations() == CHAIN.operations() + CHAIN.operations() + Operations(0, 128)
    assert inner_ranks(form) == (4, 4)
    assert inner_ranks(PLAIN) == ()
