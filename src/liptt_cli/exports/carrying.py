"""What the file of another program can hold of a compressed linear, told from its form alone. Torch-free.

    exact          the very numbers of the packed weight
    re-quantised   numbers rounded to another grid of codes
    densified      the matrix that the weight stands for, one number an entry, in a plain dtype

GGUF's block types have one float16 scale for a run of columns of one row: a sign matrix whose scale does not change
inside of such a run is exact in them. Nothing there, and nothing in compressed-tensors, holds a chain or a sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

from liptt_cli.forms.base import Form
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm

Kind = Literal["exact", "re-quantised", "densified"]
GgufType = Literal["Q1_0", "TQ1_0", "TQ2_0", "Q4_0", "Q8_0", "F16", "BF16", "F32"]
TableType = Literal["Q8_0", "F16", "BF16", "F32"]

BLOCK_COLUMNS: dict[GgufType, int] = {"Q1_0": 128, "TQ1_0": 256, "TQ2_0": 256, "Q4_0": 32, "Q8_0": 32}
PLAIN: tuple[GgufType, ...] = ("F16", "BF16", "F32")
_HOLDS: dict[str, tuple[GgufType, ...]] = {
    "float16": ("F16", "F32"),
    "bfloat16": ("BF16", "F32"),
    "float32": ("F32",),
}
_LEAST_GROUP = 32
_FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj"))


@dataclass(frozen=True)
class Carried:
    """How a linear is written: its kind, the format's own name of the type, and why it is not a better one."""

    kind: Kind
    type: str
    reason: str = ""


def why_no_signs(form: Form) -> str:
    """Return why a weight is not one matrix of signs under scales of rows and groups of columns; "" if it is."""
    if not isinstance(form, GridForm):
        node = form.to_json()["node"]
        return "plain numbers, not signs" if node == "dense" else f"a {node}, not one matrix of signs"
    if form.planes != 1:
        return f"{form.planes} planes of signs, not one"
    if form.shift is not None:
        return "signs with a shift"
    if form.scale is not None and form.scale.cols:
        return "a scale for each column; no block type has one"
    return f"a magnitude of rank {form.scale.rank}" if form.scale is not None and form.scale.rank != 1 else ""


def scale_columns(form: GridForm) -> int:
    """Return for how many columns a scale of a sign matrix holds: all of them, if it does not change along a row."""
    columns = form.shape[1]
    return columns if form.scale is None else min(form.scale.group_columns, columns)


def liptt_carried(_form: Form) -> Carried:
    """Return how our own format holds a linear."""
    return Carried("exact", "liptt")


def hf_carried(_form: Form, dtype: str) -> Carried:
    """Return how a plain Hugging Face model holds a linear."""
    return Carried("densified", dtype)


def gguf_carried(form: Form, wanted: GgufType | None = None) -> Carried:
    """Return how GGUF holds a linear: in the wanted type if that is exact, else in the smallest that is.

    What has no exact type is densified: to float16, or as wanted.
    """
    exact = _exact_types(form)
    if exact:
        chosen = wanted if wanted in exact else exact[0]
        return Carried("exact", chosen, _passed_over(form, chosen, wanted))
    reason = why_no_signs(form)
    if wanted == "Q8_0" and form.shape[1] % BLOCK_COLUMNS["Q8_0"] == 0:
        return Carried("re-quantised", wanted, reason)
    return Carried("densified", wanted if wanted in PLAIN else "F16", reason)


def compressed_tensors_carried(form: Form, dtype: str) -> Carried:
    """Return how compressed-tensors holds a linear: 2-bit codes and a scale a row or group, or a plain matrix."""
    reason = why_no_signs(form)
    if reason or not isinstance(form, GridForm):
        return Carried("densified", dtype, reason)
    group = two_bit_group(form)
    if group is None:
        return Carried("exact", "2-bit/row")
    if group < _LEAST_GROUP:
        told = f"groups of {scale_columns(form)} columns do not end where rows of {form.shape[1]} do"
        return Carried("densified", dtype, told)
    return Carried("exact", f"2-bit/{group}")


def two_bit_group(form: GridForm) -> int | None:
    """Return the group of columns that compressed-tensors is told for a sign matrix, None if a row has one scale.

    Groups there fill rows without rest; where ours do not, a smaller one does, which repeats scales.
    """
    group = scale_columns(form)
    return None if group == form.shape[1] else gcd(group, form.shape[1])


def fused_alike(carried: Mapping[str, Carried], dtype: str) -> dict[str, Carried]:
    """Return the same with q/k/v, and gate/up, of one kind each: servers fuse them, so one that differs costs all."""
    found = dict(carried)
    for leaves in _FUSED:
        for name in carried:
            if not name.endswith(leaves[0]):
                continue
            prefix = name.removesuffix(leaves[0])
            together = [prefix + leaf for leaf in leaves if prefix + leaf in carried]
            if len({(found[each].kind, found[each].type) for each in together}) > 1:
                for each in together:
                    why = found[each].reason or f"fused with {', '.join(other for other in together if other != each)}"
                    found[each] = Carried("densified", dtype, why)
    return found


def _exact_types(form: Form) -> list[GgufType]:
    """Return the types that hold a form exactly, the smallest first."""
    if isinstance(form, DenseForm):
        return list(_HOLDS[form.dtype])
    if isinstance(form, ZeroForm):
        return ["F16", "F32"]
    if why_no_signs(form) or not isinstance(form, GridForm):
        return []
    return [*(name for name in BLOCK_COLUMNS if not _misfit(form, name)), "F16", "F32"]


def _misfit(form: GridForm, name: GgufType) -> str:
    """Return why a block type does not hold a sign matrix, "" if it does."""
    columns, block, group = form.shape[1], BLOCK_COLUMNS[name], scale_columns(form)
    if columns % block:
        return f"{name} wants rows of a multiple of {block}, not {columns}"
    if group < columns and group % block:
        return f"{name} has one scale for {block} columns, not for {group}"
    return ""


def _passed_over(form: Form, chosen: GgufType, wanted: GgufType | None) -> str:
    """Say why a wanted or a smaller type was not taken."""
    if wanted is not None and wanted == chosen:
        return ""
    if not isinstance(form, GridForm):
        return "" if wanted is None else f"{wanted} would not be exact"
    first: GgufType = wanted or "Q1_0"
    if first == "BF16":
        return "BF16 rounds the float16 scales"
    return _misfit(form, first) if first in BLOCK_COLUMNS and first != chosen else ""


def sign_form(shape: tuple[int, int], group_columns: int) -> GridForm:
    """Return the form of signs under a scale for each row and group of columns."""
    return GridForm(shape, scale=EnvelopeForm(shape[0], group_columns))
