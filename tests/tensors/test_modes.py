"""Modes: products, balance, padding, layouts, refusals; and the ranks that bonds can hold."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import normal
from liptt_cli.errors import ShapeError
from liptt_cli.tensors.chain import to_modes
from liptt_cli.tensors.modes import balanced_modes, bond_caps, chain_modes


@pytest.mark.parametrize(
    ("dimension", "count", "expected"),
    [
        (4096, 1, (4096,)),
        (4096, 2, (64, 64)),
        (11008, 2, (86, 128)),
        (14336, 3, (16, 28, 32)),
        (127, 1, (127,)),
        (127, 2, (8, 16)),
        (172, 2, (6, 29)),
    ],
)
def test_balanced(dimension, count, expected):
    assert balanced_modes(dimension, count) == expected


@settings(max_examples=80, deadline=None)
@given(dimension=st.integers(1, 20000), count=st.integers(1, 4))
def test_balanced_modes_cover_the_dimension_within_the_padding(dimension, count):
    try:
        modes = balanced_modes(dimension, count)
    except ShapeError:
        return
    assert len(modes) == count
    assert dimension <= prod(modes) <= dimension * 1.02
    assert count == 1 or max(modes) <= 8 * min(modes)


@pytest.mark.parametrize("dimension", [7, 17, 29])
def test_a_dimension_that_does_not_factor_is_refused_with_the_nearest_that_does(dimension):
    with pytest.raises(ShapeError, match=f"dimension {dimension} does not factor into 2 modes.*the nearest is"):
        balanced_modes(dimension, 2)


def test_layouts_are_only_modes():
    assert chain_modes((12, 10), "split", cores=2) == ((12, 1), (1, 10))
    assert chain_modes((12, 10), "split", cores=3) == ((3, 4, 1), (1, 1, 10))
    assert chain_modes((12, 10), "split", cores=4) == ((3, 4, 1, 1), (1, 1, 2, 5))
    assert chain_modes((12, 10), "mpo", cores=2) == ((4, 3), (2, 5))


def test_named_modes_are_taken_or_refused():
    named = ((4, 3, 1), (1, 1, 11))
    assert chain_modes((12, 10), "split", cores=3, modes=named) == named
    for modes, message in (
        (((4, 3), (1, 1, 10)), "must be 3 numbers"),
        (((4, 2, 1), (1, 1, 10)), "multiply to 8, but the dimension is 12"),
        (((4, 3, 1), (2, 1, 5)), "use layout mpo"),
    ):
        with pytest.raises(ShapeError, match=message):
            chain_modes((12, 10), "split", cores=3, modes=modes)
    assert chain_modes((12, 10), "mpo", cores=2, modes=((4, 3), (2, 5))) == ((4, 3), (2, 5))


@pytest.mark.parametrize("layout", ["split", "mpo"])
@pytest.mark.parametrize("cores", [2, 3, 4])
def test_caps_are_the_ranks_of_a_generic_tensor(layout, cores):
    out_modes, in_modes = chain_modes((16, 24), layout, cores=cores)
    tensor = to_modes(normal(16, 24), out_modes=out_modes, in_modes=in_modes)
    found = [int(torch.linalg.matrix_rank(tensor.reshape(prod(tensor.shape[:k]), -1))) for k in range(1, tensor.ndim)]
    assert bond_caps(out_modes, in_modes) == tuple(found)
