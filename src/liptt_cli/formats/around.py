"""A linear with something around its weight that is no matrix, as a value; forms/around.py says what there is.

    y = norm(s_out(x) o W round(s_in(x) o x)),    s(x) = softmax(x R^T) S

It is no `Encoded`: those are linear maps without exception, and this is not one, so nothing that needs a matrix (a
kernel, another program's file, a spectral norm) can take it for one by mistake.

output_norm: OneBit (Xu et al. 2024, arXiv:2402.11295), a layer norm without parameters. experts: BinaryMoS (Jo et al.
2024, arXiv:2406.12311). input_bits: BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764), a token's largest magnitude on
the last level; its gradient passes as if nothing were rounded.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.grid import Grid
from liptt_cli.formats.rounding import to_half
from liptt_cli.forms.around import AroundForm, InputBits

_NORM_EPSILON = 1e-5
_LEAST_INPUT = 1e-5


@dataclass(frozen=True)
class Experts:
    """A router and the scale vectors that it mixes."""

    router: Float[Tensor, "experts in"]
    inputs: Float[Tensor, "experts in"]
    outputs: Float[Tensor, "experts out"]

    def scales(self, x: Float[Tensor, "*lead in"]) -> tuple[Float[Tensor, "*lead in"], Float[Tensor, "*lead out"]]:
        """Return each token's scales of inputs and outputs."""
        shares = (x @ self.router.to(x.dtype).T).softmax(-1)
        return shares @ self.inputs.to(x.dtype), shares @ self.outputs.to(x.dtype)


@dataclass(frozen=True)
class Around:
    """A weight and what is around it."""

    inner: Encoded
    output_norm: bool = False
    experts: Experts | None = None
    input_bits: InputBits = 0

    @property
    def form(self) -> AroundForm:
        """Return what is stored."""
        experts = 0 if self.experts is None else len(self.experts.router)
        return AroundForm(self.inner.form, self.output_norm, experts, self.input_bits)

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return the output, in the dtype of x."""
        scales = None if self.experts is None else self.experts.scales(x)
        given = x if scales is None else x * scales[0]
        y = self.inner.apply(rounded_inputs(given, self.input_bits) if self.input_bits else given)
        y = y if scales is None else y * scales[1]
        return torch.nn.functional.layer_norm(y, y.shape[-1:], eps=_NORM_EPSILON) if self.output_norm else y

    def fields(self) -> dict[str, Tensor]:
        """Return the weight's sections, then those of the experts."""
        found = {f"inner.{name}": tensor for name, tensor in self.inner.fields().items()}
        if self.experts is None:
            return found
        return found | {name: getattr(self.experts, name) for name in ("router", "inputs", "outputs")}

    def settled(self) -> "Around":
        """Return the stored numbers."""
        experts = self.experts
        if experts is not None:
            experts = Experts(*(to_half(getattr(experts, name), name) for name in ("router", "inputs", "outputs")))
        return Around(self.inner.settled(), self.output_norm, experts, self.input_bits)


def rounded_inputs(x: Float[Tensor, "*lead in"], bits: InputBits) -> Float[Tensor, "*lead in"]:
    """Return each token's numbers on the 2^bits levels of which the last is its largest magnitude."""
    last = (1 << (bits - 1)) - 1
    step = x.detach().abs().amax(-1, keepdim=True).clamp_min(_LEAST_INPUT) / last
    level = x / step
    rounded: Tensor = level + (level.round().clamp(-last - 1, last) - level).detach()
    return rounded * step


def put_around(value: Encoded, form: AroundForm, *, generator: torch.Generator) -> Around:
    """Return a fitted weight in what its form has around it: all experts alike, the router random.

    With a router of zeros the experts would get equal gradients for ever.
    """
    if not form.experts:
        return Around(value, form.output_norm, None, form.input_bits)
    if not isinstance(value, Grid) or value.scale is None or value.scale.cols is None:
        raise ValueError("experts take over a scale a row and a column, and the weight has others")
    rows, columns = form.shape
    into = value.scale.cols[0, 0]
    out = value.scale.rows[0, 0, :, 0]
    router = (2 * torch.rand(form.experts, columns, generator=generator) - 1) / columns**0.5
    experts = Experts(router.to(into), into.expand(form.experts, -1), out.expand(form.experts, rows))
    return Around(Grid(value.codes, None, None, value.alphabet), form.output_norm, experts, form.input_bits)


def matrix_of(value: object, name: str = "the linear") -> Encoded:
    """Return a value that is a matrix.

    Raises:
        IntegrityError: if there is something around it.
    """
    if isinstance(value, Around):
        raise IntegrityError(f"{name}: more than a matrix (it has {value.form.told} around it); only liptt runs it")
    if not isinstance(value, Encoded):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value
