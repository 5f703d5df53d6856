"""Which forms are sign products, told from the form alone, and the reason where one is not."""

from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import TurnedForm
from liptt_cli.forms.zones import ZonesForm


def misfit(form: Form) -> str | None:
    """Return why no kernel of sign products runs this form, or None where one does."""
    if isinstance(form, SumForm):
        return next((reason for part in form.parts if (reason := misfit(part))), None)
    if isinstance(form, ChainForm):
        return _chain_misfit(form)
    if isinstance(form, ZonesForm):
        return _zones_misfit(form)
    if isinstance(form, GridForm):
        return _grid_misfit(form)
    if isinstance(form, TurnedForm):
        return "turned coordinates: torch turns what goes in and out"
    if isinstance(form, DenseForm):
        return "plain numbers: torch multiplies them"
    if isinstance(form, AroundForm):
        return "a norm, experts or rounded inputs around the weight"
    return "nothing but zeros" if isinstance(form, ZeroForm) else f"no kernel for {type(form).__name__}"


def _grid_misfit(form: GridForm) -> str | None:
    return None if form.shift is None or _is_one_group(form.shift, form.shape[1]) else "a shift that differs by group"


def _is_one_group(envelope: EnvelopeForm, columns: int) -> bool:
    return envelope.group_columns >= columns


def _chain_misfit(form: ChainForm) -> str | None:
    if form.pair_bond is None:
        return "a chain that is no product of two matrices (paired modes)"
    if len(form.cores) > 2:
        return f"a chain of {len(form.cores)} cores: two of them make a matrix that is no longer binary"
    for core in form.cores:
        if not isinstance(core, GridForm):
            return "a core that is not one grid of signs"
        if core.shift is not None or core.alphabet != "sign":
            return "a core with a shift" if core.alphabet == "sign" else f"a core of {core.alphabet}"
        if reason := _grid_misfit(core):
            return reason
    return None


def _zones_misfit(form: ZonesForm) -> str | None:
    if any(isinstance(part, ZonesForm) for part in form.parts):
        return "zones within zones"
    grids = [part for part in form.parts if isinstance(part, GridForm)]
    if not grids:
        return "zones without codes: torch multiplies them"
    if any(part.shift is not None for part in grids):
        return "a zone with a shift"
    if form.layout != "column" and any(isinstance(part, DenseForm) for part in form.parts):
        return "plain numbers at single entries"
    if isinstance(form.parts[0], DenseForm):
        return "plain numbers outside of the named columns"
    return next((reason for part in grids if (reason := _grid_misfit(part))), None)
