"""The form of a tensor train: d cores in a chain, with a vector of scales at each end and bond.

    W = diag(s_0) mat(B_1 diag(s_1) B_2 .. B_d) diag(s_d)

Core k is stored as the matrix (r_{k-1} m_k, n_k r_k), m and n being its out and in mode. The layout is
only modes: `split` puts unit modes where they belong, `mpo` pairs them (Novikov et al. 2015). No code
asks which one it is. Modes may multiply to more than the shape; the matrix is cropped.
"""

from dataclasses import dataclass
from math import prod

from liptt_cli.forms.base import Operations, Section
from liptt_cli.forms.leaves import DenseForm, GridForm
from liptt_cli.forms.zones import ZonesForm


@dataclass(frozen=True)
class ChainForm:
    """d cores; `ranks` are the d - 1 inner ones; `scales` says which of the d + 1 vectors exist."""

    shape: tuple[int, int]
    out_modes: tuple[int, ...]
    in_modes: tuple[int, ...]
    ranks: tuple[int, ...]
    cores: tuple[GridForm | DenseForm | ZonesForm, ...]
    scales: tuple[bool, ...]

    @property
    def bonds(self) -> tuple[int, ...]:
        """Return all d + 1 ranks, the outer ones being 1."""
        return (1, *self.ranks, 1)

    @property
    def scale_lengths(self) -> tuple[int, ...]:
        """Return the length of each of the d + 1 scale vectors: out, the inner ranks, in."""
        return (self.shape[0], *self.ranks, self.shape[1])

    @property
    def free_scales(self) -> tuple[bool, ...]:
        """Return which scale vectors a fit may choose: those that exist, and those that a core's envelope can take.

        A bond's vector goes into the rows of the core after it. An end's goes into the first core's rows or the last
        one's columns, if that core has the whole dimension.
        """
        scales = [core.scale if isinstance(core, GridForm) else None for core in self.cores]
        rows = [s is not None and s.rows == core.shape[0] for s, core in zip(scales, self.cores, strict=True)]
        first = rows[0] and self.out_modes[0] == prod(self.out_modes)
        last = scales[-1] is not None and scales[-1].cols and self.in_modes[-1] == prod(self.in_modes)
        able = (first, *rows[1:], last)
        return tuple(there or taken for there, taken in zip(self.scales, able, strict=True))

    @property
    def pair_bond(self) -> int | None:
        """Return the narrowest bond at which the chain is a product of two matrices, or None.

        There, all in-modes to the left and all out-modes to the right are 1. Elsewhere (paired modes)
        the chain runs as the dense matrix that it stands for.
        """
        eligible = [
            k for k in range(1, len(self.cores)) if prod(self.in_modes[:k]) == 1 and prod(self.out_modes[k:]) == 1
        ]
        return min(eligible, key=lambda k: self.bonds[k], default=None)

    def sections(self) -> tuple[Section, ...]:
        """Return the cores' sections, then the scales'."""
        found = [s.inside(f"cores.{k}") for k, core in enumerate(self.cores) for s in core.sections()]
        lengths = self.scale_lengths
        found += [Section(f"scales.{k}", "float16", (lengths[k],)) for k, there in enumerate(self.scales) if there]
        return tuple(found)

    def operations(self) -> Operations:
        """Return the cost of the run-time route: two sign matrices, two contracted ones, or W."""
        rows, columns = self.shape
        bond = self.pair_bond
        if bond is None:
            return Operations(0, rows * columns)
        products = self.bonds[bond] * (rows + columns)
        scales = Operations(0, sum(n for n, there in zip(self.scale_lengths, self.scales, strict=True) if there))
        if len(self.cores) == 2 and all(isinstance(core, GridForm) for core in self.cores):
            return sum((core.operations() for core in self.cores), scales)
        return Operations(0, products) + scales

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {
            "node": "chain",
            "shape": list(self.shape),
            "out_modes": list(self.out_modes),
            "in_modes": list(self.in_modes),
            "ranks": list(self.ranks),
            "cores": [core.to_json() for core in self.cores],
            "scales": list(self.scales),
        }
