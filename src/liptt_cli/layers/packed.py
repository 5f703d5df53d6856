"""A packed linear: one blob of bytes, and the torch meaning of what it stands for.

A leaf that holds its tensors itself, so that accelerate can offload it. Nothing in it is trained: tuning thaws the
value. The blob is unpacked at every call, so memory stays that of the bits. Gradients reach the input.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.formats.base import Encoded
from liptt_cli.forms.base import Form, bits_per_weight, blob_bytes
from liptt_cli.packing.blob import unpack


class PackedLinear(nn.Module):
    """`x @ W.T + bias`, W being what the bytes of `weight` stand for under `form`."""

    def __init__(self, form: Form, bias: bool) -> None:
        """Make an empty blob of the form's length, on whatever device is the default."""
        super().__init__()
        self.form = form
        self.out_features, self.in_features = form.shape
        self.weight = nn.Parameter(torch.empty(blob_bytes(form), dtype=torch.uint8), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(self.out_features), requires_grad=False) if bias else None

    def value(self) -> Encoded:
        """Return the weight as a value."""
        return unpack(self.form, self.weight)

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Apply the weight by its cheap route, then add the bias."""
        y = self.value().apply(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def to_linear(self, dtype: torch.dtype) -> nn.Linear:
        """Return the plain linear with the same meaning."""
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, dtype=dtype)
        linear.weight = nn.Parameter(self.value().dense(torch.float32).to(dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().to(dtype))
        return linear

    def extra_repr(self) -> str:
        """Say what it is in the print-out of a model."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"form={self.form.to_json()['node']}, bits_per_weight={bits_per_weight(self.form):.3f}"
        )
