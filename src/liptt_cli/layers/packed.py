"""A packed linear: one blob of bytes, and the torch meaning of what it stands for.

A leaf that holds its tensors itself, so that accelerate can offload it. Nothing in it is trained: tuning thaws the
value. Without gradients a kernel runs, where one fits: its own layout of the codes is made at the first call, lies
outside of the parameters and the state, and is dropped when the weight moves or changes. Everywhere else the blob is
unpacked at every call, so memory stays that of the bits, and gradients reach the input.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.formats.around import matrix_of
from liptt_cli.formats.base import Encoded, Stored
from liptt_cli.forms.base import Form, bits_per_weight, blob_bytes
from liptt_cli.kernels.dispatch import TORCH, describe
from liptt_cli.kernels.program import Program, prepare
from liptt_cli.packing.blob import unpack_stored


class PackedLinear(nn.Module):
    """`x @ W.T + bias`, W being what the bytes of `weight` stand for under `form`, with what is around it."""

    def __init__(self, form: Form, bias: bool) -> None:
        """Make an empty blob of the form's length, on whatever device is the default."""
        super().__init__()
        self.form = form
        self.out_features, self.in_features = form.shape
        self.weight = nn.Parameter(torch.empty(blob_bytes(form), dtype=torch.uint8), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(self.out_features), requires_grad=False) if bias else None
        self._program: Program | None = None
        self._made_of: tuple[Tensor, int] | None = None  # the weight that the program was made of, and its version

    def value(self) -> Encoded:
        """Return the weight as a matrix.

        Raises:
            IntegrityError: if there is something around it.
        """
        return matrix_of(self.stored())

    def stored(self) -> Stored:
        """Return what the bytes stand for."""
        return unpack_stored(self.form, self.weight)

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Apply the weight, by a kernel if no gradient is wanted and one fits, then add the bias."""
        program = None if torch.is_grad_enabled() else self.program()
        y = self.stored().apply(x) if program is None else program(x)[0]
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def program(self) -> Program | None:
        """Return what the kernel runs, made anew if the weight has changed; None where the torch meaning runs."""
        if torch.compiler.is_compiling():
            return self._program
        if self.weight.is_meta or _is_offloaded(self):
            self._drop_program()
            return None
        if describe(self.form, self.weight.device.type).name == TORCH:
            return None
        version = 0 if self.weight.is_inference() else self.weight._version  # inference mode counts no changes
        if self._made_of is None or self._made_of[0] is not self.weight or self._made_of[1] != version:
            self._program, self._made_of = prepare([self.stored()]), (self.weight, version)
        return self._program

    def _drop_program(self) -> None:
        self._program = self._made_of = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the parameters, and forget the layout made of the old ones."""
        self._drop_program()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

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


def _is_offloaded(module: nn.Module) -> bool:
    """Tell whether accelerate brings the weight for each call: then a layout of its own would defeat the purpose."""
    hook: Any = getattr(module, "_hf_hook", None)
    return any(getattr(each, "offload", False) for each in getattr(hook, "hooks", [hook]))
