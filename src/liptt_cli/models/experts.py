"""Experts of a mixture, unfolded: from the two tensors into which transformers fuses them to a linear for each matrix.

    fused       gate_up_proj (experts, 2 inner, width), the gate's rows first; down_proj (experts, width, inner)
    unfolded    3.gate_proj, 3.up_proj (inner, width); 3.down_proj (width, inner); named as the files name them

    y[t] = sum over the experts e chosen for token t of  weight[t, e] * down_e(act(gate_e x[t]) * up_e x[t])

After that nothing else knows of mixtures: these linears are found, measured, compressed and packed like all others. An
expert runs on the tokens sent to it, if there are any. While it trains it runs on none too, so that all its parameters
get a gradient in every step (several processes must agree on that).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.planning.experts import Leaves, leaves_among

_FUSED = {"gate_up_proj", "down_proj"}
_LAYOUT = {
    "has_gate": True,
    "has_bias": False,
    "is_transposed": False,
    "is_concatenated": True,
    "has_post_expert_norm": False,
}


_PLAIN_GATE = "transformers.integrations."  # home of act(gate) * up; a family's own lies in its modelling file


class Expert(nn.Module):
    """Three linears without biases; `inner` and `outer` are the two halves of its forward."""

    def __init__(self, fused: Any, number: int, leaves: Leaves) -> None:
        """Take one expert's matrices as views of the fused tensors."""
        super().__init__()
        self._leaves = leaves
        gate, up = fused.gate_up_proj.detach()[number].chunk(2)
        for leaf, matrix in zip(leaves, (gate, up, fused.down_proj.detach()[number]), strict=True):
            self.add_module(leaf, _linear(matrix, trains=fused.down_proj.requires_grad))

    def inner(self, x: Float[Tensor, "tokens width"], act: nn.Module) -> Float[Tensor, "tokens inner"]:
        """Return what stands before the last linear."""
        gate, up, _ = self._linears()
        result: Tensor = act(gate(x)) * up(x)
        return result

    def outer(self, inner: Float[Tensor, "tokens inner"]) -> Float[Tensor, "tokens width"]:
        """Return the output."""
        result: Tensor = self._linears()[2](inner)
        return result

    def _linears(self) -> list[nn.Module]:
        return [self.get_submodule(leaf) for leaf in self._leaves]


class Experts(nn.Module):
    """The experts of one block, in the place of the fused ones and called like them."""

    def __init__(self, fused: Any, leaves: Leaves) -> None:
        """Unfold; the matrices stay where they are."""
        super().__init__()
        self.count = len(fused.down_proj)
        self.act_fn = fused.act_fn
        for number in range(self.count):
            self.add_module(str(number), Expert(fused, number, leaves))

    def forward(
        self,
        hidden_states: Float[Tensor, "tokens width"],
        top_k_index: Int[Tensor, "tokens chosen"],
        top_k_weights: Float[Tensor, "tokens chosen"],
    ) -> Float[Tensor, "tokens width"]:
        """Return the weighted sum of the chosen experts' outputs.

        All first halves run before all second ones, so that in call order the linears at one place of all experts
        stand together, and no compressed one of them moves what the others see.
        """
        by_place = top_k_index.T
        running = [(expert, torch.where(by_place == number)) for number, expert in self._running(top_k_index)]
        inner = [expert.inner(hidden_states[tokens], self.act_fn) for expert, (_, tokens) in running]
        result = torch.zeros_like(hidden_states)
        for (expert, (places, tokens)), before in zip(running, inner, strict=True):
            weighted = expert.outer(before) * top_k_weights[tokens, places, None]
            result.index_add_(0, tokens, weighted.to(result.dtype))
        return result

    def _running(self, top_k_index: Int[Tensor, "tokens chosen"]) -> Iterator[tuple[int, Expert]]:
        """Yield the experts that are called, in order."""
        chosen = set(top_k_index.unique().tolist())
        for number in range(self.count):
            expert = self.get_submodule(str(number))
            if isinstance(expert, Expert) and (number in chosen or _trains(expert)):
                yield number, expert


def unfold(model: nn.Module, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Unfold all fused experts of a model in place, and return the paths of these modules.

    Experts of another layout (transposed, interleaved, with biases, with a gate of their own) stay as they are; they
    count as left out of the compression.

    Args:
        model: its parameters may be on meta.
        names: of stored tensors or of linears, which tell how an expert's linears are called.
    """
    leaves = leaves_among(names)
    found = tuple(path for path, module in model.named_modules() if is_fused(module))
    for path in found:
        model.set_submodule(path, Experts(model.get_submodule(path), leaves))
    return found


def is_fused(module: nn.Module) -> bool:
    """Say whether a module holds fused experts of the layout that is known here."""
    own = dict(module.named_parameters(recurse=False))
    if set(own) != _FUSED or any(parameter.ndim != 3 for parameter in own.values()):
        return False
    laid_out = all(getattr(module, name, wanted) is wanted for name, wanted in _LAYOUT.items())
    gate = getattr(type(module), "_apply_gate", None)
    return laid_out and hasattr(module, "act_fn") and getattr(gate, "__module__", "").startswith(_PLAIN_GATE)


def _linear(matrix: Float[Tensor, "out in"], *, trains: bool) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    linear.weight = nn.Parameter(matrix, requires_grad=trains)
    return linear


def _trains(expert: Expert) -> bool:
    return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in expert.parameters())
