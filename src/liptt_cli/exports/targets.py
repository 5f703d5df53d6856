"""The targets of an export: where a run puts each, which extra it needs, and what it makes of every linear. Torch-free.

liptt                our own format, byte for byte
hf                   a plain Hugging Face model: any program, as large as the dense one
compressed-tensors   two-bit codes, for transformers with that package, and vLLM
gguf                 llama.cpp and what is built on it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from liptt_cli.errors import ConfigError, Fault
from liptt_cli.exports.carrying import (
    Carried,
    GgufType,
    TableType,
    compressed_tensors_carried,
    fused_alike,
    gguf_carried,
    hf_carried,
    liptt_carried,
)
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form
from liptt_cli.planning.experts import place_of

Name = Literal["liptt", "hf", "compressed-tensors", "gguf"]
Dtype = Literal["float32", "float16", "bfloat16"]
Forms = Mapping[str, Form]
ANY_LINEAR = ""  # the name of a form that stands for those of any model


@dataclass(frozen=True)
class Wishes:
    """What a user may say of an export: GGUF's types, the dtype of plain numbers, and whether codes may be lost."""

    type: GgufType | None = None
    tables: TableType = "F16"
    dtype: Dtype | None = None
    allow_densify: bool = False


@dataclass(frozen=True)
class Target:
    """One target; `package` is what its extra brings, `folder` the one of a run directory."""

    folder: str
    carries: Callable[[Forms, Wishes], dict[str, Carried]]
    package: str | None = None
    keeps_codes: bool = True


def _liptt(forms: Forms, _wishes: Wishes) -> dict[str, Carried]:
    return {name: liptt_carried(form) for name, form in forms.items()}


def _hf(forms: Forms, wishes: Wishes) -> dict[str, Carried]:
    return {name: hf_carried(form, _dtype(wishes)) for name, form in forms.items()}


def _compressed_tensors(forms: Forms, wishes: Wishes) -> dict[str, Carried]:
    dtype = _dtype(wishes)
    return fused_alike({name: compressed_tensors_carried(form, dtype) for name, form in forms.items()}, dtype)


def _gguf(forms: Forms, wishes: Wishes) -> dict[str, Carried]:
    return {name: gguf_carried(form, wishes.type) for name, form in forms.items()}


def _dtype(wishes: Wishes) -> str:
    return wishes.dtype or "the model's dtype"


TARGETS: dict[Name, Target] = {
    "liptt": Target("model", _liptt),
    "hf": Target("model-hf", _hf, keeps_codes=False),
    "compressed-tensors": Target("model-compressed-tensors", _compressed_tensors, "compressed_tensors"),
    "gguf": Target("model-gguf", _gguf, "gguf"),
}


def carried_by(name: Name, forms: Forms, wishes: Wishes) -> dict[str, Carried]:
    """Return what a target makes of each linear.

    Raises:
        ConfigError: if some are more than a matrix, or experts' that it cannot hold, or it loses the codes of some and
            the user has not allowed that.
    """
    _refuse_around(name, forms)
    _refuse_experts(name, forms)
    target = TARGETS[name]
    carried = target.carries(forms, wishes)
    lost = {linear: each for linear, each in carried.items() if each.kind != "exact"}
    if lost and target.keeps_codes and not wishes.allow_densify:
        raise ConfigError(Fault("export", _refusal(name, lost, len(carried))))
    return carried


def refuse_wishes(name: Name, wishes: Wishes) -> None:
    """Refuse what has no meaning for a target.

    Raises:
        ConfigError: naming it.
    """
    if name != "gguf" and (wishes.type is not None or wishes.tables != "F16"):
        raise ConfigError(Fault("--type", f"only GGUF has types, not {name}; leave it out, or use --to gguf"))
    if name != "hf" and wishes.dtype is not None:
        raise ConfigError(Fault("--dtype", f"only a plain model has a dtype of its own, not {name}; use --to hf"))


def _refuse_around(name: Name, forms: Forms) -> None:
    """Refuse linears that are more than a matrix, which no other program runs, however its numbers are written."""
    around = {linear: form for linear, form in forms.items() if isinstance(form, AroundForm)}
    if around and name != "liptt":
        linear, form = next(iter(around.items()))
        named = f"{len(around)} of {len(forms)} linears, such as {linear}, have"
        told = named if linear != ANY_LINEAR else "linears have"
        message = f"{told} {form.told} around the weight, which {name} cannot hold in any way"
        raise ConfigError(Fault("export", f"{message}; export to liptt alone, or compress without binarize.around"))


def _refuse_experts(name: Name, forms: Forms) -> None:
    """Refuse the experts of a mixture, which only transformers itself, and we, read one by one."""
    expert = next((linear for linear in forms if place_of(linear)), None)
    if expert is not None and name not in ("liptt", "hf"):
        message = f"{name} has no place for the experts of a mixture, such as {expert}; export to hf or liptt"
        raise ConfigError(Fault("export", message))


def _refusal(name: Name, lost: Mapping[str, Carried], count: int) -> str:
    """Say what cannot be held, one part a reason, and what would do."""
    by_reason: dict[str, list[str]] = {}
    for linear, each in lost.items():
        by_reason.setdefault(each.reason, []).append(linear)
    told = [
        why if found == [ANY_LINEAR] else f"{len(found)} of {count} linears, such as {found[0]}: {why}"
        for why, found in by_reason.items()
    ]
    written = sorted({each.type for each in lost.values()})
    return (
        f"{name} cannot hold the compressed linears exactly: {'; '.join(told)}. Allow it (--allow-densify, or "
        f"export.allow_densify: true), and they are written as {', '.join(written)}, much larger. Or compress to what "
        f"{name} holds, signs with a scale for each 128 columns of a row: --config methods/sign-onestep"
    )
