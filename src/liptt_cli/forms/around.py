"""The form of a linear with something around its weight that is no matrix.

    experts      x o s_in(x) goes in, y o s_out(x) comes out: mixtures of e scale vectors, weighed by a softmax of x R^T
    input_bits   each token's input rounded to so many bits before the weight
    output_norm  the output of each token brought to mean 0 and variance 1 behind it

Its sections follow those of the weight, so that all bits count. A linear has at most one, outside of the whole tree.
"""

from dataclasses import dataclass, replace
from typing import Literal

from liptt_cli.forms.base import Form, Operations, Section
from liptt_cli.forms.leaves import EnvelopeForm, GridForm

InputBits = Literal[0, 4, 8]


@dataclass(frozen=True)
class AroundForm:
    """A weight's form and what is around it; no experts and no input bits are 0."""

    inner: Form
    output_norm: bool = False
    experts: int = 0
    input_bits: InputBits = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in)."""
        return self.inner.shape

    def sections(self) -> tuple[Section, ...]:
        """Return the weight's sections, then router and scales of the experts."""
        found = [section.inside("inner") for section in self.inner.sections()]
        if self.experts:
            rows, columns = self.shape
            lengths = {"router": columns, "inputs": columns, "outputs": rows}
            found += [Section(name, "float16", (self.experts, length)) for name, length in lengths.items()]
        return tuple(found)

    def operations(self) -> Operations:
        """Return the cost of the weight, and a multiplication for each number around it."""
        rows, columns = self.shape
        router = self.experts * (2 * columns + rows) + (columns + rows if self.experts else 0)
        other = 2 * rows * self.output_norm + columns * (self.input_bits > 0)
        return self.inner.operations() + Operations(0, router + other)

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {
            "node": "around",
            "shape": list(self.shape),
            "inner": self.inner.to_json(),
            "output_norm": self.output_norm,
            "experts": self.experts,
            "input_bits": self.input_bits,
        }

    @property
    def told(self) -> str:
        """Return what is around the weight, in a few words."""
        parts = [f"{self.experts} routed experts of scales"] if self.experts else []
        parts += [f"inputs of {self.input_bits} bits"] if self.input_bits else []
        return ", ".join([*parts, *(["a norm of the output"] if self.output_norm else [])])

    @property
    def fitted(self) -> Form:
        """Return the form that the weight is fitted in: scales that experts take over are still inside."""
        if not self.experts:
            return self.inner
        if not isinstance(self.inner, GridForm) or self.inner.scale is not None:
            raise ValueError(f"experts take the scales of bare codes, not of {self.inner.to_json()}")
        rows, columns = self.shape
        return replace(self.inner, scale=EnvelopeForm(rows, columns, cols=True))


def bare_of_scales(form: Form) -> GridForm:
    """Return codes without the scales of their rows and columns, which experts take over.

    Raises:
        ValueError: if the form is another one.
    """
    rows, columns = form.shape
    if not isinstance(form, GridForm) or form.scale != EnvelopeForm(rows, columns, cols=True):
        raise ValueError("around.routed: experts take over a scale a row and a column; use codec.scale: [row, column]")
    return replace(form, scale=None)


def weight_form(form: Form) -> Form:
    """Return the form of the weight itself, without what is around it."""
    return form.inner if isinstance(form, AroundForm) else form
