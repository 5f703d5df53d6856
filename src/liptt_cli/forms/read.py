"""JSON to forms: the other direction of `Form.to_json`, with a clear refusal of what is unknown."""

from collections.abc import Callable, Mapping
from typing import Any

from liptt_cli.errors import FormatVersionError
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm


def form_from_json(data: Mapping[str, Any]) -> Form:
    """Return the form that `data` describes.

    Raises:
        FormatVersionError: if the node is of a kind that this version does not know.
    """
    kind = data.get("node")
    if not isinstance(kind, str) or kind not in _READERS:
        raise FormatVersionError(
            f'a form of kind "{kind}" is not known to this version of liptt (known: {", ".join(_READERS)}); '
            "upgrade liptt to read this model"
        )
    return _READERS[kind](data)


def _dense(data: Mapping[str, Any]) -> DenseForm:
    return DenseForm(_pair(data["shape"]), data["dtype"])


def _grid(data: Mapping[str, Any]) -> GridForm:
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
        tuple(_leaf(core) for core in data["cores"]),
        tuple(data["scales"]),
    )


def _leaf(data: Mapping[str, Any]) -> GridForm | DenseForm:
    return _grid(data) if data["node"] == "grid" else _dense(data)


def _pair(data: Any) -> tuple[int, int]:
    rows, columns = data
    return int(rows), int(columns)


_READERS: dict[str, Callable[[Mapping[str, Any]], Form]] = {"dense": _dense, "grid": _grid, "chain": _chain}
