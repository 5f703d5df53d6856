"""Where the bytes of a packed model went: codes, labels, scales, padding, others; they sum to the weight files."""

from collections.abc import Mapping
from pathlib import Path

from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import TRITS_A_BYTE, Form, Section, blob_bytes
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import TurnedForm
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.packing.overlay import Overlay, resolve
from liptt_cli.packing.tensor_file import read_header


def account(directory: Path, overlay: Overlay) -> dict[str, int]:
    """Return bytes by what they are for; their sum is that of all weight files."""
    files = sorted(directory.glob("*.safetensors"))
    pieces = {name: piece for file in files for name, piece in read_header(file)[0].items()}
    blobs = {resolve(f"{module}.weight", pieces) for module in overlay.packed}
    others = [piece for name, piece in pieces.items() if name not in blobs]
    spent = _sections(overlay.forms)
    spent["embedding and head, rounded"] = sum(blob_bytes(form) for form in overlay.tables.values())
    spent["kept matrices"] = sum(piece.bytes for piece in others if len(piece.shape) > 1)
    spent["kept vectors"] = sum(piece.bytes for piece in others if len(piece.shape) <= 1)
    spent["file headers"] = sum(file.stat().st_size for file in files) - sum(piece.bytes for piece in pieces.values())
    return spent


def describe(form: Form) -> str:
    """Return a form in a few words: what `inspect` prints."""
    data = form.to_json()
    if isinstance(form, SumForm):
        return " + ".join(describe(part) for part in form.parts)
    if isinstance(form, AroundForm):
        return f"{describe(form.inner)}; around it: {form.told}"
    if isinstance(form, ZonesForm):
        return _zones(form)
    if isinstance(form, TurnedForm):
        return _turned(form)
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
    told = {"column": "columns", "index": "entries a row", "entry": "entries", "group": "entries"}
    if form.layout == "pattern":
        return f"{form.counts[0]} of each {form.run}: {describe(form.parts[1])}, the others {describe(form.parts[0])}"
    counts = form.entries[1:] if form.layout == "group" else form.counts
    parts = [
        f"{count} {told[form.layout]} {describe(part)}" for count, part in zip(counts, form.parts[1:], strict=True)
    ]
    return ", ".join([*parts, f"the rest {describe(form.parts[0])}"])


def _turned(form: TurnedForm) -> str:
    """Say what is inside, and the steps of each side from the weight to it."""
    sides = []
    for side, steps in (("outputs", form.left), ("inputs", form.right)):
        told = [f"{step.kind} of {step.block}" if step.block else step.kind for step in steps]
        sides += [f"{side} by {', '.join(told)}"] if told else []
    return f"{describe(form.inner)}; turned: {', '.join(sides)}"


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
            needed = _needed(section)
            spent[_kind(section)] += needed
            used += needed
        spent["padding"] += blob_bytes(form) - used
    return spent


def _needed(section: Section) -> int:
    """Return the bytes without the padding of rows."""
    if section.storage == "trit":
        return -(-section.entries // TRITS_A_BYTE)
    return -(-section.entries * section.bits // 8) if section.storage == "index" else section.bytes


def _kind(section: Section) -> str:
    if section.bits:
        return "labels" if section.name.endswith(("labels", "order", "signs")) else "codes"
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
