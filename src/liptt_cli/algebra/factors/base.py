"""The contract of a factor: float cores of a chain, from which a solver starts.

Laws: full rank is exact; ranks never exceed what the form asks for.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.chain import Chain
from liptt_cli.forms.base import Form


@runtime_checkable
class Factor(Protocol):
    """Writes a weight as a chain of float cores; one core is the weight itself."""

    def start(self, target: Float[Tensor, "out in"], *, form: Form, generator: torch.Generator) -> Chain:
        """Return cores of the form's shape, and a vector of ones wherever the form can hold scales.

        Ranks may come out lower than the form's where its unfolding allows no more: the chain is the truth.
        """
        ...
