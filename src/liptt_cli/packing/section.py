"""The `quantization_config` section of a packed model's `config.json`: enough to build the model on `meta`.

Equal forms are written once, under a short name; `layers` says which linear has which, `tables` that of
embedding and head where they are rounded. Torch-free.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from liptt_cli.errors import FormatVersionError, IntegrityError, ModelError
from liptt_cli.forms.base import Form
from liptt_cli.forms.read import form_from_json

FORMAT_VERSION = 1
METHOD = "liptt"


@dataclass(frozen=True)
class Origin:
    """Where a packed model comes from, and the dtype that its run computed in."""

    model: str
    revision: str | None
    method: str
    recipe_sha256: str
    dtype: str = "float32"


def make_section(
    forms: Mapping[str, Form], *, origin: Origin, untouched: list[str], tables: Mapping[str, Form] | None = None
) -> dict[str, Any]:
    """Return the section.

    Args:
        forms: the form of each compressed linear, by its name in the model.
        origin: where the model comes from.
        untouched: modules with a matrix that was left as it is.
        tables: the form of embedding and head if they are rounded, under one name if they are tied.
    """
    names: dict[str, str] = {}
    named = {
        module: names.setdefault(json.dumps(form.to_json()), f"form{len(names)}")
        for module, form in {**forms, **(tables or {})}.items()
    }
    return {
        "quant_method": METHOD,
        "format_version": FORMAT_VERSION,
        "recipe_sha256": origin.recipe_sha256,
        "source_model": origin.model,
        "source_revision": origin.revision,
        "modules_to_not_convert": untouched,
        "forms": {name: json.loads(text) for text, name in names.items()},
        "layers": {linear: named[linear] for linear in forms},
        **({"tables": {table: named[table] for table in tables}} if tables else {}),
    }


def read_section(directory: Path) -> dict[str, Any]:
    """Return the section of a directory's `config.json`.

    Raises:
        ModelError: if there is no `config.json`, or it is not that of a packed model.
        IntegrityError: if it cannot be read.
    """
    file = directory / "config.json"
    if not file.is_file():
        raise ModelError(f"{directory}: no config.json; give a directory that `liptt compress` or `liptt export` wrote")
    try:
        section = json.loads(file.read_bytes()).get("quantization_config") or {}
    except (ValueError, AttributeError) as error:
        raise IntegrityError(f"{file}: no readable JSON ({error}); copy or export the model again") from error
    if section.get("quant_method") != METHOD:
        raise ModelError(f"{directory}: not a model packed by liptt; make one with `liptt compress`")
    found: dict[str, Any] = section
    return found


def read_forms(section: Mapping[str, Any], kind: Literal["layers", "tables"] = "layers") -> dict[str, Form]:
    """Return the form of each compressed linear, or of embedding and head if they are rounded.

    Raises:
        FormatVersionError: if the section was written by a newer liptt.
    """
    check_version(section.get("format_version"), place="quantization_config of config.json")
    forms = {name: form_from_json(data) for name, data in section["forms"].items()}
    return {module: forms[name] for module, name in section.get(kind, {}).items()}


def check_version(version: object, *, place: str) -> None:
    """Refuse a format that this version of liptt does not read.

    Raises:
        FormatVersionError: if it is newer, or no number at all.
    """
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise FormatVersionError(
            f"{place}: format_version is {version!r}, but this liptt reads at most {FORMAT_VERSION}; "
            "upgrade it (pip install --upgrade liptt) to load this model"
        )
