"""Where the bytes of a packed model went: codes, scales, padding, other tensors; they sum to the weight files."""

from collections.abc import Mapping
from pathlib import Path

from liptt_cli.forms.base import Form, blob_bytes
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
    if data["node"] == "chain":
        ranks = ", ".join(str(rank) for rank in _numbers(data["ranks"]))
        modes = f"{_product(data['out_modes'])} x {_product(data['in_modes'])}"
        return f"chain of {len(_numbers(data['ranks'])) + 1} cores, rank {ranks}, modes {modes}"
    if data["node"] == "grid":
        scale = data["scale"]
        under = "no scale" if not isinstance(scale, Mapping) else _envelope(scale)
        return f"{data['alphabet']} codes, {under}{', shifted' if data['shift'] else ''}"
    return f"plain {data['dtype']}" if data["node"] == "dense" else str(data["node"])


def _sections(forms: Mapping[str, Form]) -> dict[str, int]:
    spent = {"codes": 0, "scales": 0, "plain values": 0, "padding": 0}
    for form in forms.values():
        used = 0
        for section in form.sections():
            needed = -(-section.entries * section.bits // 8) if section.storage == "index" else section.bytes
            kind = (
                "codes"
                if section.storage == "index"
                else "plain values"
                if section.name.endswith("values")
                else "scales"
            )
            spent[kind] += needed
            used += needed
        spent["padding"] += blob_bytes(form) - used
    return spent


def _envelope(scale: Mapping[str, object]) -> str:
    rows = "a scale a row" if scale["rows"] != 1 else "one scale"
    return rows + (" and a scale a column" if scale["cols"] else f", groups of {scale['group_columns']} columns")


def _product(modes: object) -> str:
    return "(" + " ".join(str(mode) for mode in _numbers(modes)) + ")"


def _numbers(values: object) -> list[int]:
    return list(values) if isinstance(values, list) else []
