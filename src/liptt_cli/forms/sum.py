"""The form of a sum of forms of one shape: paths of one weight, or a main part and residuals that make up for it."""

from dataclasses import dataclass

from liptt_cli.forms.around import weight_form
from liptt_cli.forms.base import Form, Operations, Section
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.turned import TurnedForm


@dataclass(frozen=True)
class SumForm:
    """Two or more parts that are added."""

    parts: tuple[Form, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in), which all parts share."""
        return self.parts[0].shape

    def sections(self) -> tuple[Section, ...]:
        """Return the parts' sections in order."""
        return tuple(s.inside(f"parts.{k}") for k, part in enumerate(self.parts) for s in part.sections())

    def operations(self) -> Operations:
        """Return the cost of all parts."""
        return sum((part.operations() for part in self.parts), Operations(0, 0))

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {"node": "sum", "shape": list(self.shape), "parts": [part.to_json() for part in self.parts]}


def inner_ranks(form: Form) -> tuple[int, ...]:
    """Return the inner ranks of all chains of a form, in order."""
    form = weight_form(form)
    if isinstance(form, SumForm):
        return tuple(rank for part in form.parts for rank in inner_ranks(part))
    if isinstance(form, TurnedForm):
        return inner_ranks(form.inner)
    return form.ranks if isinstance(form, ChainForm) else ()
