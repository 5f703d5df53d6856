"""Blocks run again in the backward pass: equal gradients, fewer kept activations, hooks once."""

import torch
from torch import nn

from liptt_cli.layers.recompute import recomputed_blocks


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


def run(model, x):
    """Gradients, and the numbers that autograd kept for them."""
    kept = []

    def keep(tensor):
        kept.append(tensor.numel() if not isinstance(tensor, nn.Parameter) else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(x).square().sum()
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()], sum(kept)


def test_gradients_are_equal_and_less_is_kept():
    model, x = Toy().eval(), torch.randn(32, 8)
    gradients, kept = run(model, x)
    calls = []
    handle = model.blocks[1].register_forward_hook(lambda *_: calls.append(1))
    with recomputed_blocks(model, "blocks"):
        again, kept_again = run(model, x)
    handle.remove()
    assert all(torch.equal(one, other) for one, other in zip(gradients, again, strict=True))
    assert kept_again < 0.2 * kept
    assert calls == [1]
    assert all("forward" not in vars(block) for block in model.blocks)
