"""The triangular root of an inverse: what it is a root of, and what is added where there is none."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.errors import DivergenceError
from liptt_cli.tensors.cholesky import inverse_root


def test_it_is_an_upper_root_of_the_inverse():
    moment = gram(12)
    root, damping = inverse_root(moment, damping=0.0)
    assert damping == 0
    assert torch.equal(root, root.triu())
    assert bool((root.diagonal() > 0).all())
    torch.testing.assert_close(root.T @ root, torch.linalg.inv(moment))


def test_what_is_added_is_a_share_of_the_mean_diagonal():
    moment = gram(12)
    root, damping = inverse_root(moment, damping=0.5)
    assert damping == 0.5
    added = moment + 0.5 * moment.diagonal().mean() * torch.eye(12)
    torch.testing.assert_close(root, inverse_root(added, damping=0.0)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tokens", [3, 20])
def test_fewer_tokens_than_inputs_are_damped(tokens: int, dtype: torch.dtype):
    inputs = normal(tokens, 40, dtype=dtype)
    root, damping = inverse_root(inputs.T @ inputs, damping=0.0)
    assert damping > 0
    assert bool(torch.isfinite(root).all())
    damped = inputs.T @ inputs + damping * (inputs.square().sum() / 40) * torch.eye(40, dtype=dtype)
    torch.testing.assert_close(root.T @ root @ damped, torch.eye(40, dtype=dtype), rtol=0, atol=1e-2)


def test_an_indefinite_matrix_is_damped_until_it_is_positive():
    moment = torch.diag(torch.tensor([1.0, 1.0, -0.5]))
    _, damping = inverse_root(moment, damping=1e-4)
    assert damping == pytest.approx(10.0)


def test_what_no_damping_mends_is_refused():
    with pytest.raises(DivergenceError, match="not positive, even with 10 times its mean"):
        inverse_root(torch.diag(torch.tensor([1.0, -1.0])), damping=0.0)
