"""A tensor train as a compressed weight; forms/chain.py has the formula.

Nothing but scales stands between cores: no normalisation, bias or per-element scale (BN-free).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Grid
from liptt_cli.formats.rounding import to_half
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.chain import ChainForm
from liptt_cli.tensors.chain import Core, as_core, contract


@dataclass(frozen=True)
class Chain:
    """Cores as matrices (r_{k-1} m_k, n_k r_k), and d + 1 scale vectors, each possibly None."""

    cores: tuple[Grid | Dense | Zones, ...]
    scales: tuple[Float[Tensor, " _length"] | None, ...]
    shape: tuple[int, int]
    out_modes: tuple[int, ...]
    in_modes: tuple[int, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the d - 1 inner ranks, read off the cores."""
        columns = [core.form.shape[1] for core in self.cores[:-1]]
        return tuple(c // n for c, n in zip(columns, self.in_modes, strict=False))

    @property
    def form(self) -> ChainForm:
        """Return what is stored."""
        return ChainForm(
            self.shape,
            self.out_modes,
            self.in_modes,
            self.ranks,
            tuple(core.form for core in self.cores),
            tuple(scale is not None for scale in self.scales),
        )

    def core(self, k: int, dtype: torch.dtype) -> Core:
        """Return core k as (r_{k-1}, m_k, n_k, r_k), without the scales beside it."""
        bonds = (1, *self.ranks, 1)
        return as_core(self.cores[k].dense(dtype), left=bonds[k], right=bonds[k + 1])

    def segment(self, start: int, stop: int, dtype: torch.dtype) -> Core:
        """Contract the cores start..stop-1 with the scales of the bonds between them."""
        cores = [self.core(start, dtype)]
        for k in range(start + 1, stop):
            bond = self.scales[k]
            core = self.core(k, dtype)
            cores.append(core if bond is None else bond.to(dtype).reshape(-1, 1, 1, 1) * core)
        return contract(cores)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix, cropped to the shape."""
        rows, columns = self.shape
        matrix = self.segment(0, len(self.cores), dtype)[0, :rows, :columns, 0]
        first, last = self.scales[0], self.scales[-1]
        if first is not None:
            matrix = first.to(dtype).unsqueeze(1) * matrix
        return matrix if last is None else matrix * last.to(dtype)

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ dense().T`: by two matrices at the narrowest bond where there is one."""
        bond = self.form.pair_bond
        if bond is None:
            return x @ self.dense(x.dtype).T
        rows, columns = self.shape
        left = self.segment(0, bond, x.dtype)[0, :rows, 0, :]
        right = self.segment(bond, len(self.cores), x.dtype)[:, 0, :columns, 0]
        first, middle, last = self.scales[0], self.scales[bond], self.scales[-1]
        hidden = (x if last is None else x * last.to(x.dtype)) @ right.T
        y = (hidden if middle is None else hidden * middle.to(x.dtype)) @ left.T
        return y if first is None else y * first.to(x.dtype)

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return some rows of the matrix, from as many of the left part where the chain is a product of two."""
        bond = self.form.pair_bond
        if bond is None:
            return self.dense(dtype)[index]
        left = self.segment(0, bond, dtype)[0, :, 0, :][index]
        first, middle, last = self.scales[0], self.scales[bond], self.scales[-1]
        left = left if first is None else first.to(dtype)[index].unsqueeze(-1) * left
        left = left if middle is None else left * middle.to(dtype)
        rows = left @ self.segment(bond, len(self.cores), dtype)[:, 0, : self.shape[1], 0]
        return rows if last is None else rows * last.to(dtype)

    def fields(self) -> dict[str, Tensor]:
        """Return the cores' sections, then the scales'."""
        found = {f"cores.{k}.{name}": t for k, core in enumerate(self.cores) for name, t in core.fields().items()}
        return found | {f"scales.{k}": scale for k, scale in enumerate(self.scales) if scale is not None}

    def settled(self) -> "Chain":
        """Return codes as indices and scales in float16."""
        scales = tuple(None if s is None else to_half(s, f"scales.{k}") for k, s in enumerate(self.scales))
        cores = tuple(core.settled() for core in self.cores)
        return Chain(cores, scales, self.shape, self.out_modes, self.in_modes)
