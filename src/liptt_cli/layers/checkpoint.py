"""The state of a training as one file: parameters that move, the optimiser's state, and what the caller adds.

Written beside, synced and renamed, so that a file of this name is always whole. Under sharding every process takes
part, and the file holds the gathered tensors; only one process writes.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from liptt_cli.errors import IntegrityError, OtherRunError
from liptt_cli.run_directory import write_file

Notes = dict[str, Any]

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, notes: Notes, write: bool) -> None:
    """Write the state with `notes` (numbers, strings, lists and dicts); without `write`, only help to gather it."""
    parameters, moments = get_state_dict(module, optimizer, options=_WHOLE)
    if not write:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"parameters": parameters, "optimizer": moments, "notes": notes}

    def fill(partial: Path) -> None:
        with partial.open("wb") as file:  # so that a full disk is told by the system's own error
            torch.save(state, file)

    write_file(path, fill)


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, training: str) -> Notes:
    """Put the state back, in place, and return the notes.

    Raises:
        IntegrityError: if the file cannot be read.
        OtherRunError: if its note `training` is another one.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise IntegrityError(f"{path}: not a readable checkpoint ({error}); delete it to start over") from error
    notes: Notes = found["notes"]
    if notes["training"] != training:
        raise OtherRunError(
            f"{path}: the checkpoint is of another training ({notes['training']}, not {training}); "
            "delete it to train from the start, or restore the configuration and the number of processes"
        )
    parameters, moments = found["parameters"], found["optimizer"]
    if any(group["params"] for group in optimizer.param_groups):
        set_state_dict(module, optimizer, model_state_dict=parameters, optim_state_dict=moments, options=_WHOLE)
    else:  # all that trains moves by itself
        set_model_state_dict(module, parameters, options=_WHOLE)
    return notes
