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
from liptt_cli.packing.section import METHOD, check_version


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
        for name, form in self.quantization_config.linears().items():
            linear = _submodule(model, name)
            if not isinstance(linear, nn.Linear) or tuple(linear.weight.shape) != form.shape:
                raise IntegrityError(f"{name}: packed as a linear of shape {form.shape}, but the model has {linear}")
            with torch.device("meta"):
                packed = PackedLinear(form, bias=linear.bias is not None)
            if linear.bias is not None:
                packed.to(linear.bias.dtype)
            model.set_submodule(name, packed)

    def _process_model_after_weight_loading(self, model: nn.Module, **_kwargs: Any) -> None:
        if self.quantization_config.dequantize:
            self._dequantize(model, dtype=next(p.dtype for p in model.parameters() if p.is_floating_point()))
            return
        for module in model.modules():
            if isinstance(module, PackedLinear):
                module.requires_grad_(False)

    def _dequantize(self, model: nn.Module, dtype: torch.dtype | str | None = None) -> nn.Module:
        wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
        packed = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
        for name, module in packed.items():
            if module.weight.is_meta:  # refused before the first one is replaced
                raise ValueError(f"{name} is offloaded to disk; load the model without offloading to densify it")
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


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise IntegrityError(f"{name}: listed as a packed linear, but the model has no such module") from error
