"""A packed model on disk: written from the source's files and an overlay, and verified byte by byte.

Tensors are copied as bytes, one at a time, in the dtype that they have; a compressed linear's blob takes the place of
its `<linear>.weight`. `config.json` gets the section that says what each blob is, `liptt.json` comes last.
"""

import fnmatch
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.base import blob_bytes
from liptt_cli.packing.card import card
from liptt_cli.packing.manifest import NAME as MANIFEST
from liptt_cli.packing.manifest import Manifest, Totals, linears_of, operations_of, read_manifest
from liptt_cli.packing.overlay import Overlay, resolve
from liptt_cli.packing.section import Origin, make_section
from liptt_cli.packing.tensor_file import Piece, Written, read_header, read_span, write_shards, write_text
from liptt_cli.packing.unfused import unfused

COMPANIONS = (
    *("tokenizer*.json", "*.model", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.json", "chat_template.jinja", "generation_config.json"),
    *("LICENSE*", "NOTICE*"),
)
_NEVER = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.py")
_WEIGHTS = (*_NEVER, "*.safetensors")


def write_packed(
    directory: Path, *, source: Sequence[Path], overlay: Overlay, origin: Origin, shard_bytes: int
) -> Manifest:
    """Write a packed model into an existing, empty directory.

    Args:
        directory: to be filled; `whole.whole_directory` gives one that appears whole.
        source: the source's safetensors files, beside which its `config.json` and tokenizer lie.
        overlay: what the stages changed.
        origin: where the model comes from.
        shard_bytes: largest weight file.

    Returns:
        The manifest, written too, without a fingerprint.

    Raises:
        IntegrityError: if the overlay holds a tensor that the source does not have, or of another shape.
    """
    dense = unfused(headers(source), overlay.forms)
    pieces = laid_over(dense, overlay)
    files = write_shards(directory, pieces, shard_bytes=shard_bytes)
    weight_bytes = sum(written.bytes for name, written in files.items() if name.endswith(".safetensors"))
    home = source[0].parent
    untouched = [name.removesuffix(".weight") for name, piece in _kept(dense, overlay).items() if len(piece.shape) == 2]
    section = make_section(overlay.forms, origin=origin, untouched=sorted(untouched), tables=overlay.tables)
    files["config.json"] = write_config(home, directory, {"dtype": origin.dtype, "quantization_config": section})
    files |= copy_companions(home, directory)
    totals = _totals(overlay, dense, file_bytes=weight_bytes, dense_file_bytes=sum(f.stat().st_size for f in source))
    manifest = Manifest(origin, files, linears_of(overlay.forms), totals, tables=linears_of(overlay.tables))
    readme = write_text(directory / "README.md", card(manifest))
    manifest = replace(manifest, files={**files, "README.md": readme})
    manifest.write(directory)
    return manifest


def verify_files(directory: Path) -> Manifest:
    """Check every file of a packed model against its manifest, and every blob against its form.

    Raises:
        IntegrityError: naming the file that is missing, changed, longer or shorter, or does not belong.
        FormatVersionError: if the model is of a newer format.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest.files.items():
        _check_file(directory / name, expected)
    strange = sorted(
        path.name for path in directory.iterdir() if _is_any(path.name, _WEIGHTS) and path.name not in manifest.files
    )
    if strange:
        raise IntegrityError(f"{directory / strange[0]}: not of this model, but could be loaded instead; remove it")
    overlay = Overlay.of_packed(directory)
    for kind, found, told in (
        ("linears", overlay.forms, manifest.linears),
        ("tables", overlay.tables, manifest.tables),
    ):
        if linears_of(found) != dict(told):
            raise IntegrityError(
                f"{directory / MANIFEST}: its {kind} are not those of config.json; export the model again"
            )
    payload = sum(blob_bytes(form) for form in overlay.forms.values())
    if payload != manifest.totals.payload_bytes:
        raise IntegrityError(
            f"{directory / MANIFEST}: says {manifest.totals.payload_bytes} payload bytes, found {payload}"
        )
    return manifest


def laid_over(dense: dict[str, Piece], overlay: Overlay) -> list[Piece]:
    """Return the pieces of the packed model, in the source's order and under its names.

    Raises:
        IntegrityError: if the overlay holds a tensor that the source does not have, or of another shape.
    """
    pieces = dict(dense)
    for name, piece in overlay.tensors.items():
        stored = resolve(name, dense)
        module = name.removesuffix(".weight")
        if stored is None:
            raise IntegrityError(f"{name}: changed by the run, but the source model has no such tensor")
        shape = overlay.packed[module].shape if module in overlay.packed else piece.shape
        if dense[stored].shape != shape:
            raise IntegrityError(f"{name}: {shape} in the run, but {dense[stored].shape} in the source model")
        pieces[stored] = replace(piece, name=stored)
    return list(pieces.values())


def copy_companions(source: Path, directory: Path) -> dict[str, Written]:
    """Copy tokenizer, generation settings and licence: texts and models of tokenizers, never pickle or code."""
    copied = {}
    for path in sorted(source.iterdir()):
        if path.is_file() and _is_any(path.name, COMPANIONS) and not _is_any(path.name, _NEVER):
            shutil.copyfile(path, directory / path.name)
            copied[path.name] = _measured(path)
    return copied


def write_config(source: Path, directory: Path, changes: Mapping[str, Any]) -> Written:
    """Write `config.json` with some keys set; None leaves a key out."""
    config = json.loads((source / "config.json").read_text(encoding="utf8")) | dict(changes)
    older_names = {"torch_dtype"}  # of dtype
    left_out = older_names | {key for key, value in changes.items() if value is None}
    kept = {key: value for key, value in config.items() if key not in left_out}
    return write_text(directory / "config.json", json.dumps(kept, indent=2) + "\n")


def headers(files: Sequence[Path]) -> dict[str, Piece]:
    """Return the tensors of safetensors files, not yet read, by name."""
    found: dict[str, Piece] = {}
    for file in files:
        found |= read_header(file)[0]
    return found


def _totals(overlay: Overlay, dense: Mapping[str, Piece], *, file_bytes: int, dense_file_bytes: int) -> Totals:
    cost, linears = operations_of(overlay.forms), linears_of(overlay.forms)
    return Totals(
        payload_bytes=sum(linear.bytes for linear in linears.values()),
        weights=sum(linear.weights for linear in linears.values()),
        file_bytes=file_bytes,
        dense_file_bytes=dense_file_bytes,
        dense_bf16_bytes=2 * sum(piece.entries for piece in dense.values()),
        sign_additions=cost.sign_additions,
        multiplications=cost.multiplications,
    )


def _kept(dense: Mapping[str, Piece], overlay: Overlay) -> dict[str, Piece]:
    blobs = {resolve(f"{module}.weight", dense) for module in overlay.packed}
    return {name: piece for name, piece in dense.items() if name not in blobs}


def _check_file(path: Path, expected: Written) -> None:
    if not path.is_file():
        raise IntegrityError(f"{path}: missing; copy or export the model again")
    found = path.stat().st_size
    if found != expected.bytes:
        raise IntegrityError(f"{path}: {found} bytes, but {expected.bytes} were written; copy or export it again")
    if _measured(path) != expected:
        raise IntegrityError(f"{path}: changed since it was written (its sha256 differs); copy or export it again")


def _measured(path: Path) -> Written:
    digest, total = hashlib.sha256(), 0
    for chunk in read_span(path, start=0, stop=path.stat().st_size):
        digest.update(chunk)
        total += len(chunk)
    return Written(total, digest.hexdigest())


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
