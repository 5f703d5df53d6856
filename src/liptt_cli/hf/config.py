"""What `config.json` says of a packed model, as transformers wants it: an object made from its JSON and back to it."""

from collections.abc import Mapping
from typing import Any

from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from liptt_cli.forms.base import Form
from liptt_cli.packing.section import FORMAT_VERSION, METHOD, read_forms

_NOT_SAVED = ("dequantize",)


@register_quantization_config(METHOD)
class LipttConfig(QuantizationConfigMixin):
    """The section as plain JSON values; forms stay JSON until they are asked for, so that any version can be read."""

    def __init__(
        self,
        *,
        forms: Mapping[str, Any] | None = None,
        layers: Mapping[str, str] | None = None,
        tables: Mapping[str, str] | None = None,
        dequantize: bool = False,
        **facts: Any,
    ) -> None:
        """Take the fields of the section.

        Args:
            forms: form JSON by short name.
            layers: short name of a form by linear.
            tables: short name of a form by embedding and head, if they are rounded.
            dequantize: load into plain linears. Not saved.
            **facts: format_version, recipe_sha256, source_model, source_revision, modules_to_not_convert, and
                whatever else a later format adds.
        """
        facts = {"format_version": FORMAT_VERSION, "modules_to_not_convert": [], **facts, "quant_method": METHOD}
        self.__dict__.update(facts)
        self.forms = dict(forms or {})
        self.layers = dict(layers or {})
        if tables:
            self.tables = dict(tables)
        self.dequantize = dequantize

    def to_dict(self) -> dict[str, Any]:
        """Return the section as it is saved."""
        found: dict[str, Any] = super().to_dict()
        return {name: value for name, value in found.items() if name not in _NOT_SAVED}

    def linears(self) -> dict[str, Form]:
        """Return the form of each compressed linear.

        Raises:
            FormatVersionError: if the format is newer than this version.
        """
        return read_forms(self.__dict__)

    def table_forms(self) -> dict[str, Form]:
        """Return the form of embedding and head if they are rounded, one if they are tied, else none."""
        return read_forms(self.__dict__, "tables")
