"""How transformers loads a packed model: linears become `PackedLinear` on meta, then the blobs load like any tensor.

Importing this module registers the format; `liptt_cli/__init__.py` does so at the right moment. The blob lies under
the linear's own key `<linear>.weight`, so that without the plug-in loading fails on its shape instead of running noise.
"""

from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from liptt_cli.errors import IntegrityError
from liptt_cli.hf.config import LipttConfig
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.packed_table import PackedEmbedding, put_dense_tables, put_tables
from liptt_cli.models.experts import Experts, unfold
from liptt_cli.packing.section import METHOD, check_version
from liptt_cli.planning.experts import place_of


@register_quantizer(METHOD)
class LipttQuantizer(HfQuantizer):
    """Loads, keeps frozen, saves and densifies packed linears; it never compresses a model by itself."""

    requires_calibration = True
    quantization_config: LipttConfig

    def validate_environment(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse a format newer than this version.

        Raises:
            FormatVersionError: with what to do.
        """
        version = getattr(self.quantization_config, "format_version", None)
        check_version(version, place=f"packed model of {getattr(self.quantization_config, 'source_model', 'liptt')}")

    def _process_model_before_weight_loading(self, model: nn.Module, **_kwargs: Any) -> None:
        linears = self.quantization_config.linears()
        if any(place_of(name) for name in linears):
            unfold(model, linears)
        for name, form in linears.items():
            linear = _submodule(model, name)
            if not isinstance(linear, nn.Linear) or tuple(linear.weight.shape) != form.shape:
                raise IntegrityError(f"{name}: packed as a linear of shape {form.shape}, but the model has {linear}")
            with torch.device("meta"):
                packed = PackedLinear(form, bias=linear.bias is not None)
            if linear.bias is not None:
                packed.to(linear.bias.dtype)
            model.set_submodule(name, packed)
        tables = self.quantization_config.table_forms()
        if tables:
            with torch.device("meta"):
                put_tables(model, tables)
            model.__dict__["_get_resized_embeddings"] = _not_resized

    def update_weight_conversions(self, weight_conversions: list[Any], model: nn.Module) -> list[Any]:
        """Let the matrices of unfolded experts load as they are stored, one by one, instead of fusing them."""
        if any(isinstance(module, Experts) for module in model.modules()):
            weight_conversions = [each for each in weight_conversions if not _fuses_experts(each)]
        kept: list[Any] = super().update_weight_conversions(weight_conversions, model)  # type: ignore[no-untyped-call]
        return kept

    def _process_model_after_weight_loading(self, model: nn.Module, **_kwargs: Any) -> None:
        if self.quantization_config.dequantize:
            self._dequantize(model, dtype=next(p.dtype for p in model.parameters() if p.is_floating_point()))
            return
        for module in model.modules():
            if isinstance(module, PackedLinear | PackedEmbedding):
                module.requires_grad_(False)

    def _dequantize(self, model: nn.Module, dtype: torch.dtype | str | None = None) -> nn.Module:
        wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
        for name, module in model.named_modules():
            if isinstance(module, PackedLinear | PackedEmbedding) and module.weight.is_meta:
                raise ValueError(f"{name} is offloaded to disk; load the model without offloading to densify it")
        put_dense_tables(model, wanted)
        model.__dict__.pop("_get_resized_embeddings", None)
        packed = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
        for name, module in packed.items():
            model.set_submodule(name, module.to_linear(wanted))
        return model

    def is_serializable(self) -> bool:
        """Say that `save_pretrained` may write it: the blobs are what is saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Say that gradients pass, for adapters beside the packed linears."""
        return True


def _not_resized(embeddings: nn.Module, new_num_tokens: int | None = None, *_args: Any, **_kwargs: Any) -> nn.Module:
    """Stand in the place of what makes larger or smaller tables, and refuse."""
    if new_num_tokens is not None:
        raise ValueError(
            f"resize_token_embeddings: {type(embeddings).__name__} holds rounded codes of a fixed number of tokens; "
            "densify the model first (model.dequantize())"
        )
    return embeddings


def _fuses_experts(conversion: Any) -> bool:
    targets = [pattern.replace("\\", "") for pattern in conversion.target_patterns]
    return any(target.endswith(("experts.gate_up_proj", "experts.down_proj")) for target in targets)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise IntegrityError(f"{name}: listed as a packed linear, but the model has no such module") from error
