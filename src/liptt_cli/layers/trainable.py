"""The trainable view of a compressed weight: modules whose `view()` is the value with gradients.

    Latent.view()    codes as float levels by straight-through; scales rounded to float16 by straight-through
    Latent.freeze()  view().settled(): the stored numbers

Laws: `freeze(thaw(v)) == v`, and `module(x) == freeze().apply(x)`, bit for bit in float32, after any training; the
trained and the packed weight run through the same lines of `formats`. Thaw never changes a code.
"""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.formats.around import Around, matrix_of
from liptt_cli.formats.base import Stored
from liptt_cli.layers.latents import AroundLatent, make_latent
from liptt_cli.layers.parts import Latent, Part, Start
from liptt_cli.menu.tuning import LatentOptions

Groups = dict[str, list[nn.Parameter]]


def thaw(
    value: Stored,
    *,
    options: LatentOptions,
    train: Collection[str],
    bias: Float[Tensor, " out"] | None = None,
    sources: Sequence[Tensor] | None = None,
) -> "TrainableLinear":
    """Return a module that starts as `value`, its groups outside of `train` frozen.

    Args:
        value: settled or not; what is stored of it is where the training starts.
        options: where the latents come from, and the backward of their rounding.
        train: groups that move: codes, scales, weights; other names are left to whoever knows them.
        bias: added to the output as it is; never trained.
        sources: the solver's values before rounding, one for each grid of codes, depth first. A latent that disagrees
            with its code is clipped into the code's own cell. Without them latents start at the codes' own levels.

    Raises:
        ValueError: if there are sources, but not one for each grid.
    """
    start = Start(options, frozenset(train), sources)
    settled = value.settled()
    latent = AroundLatent(settled, start) if isinstance(settled, Around) else make_latent(matrix_of(settled), start)
    if start.left:
        raise ValueError(f"{len(start.left)} sources more than the {value.form.to_json()['node']} has grids of codes")
    return TrainableLinear(latent, bias, train=start.train)


class TrainableLinear(nn.Module):
    """A linear in training: a latent weight, what is around it, and the bias of the linear that it replaces."""

    def __init__(
        self, latent: Latent | AroundLatent, bias: Float[Tensor, " out"] | None, *, train: frozenset[str]
    ) -> None:
        """Take the latent as it is, the groups of it that may move, and a copy of the bias that does not train."""
        super().__init__()
        self.latent, self.train_groups = latent, train
        self.out_features, self.in_features = latent.view().form.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def view(self) -> Stored:
        """Return the weight with gradients."""
        return self.latent.view()

    def freeze(self) -> Stored:
        """Return the weight as the file holds it."""
        with torch.no_grad():
            return self.view().settled()

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ W.T + bias`."""
        y = self.view().apply(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def groups(self) -> Groups:
        """Return the parameters that may move, by the group that gives their learning rate."""
        found: Groups = {"codes": [], "scales": [], "weights": []}
        for part in self.modules():
            if isinstance(part, Part):
                for group, parameters in part.own().items():
                    found[group] += parameters if group in self.train_groups else []
        return found
