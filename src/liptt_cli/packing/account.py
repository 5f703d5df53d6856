"""Where the bytes of a packed model went: codes, labels, scales, padding, others; they sum to the weight files."""

from collections.abc import Mapping
from pathlib import Path

from liptt_cli.forms.base import Form, Section, blob_bytes
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.packing.overlay import Overlay, resolve
from liptt_cli.packing.tensor_file import read_header


def account(directory: Path, overlay: Overlay) -> dict[str, int]:
    """Return bytes by what they are for; their sum is that of all weight files."""
    files = sorted(directory.glob("*.safetensors"))
    pieces = {name: piece for file in files for name, piece in read_header(file)[0].items()}
    blobs = {resolve(f"{linear}.weight", pieces) for linear in overlay.forms}
    others = [piece for name, piece in pieces.items() if name not in blobs]
    spent = _sections(overlay.forms)
    spent["kept matrices"] = sum(piece.bytes for piece in others if len(piece.shape) > 1)
    spent["kept vectors"] = sum(piece.bytes for piece in others if len(piece.shape) <= 1)
    spent["file headers"] = sum(file.stat().st_size for file in files) - sum(piece.bytes for piece in pieces.values())
    return spent


def describe(form: Form) -> str:
    """Return a form in a few words: what `inspect` prints."""
    data = form.to_json()
    if isinstance(form, SumForm):
        return " + ".join(describe(part) for part in form.parts)
    if isinstance(form, ZonesForm):
        return _zones(form)
    if data["node"] == "chain":
        ranks = ", ".join(str(rank) for rank in _numbers(data["ranks"]))
        modes = f"{_product(data['out_modes'])} x {_product(data['in_modes'])}"
        return f"chain of {len(_numbers(data['ranks'])) + 1} cores, rank {ranks}, modes {modes}{_magnitude(form)}"
    if data["node"] == "grid":
        scale = data["scale"]
        under = "no scale" if not isinstance(scale, Mapping) else _envelope(scale)
        return f"{data['alphabet']} codes, {under}{', shifted' if data['shift'] else ''}"
    return f"plain {data['dtype']}" if data["node"] == "dense" else str(data["node"])


def _zones(form: ZonesForm) -> str:
    """Say what each zone holds, and how the zones are told."""
    told = {"column": "columns", "index": "entries a row", "entry": "entries"}[form.layout]
    parts = [f"{count} {told} {describe(part)}" for count, part in zip(form.counts, form.parts[1:], strict=True)]
    return ", ".join([*parts, f"the rest {describe(form.parts[0])}"])


def _magnitude(form: Form) -> str:
    """Return the ranks of the cores' own magnitudes, if they have any."""
    scales = [getattr(core, "scale", None) for core in form.cores] if isinstance(form, ChainForm) else []
    ranks = {scale.rank for scale in scales if scale is not None}
    return f", magnitudes of rank {max(ranks)}" if ranks else ""


def _sections(forms: Mapping[str, Form]) -> dict[str, int]:
    spent = {"codes": 0, "labels": 0, "scales": 0, "plain values": 0, "padding": 0}
    for form in forms.values():
        used = 0
        for section in form.sections():
            needed = -(-section.entries * section.bits // 8) if section.storage == "index" else section.bytes
            spent[_kind(section)] += needed
            used += needed
        spent["padding"] += blob_bytes(form) - used
    return spent


def _kind(section: Section) -> str:
    if section.storage == "index":
        return "labels" if section.name.endswith("labels") else "codes"
    return "plain values" if section.name.endswith("values") else "scales"


def _envelope(scale: Mapping[str, object]) -> str:
    if scale["rank"] != 1:
        return f"a magnitude of rank {scale['rank']}"
    rows = "a scale a row" if scale["rows"] != 1 else "one scale"
    return rows + (" and a scale a column" if scale["cols"] else f", groups of {scale['group_columns']} columns")


def _product(modes: object) -> str:
    return "(" + " ".join(str(mode) for mode in _numbers(modes)) + ")"


def _numbers(values: object) -> list[int]:
    return list(values) if isinstance(values, list) else []
