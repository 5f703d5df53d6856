"""JSON to forms: the other direction of `Form.to_json`, with a clear refusal of what is unknown."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from liptt_cli.errors import FormatVersionError
from liptt_cli.forms.alphabets import ALPHABETS
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import STEPS, StepForm, TurnedForm
from liptt_cli.forms.zones import LAYOUTS, ZonePart, ZonesForm


def form_from_json(data: Mapping[str, Any]) -> Form:
    """Return the form that `data` describes.

    Raises:
        FormatVersionError: if the node is of a kind that this version does not know.
    """
    kind = data.get("node")
    if not isinstance(kind, str) or kind not in _READERS:
        raise _unknown("a form", kind, _READERS)
    return _READERS[kind](data)


def _dense(data: Mapping[str, Any]) -> DenseForm:
    return DenseForm(_pair(data["shape"]), data["dtype"])


def _grid(data: Mapping[str, Any]) -> GridForm:
    if data["alphabet"] not in ALPHABETS:
        raise _unknown("an alphabet", data["alphabet"], ALPHABETS)
    return GridForm(
        _pair(data["shape"]), data["alphabet"], data["planes"], _envelope(data["scale"]), _envelope(data["shift"])
    )


def _envelope(data: Mapping[str, Any] | None) -> EnvelopeForm | None:
    return None if data is None else EnvelopeForm(data["rows"], data["group_columns"], data["cols"], data["rank"])


def _chain(data: Mapping[str, Any]) -> ChainForm:
    return ChainForm(
        _pair(data["shape"]),
        tuple(data["out_modes"]),
        tuple(data["in_modes"]),
        tuple(data["ranks"]),
        tuple(_zones(core) if core["node"] == "zones" else _leaf(core) for core in data["cores"]),
        tuple(data["scales"]),
    )


def _sum(data: Mapping[str, Any]) -> SumForm:
    return SumForm(tuple(form_from_json(part) for part in data["parts"]))


def _turned(data: Mapping[str, Any]) -> TurnedForm:
    left, right = (tuple(_step(step) for step in data[side]) for side in ("left", "right"))
    return TurnedForm(form_from_json(data["inner"]), left, right)


def _step(data: Mapping[str, Any]) -> StepForm:
    if data["kind"] not in STEPS:
        raise _unknown("a step of a turn", data["kind"], STEPS)
    return StepForm(data["kind"], data.get("block", 0), data.get("levels", 0))


def _around(data: Mapping[str, Any]) -> AroundForm:
    inner = form_from_json(data["inner"])
    return AroundForm(inner, data["output_norm"], data["experts"], data["input_bits"])


def _zones(data: Mapping[str, Any]) -> ZonesForm:
    if data["layout"] not in LAYOUTS:
        raise _unknown("a layout of labels", data["layout"], LAYOUTS)
    parts = tuple(_zone_part(part) for part in data["parts"])
    sizes = None if data.get("sizes") is None else tuple(data["sizes"])
    return ZonesForm(_pair(data["shape"]), data["layout"], tuple(data["counts"]), parts, data.get("run", 1), sizes)


def _zone_part(data: Mapping[str, Any]) -> ZonePart:
    if data["node"] == "zones":
        return _zones(data)
    return _zero(data) if data["node"] == "zero" else _leaf(data)


def _zero(data: Mapping[str, Any]) -> ZeroForm:
    return ZeroForm(_pair(data["shape"]))


def _leaf(data: Mapping[str, Any]) -> GridForm | DenseForm:
    form = form_from_json(data)
    if not isinstance(form, GridForm | DenseForm):
        raise _unknown("a core or zone", data["node"], ("dense", "grid"))
    return form


def _unknown(what: str, kind: object, known: Iterable[str]) -> FormatVersionError:
    return FormatVersionError(
        f'{what} of kind "{kind}" is not known to this version of liptt (known: {", ".join(known)}); '
        "upgrade liptt to read this model"
    )


def _pair(data: Any) -> tuple[int, int]:
    rows, columns = data
    return int(rows), int(columns)


_READERS: dict[str, Callable[[Mapping[str, Any]], Form]] = {
    "dense": _dense,
    "grid": _grid,
    "chain": _chain,
    "sum": _sum,
    "turned": _turned,
    "zones": _zones,
    "zero": _zero,
    "around": _around,
}
