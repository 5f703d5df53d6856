"""Rotate the bond of two cores so that signs fit them, then encode each core on its own.

    W ~ U V = (U R)(R^T V),      M = the rows of U and the columns of V, each of unit length
    B = sign(M R);   R = the rotation nearest to M^T B (Procrustes)         Joint-ITQ

LittleBit-2 (arXiv:2603.00042), after iterative quantisation (Gong and Lazebnik 2011). The factors of an SVD are spiky,
the worst case for signs; a rotation spreads them out and costs nothing at run time. Rows count alike, since the
magnitude takes their lengths.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Codec
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.base import Fitted, assemble, core_axes
from liptt_cli.formats.chain import Chain
from liptt_cli.tensors.chain import as_matrix

_SEED = 0  # of the first rotation: the same start always gives the same bytes


@dataclass(frozen=True)
class ProcrustesSolver:
    """`iterations` rounds of signs and rotation; the metric counts through the start alone."""

    iterations: int = 50

    def solve(self, target: Float[Tensor, "out in"], *, start: Chain, codec: Codec, metric: Metric) -> Fitted:
        """Return the start's two cores, rotated and encoded.

        Raises:
            ValueError: if the chain has not two cores with one bond between out and in.
        """
        if len(start.cores) != 2 or start.in_modes[0] * start.out_modes[1] != 1:
            raise ValueError(f"one bond between out and in is rotated, not a chain of {len(start.cores)} cores")
        left, right = (start.core(k, target.dtype) for k in range(2))
        rotation = _rotation(torch.cat([left[0, :, 0, :], right[:, 0, :, 0].T]), iterations=self.iterations)
        values = [left @ rotation, torch.tensordot(rotation, right, dims=([0], [0]))]
        fits = [codec.fit(as_matrix(core), metric=Metric(), axes=core_axes(start, k)) for k, core in enumerate(values)]
        return assemble(start, fits, values, [target.new_ones(rank) for rank in start.ranks])


def _rotation(rows: Float[Tensor, "both bond"], *, iterations: int) -> Float[Tensor, "bond bond"]:
    """Return the rotation under which rows of unit length are nearest to signs."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    bond = rows.shape[1]
    drawn = torch.randn(bond, bond, generator=torch.Generator().manual_seed(_SEED)).to(rows)
    rotation = torch.linalg.qr(drawn).Q
    for _ in range(iterations):
        signs = torch.where(unit @ rotation >= 0, 1.0, -1.0).to(rows)
        u, _, v = torch.linalg.svd(unit.T @ signs)
        rotation = u @ v
    found: Tensor = rotation
    return found
