"""What all latents share: pieces that may own parameters, and what each is told at the start of a training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from liptt_cli.formats.base import Encoded
from liptt_cli.menu.tuning import LatentOptions


class Part(nn.Module):
    """A piece of a trainable weight that may own parameters."""

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return this piece's own parameters by group, without its children's."""
        return {}

    def advance(self, progress: float) -> None:
        """Hear how far the training is, in 0..1: before its first step, and after each with the gradients there."""


class Latent(Part, ABC):
    """The trainable twin of a node of `formats`."""

    @abstractmethod
    def view(self) -> Encoded:
        """Return the value with gradients."""


class Start:
    """How a training starts: what every latent of a tree is told; each grid takes the next source."""

    def __init__(self, options: LatentOptions, train: frozenset[str], sources: Sequence[Tensor] | None) -> None:
        """Take the sources in the order of the grids."""
        self.options, self.train = options, train
        self._given = bool(sources) and options.source == "solver"
        self.left = list(sources or ()) if self._given else []

    @property
    def scales_learn(self) -> bool:
        """Return whether scales are parameters, whether they train now or not."""
        return self.options.scales == "learned"

    def fixed(self) -> "Start":
        """Return a start of the same kind whose scales stay."""
        return Start(self.options.model_copy(update={"scales": "fixed"}), self.train, None)

    def next_source(self) -> Tensor | None:
        """Return the source of the grid that asks, in order, or None if there are none."""
        if self._given and not self.left:
            raise ValueError("fewer sources than grids of codes")
        return self.left.pop(0) if self._given else None
