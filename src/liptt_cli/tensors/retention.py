"""The gain of a block, read from what went in and what came out: the leading value of its retention matrix.

    X = h_before / rms_token,  D = h_after - h_before          one row a token position, the residual removed
    X and D are divided, channel by channel, by the rms of the teacher's
    R = X^T D / P,  u, v by power iteration without gradient:  u <- D^T X v,  v <- X^T D u   (each made unit)
    gain = (X v) . (D u) / P                                   differentiable; at convergence sigma_1(R) (Danskin)

Shang et al. 2022, arXiv:2207.06540 take one power step from the all-ones vector, do not normalise it, and keep the
residual and the massive channels in; the four corrections are ours. R is never formed: a gain costs O(P width).
For whitened inputs (X^T X = P I) and a linear block, R is the block's matrix and the gain its spectral norm.
The gain is taken window by window, so that the mean over windows does not depend on how they are batched.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_FLOOR = 1e-6  # of a channel's rms, relative to the mean over channels; keeps a silent channel from ruling


@dataclass(frozen=True)
class Passage:
    """The hidden states before and after a block."""

    before: Float[Tensor, "windows tokens width"]
    after: Float[Tensor, "windows tokens width"]

    def at(self, positions: Tensor) -> "Passage":
        """Return the passage at some token positions, the same in each window."""
        return Passage(self.before[:, positions], self.after[:, positions])


@dataclass(frozen=True)
class Probe:
    """How a gain is measured: power iterations, and at most so many positions of a window."""

    power_steps: int = 4
    positions: int = 512

    def gains(
        self, student: Passage, teacher: Passage, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, " windows"], Float[Tensor, " windows"]]:
        """Return the gains of a student's and a teacher's block, at the same positions and from the same start."""
        _, tokens, width = teacher.before.shape
        if self.positions < tokens:
            chosen = torch.randperm(tokens, generator=generator)[: self.positions].sort().values
            student, teacher = (passage.at(chosen.to(passage.before.device)) for passage in (student, teacher))
        start = torch.randn(width, generator=generator)
        inputs, outputs = zip(_normalised(student), _normalised(teacher), strict=True)
        sizes = [_channel_rms(pair[1]) for pair in (inputs, outputs)]
        found = [
            leading_gain(x / sizes[0], d / sizes[1], steps=self.power_steps, start=start)
            for x, d in zip(inputs, outputs, strict=True)
        ]
        return found[0], found[1]


def leading_gain(
    x: Float[Tensor, "windows positions width"],
    d: Float[Tensor, "windows positions out"],
    *,
    steps: int,
    start: Float[Tensor, " width"],
) -> Float[Tensor, " windows"]:
    """Return the leading singular value of each window's X^T D / P, at least 0, with its gradient."""
    with torch.no_grad():
        v = _unit(start.to(x).expand(x.shape[0], -1).unsqueeze(2))
        for _ in range(steps):
            u = _unit(d.mT @ (x @ v))
            v = _unit(x.mT @ (d @ u))
        u = _unit(d.mT @ (x @ v))
    return ((x @ v) * (d @ u)).sum((1, 2)) / x.shape[1]


def _normalised(passage: Passage) -> tuple[Tensor, Tensor]:
    """Return X and D of a passage, in float32 at least."""
    dtype = torch.promote_types(passage.before.dtype, torch.float32)
    before, after = passage.before.to(dtype), passage.after.to(dtype)
    return before * torch.rsqrt(before.square().mean(2, keepdim=True) + torch.finfo(dtype).tiny), after - before


def _channel_rms(values: Float[Tensor, "windows positions width"]) -> Float[Tensor, "windows 1 width"]:
    size = values.detach().square().mean(1, keepdim=True).sqrt()
    return size + _FLOOR * size.mean(2, keepdim=True) + torch.finfo(values.dtype).tiny


def _unit(vector: Float[Tensor, "windows length 1"]) -> Float[Tensor, "windows length 1"]:
    length: Tensor = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    return vector / length.clamp_min(torch.finfo(vector.dtype).tiny)
