"""A packed model written for other programs: every tensor read back, and logits compared where transformers loads it.

What is written appears only after all of that held. GGUF has no reader of its logits here: its numbers are compared one
by one, decoded by code that is not the writer's.
"""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from liptt_cli.errors import IntegrityError
from liptt_cli.exports import pack_quantized, plain_model
from liptt_cli.exports.carrying import Carried
from liptt_cli.exports.gguf_model import architecture
from liptt_cli.exports.gguf_vocabulary import vocabulary
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.exports.preflight import require_package
from liptt_cli.exports.record import Record, hashes, rows_of, write_card
from liptt_cli.exports.targets import Name, Wishes, carried_by, refuse_wishes
from liptt_cli.models.hub import Source, load_model
from liptt_cli.packing.artifact import verify_files
from liptt_cli.packing.whole import whole_directory
from liptt_cli.planning.experts import place_of
from liptt_cli.stages.export import SHARD_BYTES
from liptt_cli.stages.fingerprint import fingerprint_tokens, logits_of

_TOLERANCE_SHARE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
_EXACT_TOLERANCE_SHARE = 1e-5  # of a bias that is added elsewhere


@dataclass(frozen=True)
class Elsewhere:
    """What is to be exported, to which target."""

    packed: Path
    to: Name
    wishes: Wishes = field(default_factory=Wishes)
    shard_bytes: int = SHARD_BYTES
    trust_remote_code: bool = False


@dataclass(frozen=True)
class _Made:
    """What a writer tells: bytes and largest difference of each tensor, and what a user should know."""

    bytes: Mapping[str, int]
    differences: Mapping[str, float]
    notes: tuple[str, ...] = ()


def export_elsewhere(job: Elsewhere, directory: Path, *, replaces: bool = False) -> Record:
    """Write a packed model for another program, and return what became of it.

    Raises:
        ConfigError: if codes would be lost and that is not allowed, or the directory exists and `replaces` is false.
        ModelError: if the target does not know the model's family or tokenizer.
        MissingExtra: if the target's package is not installed.
        IntegrityError: if the packed model is corrupt, or what was read back is not what was meant.
    """
    refuse_wishes(job.to, job.wishes)
    require_package(job.to)
    model = PackedModel(job.packed, verify_files(job.packed))
    wishes = replace(job.wishes, dtype=job.wishes.dtype or model.config["dtype"])
    carried = carried_by(job.to, model.forms, wishes)
    with whole_directory(directory, replace=replaces) as partial:
        made = _WRITERS[job.to](job, model, carried, partial)
        record = _record(job.to, model, carried, made, file_bytes=_weight_bytes(partial))
        if job.to != "gguf":
            record = replace(record, logits=_compared(job, model, record, partial))
        write_card(record, partial)
        record = replace(record, files=hashes(partial))
        record.write(partial)
    return record


def _hf(job: Elsewhere, model: PackedModel, _carried: Mapping[str, Carried], directory: Path) -> _Made:
    wanted = job.wishes.dtype
    plain = plain_model.PlainJob(model, wanted or model.config["dtype"], casts=wanted is not None)
    plain_model.write(plain, directory, shard_bytes=job.shard_bytes)
    return _Made(plain_model.written_bytes(plain, directory), plain_model.read_back(plain, directory))


def _compressed_tensors(job: Elsewhere, model: PackedModel, carried: Mapping[str, Carried], directory: Path) -> _Made:
    packed = pack_quantized.PackQuantizedJob(model, carried, model.config["dtype"])
    pack_quantized.write(packed, directory, shard_bytes=job.shard_bytes)
    return _Made(pack_quantized.written_bytes(packed, directory), pack_quantized.read_back(packed, directory))


def _gguf(job: Elsewhere, model: PackedModel, carried: Mapping[str, Carried], directory: Path) -> _Made:
    from liptt_cli.exports import gguf_file  # its package is an extra

    told = architecture(model.config)
    words = tuple(vocabulary(model.path, rows=model.config["vocab_size"]))
    file = gguf_file.GgufJob(model, told, words, carried, job.wishes.tables)
    path = directory / gguf_file.NAME
    gguf_file.write(file, path)
    return _Made(gguf_file.written_bytes(file), gguf_file.read_back(file, path), told.notes)


_WRITERS: dict[Name, Callable[[Elsewhere, PackedModel, Mapping[str, Carried], Path], _Made]] = {
    "hf": _hf,
    "compressed-tensors": _compressed_tensors,
    "gguf": _gguf,
}


def _weight_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.suffix in (".safetensors", ".gguf"))


def _record(to: Name, model: PackedModel, carried: Mapping[str, Carried], made: _Made, *, file_bytes: int) -> Record:
    stored = {linear: name for name, linear in model.linears.items()}
    others = [name for name in made.bytes if name not in model.linears]
    return Record(
        to,
        model.manifest,
        rows_of(
            model.manifest,
            carried,
            written={linear: made.bytes[name] for linear, name in stored.items()},
            differences={linear: made.differences[name] for linear, name in stored.items()},
        ),
        {
            "tensors": len(others),
            "written_bytes": sum(made.bytes[name] for name in others),
            "largest_difference": max((made.differences[name] for name in others), default=0.0),
        },
        file_bytes,
        (*made.notes, *_of_tables(model)),
    )


def _of_tables(model: PackedModel) -> tuple[str, ...]:
    """Say what became of embedding and head if they are rounded in the packed model."""
    bits = {f"{table.bits_per_weight:.2f}" for table in model.manifest.tables.values()}
    names = " and ".join(sorted(model.manifest.tables))
    return (f"{names}, rounded to {', '.join(bits)} bits an entry, are written out as plain numbers",) if bits else ()


def _compared(job: Elsewhere, model: PackedModel, record: Record, directory: Path) -> dict[str, float]:
    """Return how far the logits of what was written are from the packed model's, and how far they may be.

    In a mixture it is half of the tokens that must agree: where two experts are nearly tied, rounding chooses another.
    """
    expected, found = (_logits(path, job.trust_remote_code) for path in (job.packed, directory))
    exact = not model.tables and all(row.kind == "exact" for row in record.linears.values())
    share = _EXACT_TOLERANCE_SHARE if exact else _TOLERANCE_SHARE[job.wishes.dtype or model.config["dtype"]]
    allowed = share * expected.abs().max().item()
    by_token = (found - expected).abs().amax(-1)
    difference = (by_token.median() if any(place_of(linear) for linear in record.linears) else by_token.max()).item()
    if not difference <= allowed:
        raise IntegrityError(
            f"{directory}: the logits of the {job.to} model are off by {difference:.3g} (allowed: {allowed:.3g})"
        )
    return {"largest_difference": difference, "allowed_difference": allowed}


def _logits(directory: Path, trust_remote_code: bool) -> torch.Tensor:
    source = Source(directory, directory.name, None)
    with redirect_stderr(io.StringIO()):  # compressed-tensors draws bars whatever transformers was told
        model = load_model(source, dtype=torch.float32, trust_remote_code=trust_remote_code)
        return logits_of(model, fingerprint_tokens(int(model.config.get_text_config().vocab_size)))
