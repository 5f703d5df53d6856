"""A value from its form and its tensors, on any device, `meta` included."""

from collections.abc import Mapping

from torch import Tensor

from liptt_cli.formats.around import Around, Experts
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.steps import Haar, Hadamard, Permutation, Scale, Signs, Step
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.turned import Steps, Turned
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Part, Zones
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import StepForm, TurnedForm
from liptt_cli.forms.zones import ZonePart, ZonesForm


def build(form: Form, fields: Mapping[str, Tensor]) -> Encoded:
    """Return the value whose `form` and `fields()` these are."""
    if isinstance(form, ChainForm):
        return _chain(form, fields)
    if isinstance(form, SumForm):
        return Sum(tuple(build(part, _inside(fields, f"parts.{k}.")) for k, part in enumerate(form.parts)))
    if isinstance(form, TurnedForm):
        return Turned(build(form.inner, _inside(fields, "inner.")), *turns_of(form, fields))
    if isinstance(form, ZeroForm):
        return Zero(form.shape)
    if isinstance(form, ZonesForm | GridForm | DenseForm):
        return _core(form, fields)
    raise ValueError(f"no value for a form of type {type(form).__name__}")


def turns_of(form: TurnedForm, fields: Mapping[str, Tensor]) -> tuple[Steps, Steps]:
    """Return the left and the right turn of a value whose fields these are, among others."""
    left, right = (
        tuple(_step(step, _inside(fields, f"{side}.{k}.")) for k, step in enumerate(steps))
        for side, steps in (("left", form.left), ("right", form.right))
    )
    return left, right


def build_around(form: AroundForm, fields: Mapping[str, Tensor]) -> Around:
    """Return a linear that is more than a matrix."""
    names = ("router", "inputs", "outputs")
    experts = Experts(*(fields[name] for name in names)) if form.experts else None
    return Around(build(form.inner, _inside(fields, "inner.")), form.output_norm, experts, form.input_bits)


def _chain(form: ChainForm, fields: Mapping[str, Tensor]) -> Chain:
    cores = tuple(_core(core, _inside(fields, f"cores.{k}.")) for k, core in enumerate(form.cores))
    scales = tuple(fields.get(f"scales.{k}") for k in range(len(form.scales)))
    return Chain(cores, scales, form.shape, form.out_modes, form.in_modes)


def _step(form: StepForm, fields: Mapping[str, Tensor]) -> Step:
    if form.kind == "hadamard":
        return Hadamard(form.block)
    if form.kind == "haar":
        return Haar(form.block, form.levels)
    if form.kind == "permutation":
        return Permutation(fields["order"])
    return Scale(fields["scale"]) if form.kind == "scale" else Signs(fields["signs"])


def _inside(fields: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """Return the fields of a child under their own names."""
    return {name.removeprefix(start): tensor for name, tensor in fields.items() if name.startswith(start)}


def _core(form: GridForm | DenseForm | ZonesForm, fields: Mapping[str, Tensor]) -> Grid | Dense | Zones:
    if not isinstance(form, ZonesForm):
        return _numbers(form, fields)
    parts = tuple(_zone_part(part, _inside(fields, f"parts.{k}.")) for k, part in enumerate(form.parts))
    return Zones(fields["labels"], parts, form.shape, form.layout, form.counts, form.run, form.sizes)


def _zone_part(form: ZonePart, fields: Mapping[str, Tensor]) -> Part:
    return Zero(form.shape) if isinstance(form, ZeroForm) else _core(form, fields)


def _numbers(form: GridForm | DenseForm, fields: Mapping[str, Tensor]) -> Grid | Dense:
    if isinstance(form, DenseForm):
        return Dense(fields["values"], form.dtype)
    scale, shift = (_envelope(part, name, fields) for part, name in ((form.scale, "scale"), (form.shift, "shift")))
    return Grid(fields["codes"], scale, shift, form.alphabet)


def _envelope(form: EnvelopeForm | None, name: str, fields: Mapping[str, Tensor]) -> Envelope | None:
    if form is None:
        return None
    return Envelope(fields[f"{name}.rows"], fields.get(f"{name}.cols"), form.group_columns)
