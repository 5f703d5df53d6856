"""What a stage leaves of one block: blobs of its linears, tensors that changed, and sources of latents.

A safetensors file. `<linear>.weight` holds a blob, `<linear>.latent.<k>` the float16 values of core k
before their rounding; any other name is a changed tensor under its own. The metadata's `forms` says how
to read the blobs, `tables` those of embedding and head.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from liptt_cli.formats.base import Encoded, Stored
from liptt_cli.packing.blob import pack


@dataclass(frozen=True)
class BlockResult:
    """Compressed linears by name, with their sources if any, changed tensors by name, and rounded tables by name."""

    values: Mapping[str, Stored] = field(default_factory=dict)
    sources: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    changed: Mapping[str, Tensor] = field(default_factory=dict)
    tables: Mapping[str, Encoded] = field(default_factory=dict)


def write_block(path: Path, result: BlockResult) -> None:
    """Write a block file; `run_directory.write_file` makes that atomic."""
    packed = {**result.values, **result.tables}
    tensors = {f"{name}.weight": pack(value).cpu() for name, value in packed.items()}
    for name, sources in result.sources.items():
        tensors |= {f"{name}.latent.{k}": s.to(torch.float16).cpu().contiguous() for k, s in enumerate(sources)}
    tensors |= {name: tensor.detach().cpu().contiguous() for name, tensor in result.changed.items()}
    kinds = {"forms": result.values, "tables": result.tables} if result.tables else {"forms": result.values}
    save_file(tensors, path, metadata={kind: json.dumps(_forms(values)) for kind, values in kinds.items()})


def _forms(values: Mapping[str, Stored]) -> dict[str, dict[str, object]]:
    return {name: value.form.to_json() for name, value in values.items()}


def read_sources(files: Sequence[Path]) -> dict[str, tuple[Tensor, ...]]:
    """Return the sources of each linear that has some; `Overlay` reads the rest."""
    found: dict[str, dict[int, Tensor]] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                linear, latent, number = key.rpartition(".latent.")
                if latent:
                    found.setdefault(linear, {})[int(number)] = file.get_tensor(key)
    return {name: tuple(cores[k] for k in range(len(cores))) for name, cores in found.items()}
