"""A value from its form and its tensors, on any device, `meta` included."""

from collections.abc import Mapping

from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm


def build(form: Form, fields: Mapping[str, Tensor]) -> Encoded:
    """Return the value whose `form` and `fields()` these are."""
    if isinstance(form, ChainForm):
        return _chain(form, fields)
    if isinstance(form, GridForm | DenseForm):
        return _leaf(form, fields)
    raise ValueError(f"no value for a form of type {type(form).__name__}")


def _chain(form: ChainForm, fields: Mapping[str, Tensor]) -> Chain:
    cores = []
    for k, core in enumerate(form.cores):
        start = f"cores.{k}."
        cores.append(_leaf(core, {n.removeprefix(start): t for n, t in fields.items() if n.startswith(start)}))
    scales = tuple(fields.get(f"scales.{k}") for k in range(len(form.scales)))
    return Chain(tuple(cores), scales, form.shape, form.out_modes, form.in_modes)


def _leaf(form: GridForm | DenseForm, fields: Mapping[str, Tensor]) -> Grid | Dense:
    if isinstance(form, DenseForm):
        return Dense(fields["values"], form.dtype)
    scale, shift = (_envelope(part, name, fields) for part, name in ((form.scale, "scale"), (form.shift, "shift")))
    return Grid(fields["codes"], scale, shift, form.alphabet)


def _envelope(form: EnvelopeForm | None, name: str, fields: Mapping[str, Tensor]) -> Envelope | None:
    if form is None:
        return None
    return Envelope(fields[f"{name}.rows"], fields.get(f"{name}.cols"), form.group_columns)
