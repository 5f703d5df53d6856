"""A packed model as a plain Hugging Face one, read back tensor by tensor with safetensors' own reader."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from liptt_cli.errors import IntegrityError
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.packing.densified import write_dense
from liptt_cli.packing.tensor_file import Written


@dataclass(frozen=True)
class PlainJob:
    """What is to be written; `dtype` is the matrices', and with `casts` that of all other tensors too."""

    model: PackedModel
    dtype: str
    casts: bool = False


def write(job: PlainJob, directory: Path, *, shard_bytes: int) -> dict[str, Written]:
    """Write the model into an existing, empty directory, one matrix in memory at a time."""
    dtype = job.dtype if job.casts else None
    return write_dense(directory, packed=job.model.path, shard_bytes=shard_bytes, dtype=dtype)


def read_back(job: PlainJob, directory: Path) -> dict[str, float]:
    """Read every tensor of the files and compare it with the packed model's, rounded to the dtype.

    Returns:
        The largest difference of a number of each tensor before that rounding.

    Raises:
        IntegrityError: naming the tensor that is not what was meant.
    """
    found: dict[str, float] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - the handle is no mapping and cannot be iterated
                found[name] = _difference(job, name, file.get_tensor(name))
    if set(found) != set(job.model.pieces):
        raise IntegrityError(f"{directory}: its tensors are not those that were written")
    return found


def written_bytes(job: PlainJob, directory: Path) -> dict[str, int]:
    """Return the bytes of each tensor in the files."""
    found: dict[str, int] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118 - as above
    return found


def _difference(job: PlainJob, name: str, found: torch.Tensor) -> float:
    dtype = getattr(torch, job.dtype)
    if name in job.model.linears or name in job.model.tables:
        meant = job.model.value(name).dense(torch.float32)
        expected = meant.to(dtype)
    else:
        meant = job.model.tensor(name)
        expected = meant.to(dtype) if job.casts and meant.is_floating_point() else meant
    if found.dtype != expected.dtype or not torch.equal(found, expected):
        raise IntegrityError(f"{name}: read back, it is not what the packed model has")
    return float((found.double() - meant.double()).abs().max()) if meant.numel() else 0.0
