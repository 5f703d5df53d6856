"""In which dtype a model computes where nobody says: by its weights, not by the bytes that they are packed into."""

import math
from collections import Counter
from pathlib import Path
from typing import Literal

import torch

from liptt_cli.errors import InputError
from liptt_cli.forms.base import Form
from liptt_cli.models import hub
from liptt_cli.models.shards import Shards
from liptt_cli.packing.section import read_forms, read_section


def choose_dtype(directory: Path, setting: Literal["auto", "float32", "bfloat16"] = "auto") -> torch.dtype:
    """Return the dtype to compute in, a packed model being judged by the dense one that it stands for.

    Args:
        directory: where the weights lie.
        setting: the user's choice.
    """
    shards, forms = Shards(directory), _packed(directory)
    if not forms:
        return hub.compute_dtype(setting, stored=shards.main_dtype(), parameters=shards.parameters())
    plain: Counter[torch.dtype] = Counter()
    for name in shards.names():
        if shards.dtype(name).is_floating_point:
            plain[shards.dtype(name)] += math.prod(shards.shape(name))
    stored = plain.most_common(1)[0][0] if plain else None
    weights = sum(math.prod(form.shape) for form in forms)
    return hub.compute_dtype(setting, stored=stored, parameters=weights + plain.total())


def _packed(directory: Path) -> list[Form]:
    try:
        section = read_section(directory)
    except InputError:
        return []
    return [*read_forms(section).values(), *read_forms(section, "tables").values()]
