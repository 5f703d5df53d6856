"""The factor of chains: a tensor train by TT-SVD, or seeded normal cores for a solver to fit."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.tensors.chain import Core, as_matrix, to_modes
from liptt_cli.tensors.svd import tt_svd


@dataclass(frozen=True)
class TensorTrainFactor:
    """Cores by `svd` (Oseledets 2011) or `random`; the form says modes and ranks."""

    start_kind: Literal["svd", "random"] = "svd"

    def start(self, target: Float[Tensor, "out in"], *, form: Form, generator: torch.Generator) -> Chain:
        """Return a chain of float cores.

        Random cores have the weight's variance, which is the size of a core whose neighbours are normalised.
        """
        if not isinstance(form, ChainForm):
            raise ValueError(f"a tensor train fills a ChainForm, not a {type(form).__name__}")
        cores = _by_svd(target, form) if self.start_kind == "svd" else _random(target, form, generator)
        ranks = [core.shape[3] for core in cores[:-1]]
        lengths = (form.shape[0], *ranks, form.shape[1])
        scales = tuple(
            target.new_ones(n) if there else None for n, there in zip(lengths, form.free_scales, strict=True)
        )
        values = tuple(Dense(as_matrix(core), "float32") for core in cores)
        return Chain(values, scales, form.shape, form.out_modes, form.in_modes)


def _by_svd(target: Float[Tensor, "out in"], form: ChainForm) -> list[Core]:
    rows, columns = prod(form.out_modes), prod(form.in_modes)
    padded = torch.nn.functional.pad(target, (0, columns - target.shape[1], 0, rows - target.shape[0]))
    train = tt_svd(to_modes(padded, out_modes=form.out_modes, in_modes=form.in_modes), ranks=form.ranks)
    return [
        core.reshape(core.shape[0], m, n, core.shape[2])
        for core, m, n in zip(train.cores, form.out_modes, form.in_modes, strict=True)
    ]


def _random(target: Float[Tensor, "out in"], form: ChainForm, generator: torch.Generator) -> list[Core]:
    shapes = zip(form.bonds, form.out_modes, form.in_modes, form.bonds[1:], strict=False)
    cores = [torch.randn(shape, generator=generator, device=generator.device) for shape in shapes]
    size = target.square().mean().sqrt()
    return [size * core.to(target) for core in cores]
