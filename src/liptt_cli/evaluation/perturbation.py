"""A model measured under a disturbance, where a smoother one should lose less: coarse activations, a noisy input.

    activation bits b   x <- s round(x / s),  s = max |x| / (2^(b-1) - 1) over a token    what enters a block's linears
    input noise e       h <- h + e rms(h) z,  z standard normal, rms over a token       what enters block 0

Attention, norms, embeddings and head stay as they are. The noise is drawn on the CPU from a seed, batch after batch, so
that two models measured on the same batches get the same one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from liptt_cli.errors import ModelError
from liptt_cli.layers.packed import PackedLinear


@dataclass(frozen=True)
class Perturbation:
    """Bits of the linears' inputs, None for none taken, and the noise as a share of the hidden states' rms."""

    activation_bits: int | None = None
    input_noise: float = 0.0

    @property
    def words(self) -> str:
        """Return it in words; empty if there is none."""
        bits = [] if self.activation_bits is None else [f"activations of {self.activation_bits} bits"]
        return ", ".join(bits + ([f"input noise {self.input_noise:g}"] if self.input_noise else []))

    def to_json(self) -> dict[str, object]:
        """Return what there is of it."""
        bits: dict[str, object] = {} if self.activation_bits is None else {"activation_bits": self.activation_bits}
        return bits | ({"input_noise": self.input_noise} if self.input_noise else {})


@contextmanager
def perturbed(model: nn.Module, perturbation: Perturbation, *, seed: int) -> Iterator[None]:
    """Disturb a dense or packed model until the end of the `with`.

    Raises:
        ModelError: if the model has no blocks with linears.
    """
    handles: list[RemovableHandle] = []
    if perturbation.words:
        blocks = _blocks(model)
        handles += [] if perturbation.activation_bits is None else _coarse(blocks, perturbation.activation_bits)
        handles += [_noisy(blocks[0], perturbation.input_noise, seed)] if perturbation.input_noise else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rounded(x: Float[Tensor, "*lead width"], *, bits: int) -> Float[Tensor, "*lead width"]:
    """Return each token on a symmetric grid of 2^bits - 1 levels that reaches its largest magnitude."""
    wide = x.float()
    step = wide.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / (2 ** (bits - 1) - 1)
    nearest: Tensor = (wide / step).round() * step
    return nearest.to(x.dtype)


def _coarse(blocks: list[nn.Module], bits: int) -> list[RemovableHandle]:
    def see(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (rounded(arguments[0], bits=bits), *arguments[1:])

    return [linear.register_forward_pre_hook(see) for block in blocks for linear in _linears(block)]


def _noisy(block: nn.Module, share: float, seed: int) -> RemovableHandle:
    generator = torch.Generator().manual_seed(seed)

    def noisy(hidden: Tensor) -> Tensor:
        size = share * hidden.float().square().mean(-1, keepdim=True).sqrt()
        noise = torch.randn(hidden.shape, generator=generator).to(hidden.device)
        return (hidden.float() + size * noise).to(hidden.dtype)

    def see(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if arguments:
            return (noisy(arguments[0]), *arguments[1:]), named
        return arguments, {**named, "hidden_states": noisy(named["hidden_states"])}

    return block.register_forward_pre_hook(see, with_kwargs=True)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks: the list whose items hold the most weights of linears, packed or not."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    weights = [sum(each.in_features * each.out_features for each in _linears(found)) for found in lists]
    if not any(weights):
        raise ModelError(f"{type(model).__name__}: found no blocks with linears, so there is nothing to disturb")
    return list(lists[weights.index(max(weights))])


def _linears(module: nn.Module) -> list[nn.Linear | PackedLinear]:
    return [each for each in module.modules() if isinstance(each, nn.Linear | PackedLinear)]
