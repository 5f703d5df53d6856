"""Which linears a model has, without torch: from safetensors headers, exact for any architecture.

A site is one linear of one block. `formulas.py` serves models whose weights are not here yet.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path

from liptt_cli.errors import ConfigError, ModelError
from liptt_cli.planning.coverage import Named, named
from liptt_cli.planning.experts import called_as, parts_of, routers_among
from liptt_cli.planning.tables import TableShape

Headers = Mapping[str, tuple[tuple[int, ...], str]]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"U8": 1, "I8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
_BLOCK_WEIGHT = re.compile(r"(?P<path>.+?)\.(?P<block>\d+)\.(?P<leaf>.+)\.weight")


@dataclass(frozen=True)
class SiteShape:
    """One linear: its full module name, its block, and the shape (out, in) of its weight."""

    name: str
    block: int
    shape: tuple[int, int]

    @property
    def weights(self) -> int:
        """Return the number of weights."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class ModelShape:
    """A model's linears, and the bytes of everything else in its weight files.

    `norm_entries` are the numbers in modules that hold nothing but vectors, which a training may move; `left_out` are
    the matrices of the blocks that are no linears, such as routers; `tables` are the token embedding and the head,
    which count among the other tensors too.
    """

    sites: tuple[SiteShape, ...]
    other_bytes: int
    other_tensors: int
    norm_entries: int
    site_dtype_bytes: int
    left_out: Named = ()
    tables: tuple[TableShape, ...] = ()

    @property
    def dense_bytes(self) -> int:
        """Return the bytes of all tensors as they stand in the source."""
        return self.other_bytes + self.site_dtype_bytes * sum(site.weights for site in self.sites)


def select(names: Sequence[str], *, include: Sequence[str], skip: Sequence[str]) -> frozenset[str]:
    """Return the names that a glob of `include` matches and none of `skip` does.

    Raises:
        ConfigError: if a glob matches nothing, which would be a silent mistake, or no name is left.
    """
    for key, globs in (("load.include", include), ("load.skip", skip)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                example = f"; a name looks like {names[0]}" if names else ""
                raise ConfigError(f'{key}: no linear matches "{glob}"{example}')
    found = frozenset(
        name
        for name in names
        if any(fnmatchcase(name, glob) for glob in include) and not any(fnmatchcase(name, glob) for glob in skip)
    )
    if not found:
        raise ConfigError(f"load.skip: {list(skip)} skips every linear that load.include keeps; nothing is left")
    return found


def read_headers(directory: Path) -> Headers:
    """Return name -> (shape, dtype) of all tensors in the directory's safetensors files, {} if there are none.

    Raises:
        ModelError: if a file cannot be read.
    """
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in _weight_files(directory):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length < path.stat().st_size else None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: its header cannot be read ({error}); fetch it again") from error
        if not isinstance(header, dict):
            raise ModelError(f"{path}: its header claims {length} bytes, more than the file has; fetch it again")
        header.pop("__metadata__", None)
        found |= {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}
    return found


def shape_from_headers(headers: Headers, vocabulary: int | None = None) -> ModelShape:
    """Find the block list as the numbered path that holds most weights, and its matrices as sites.

    Matrices outside of it with as many rows as the vocabulary has tokens are the embedding and the head.

    Raises:
        ModelError: if there is none, or a tensor has an unknown dtype.
    """
    weights: Counter[str] = Counter()
    matches = {}
    headers = _one_by_one(headers)
    for name, (shape, dtype) in headers.items():
        if dtype not in _BYTES:
            raise ModelError(f"tensor {name} has the unknown dtype {dtype}; known: {', '.join(_BYTES)}")
        match = _BLOCK_WEIGHT.fullmatch(name)
        if match is not None and len(shape) == 2:
            weights[match["path"]] += prod(shape)
            matches[name] = match
    if not weights:
        raise ModelError("no numbered list of blocks with matrices among the tensors; is this a transformer?")
    path = weights.most_common(1)[0][0]
    routers = routers_among([name.removesuffix(".weight") for name in matches])
    sites = [
        SiteShape(name.removesuffix(".weight"), int(match["block"]), (headers[name][0][0], headers[name][0][1]))
        for name, match in matches.items()
        if match["path"] == path and name.removesuffix(".weight") not in routers
    ]
    names = {f"{site.name}.weight" for site in sites}
    others = [prod(shape) * _BYTES[dtype] for name, (shape, dtype) in headers.items() if name not in names]
    site_bytes = _BYTES[headers[f"{sites[0].name}.weight"][1]]
    left_out = [
        (name.removesuffix(".weight"), prod(shape))
        for name, (shape, _) in headers.items()
        if name.startswith(f"{path}.") and len(shape) > 1 and name not in names
    ]
    tables = [
        TableShape(name.removesuffix(".weight"), (shape[0], shape[1]), prod(shape) * _BYTES[dtype])
        for name, (shape, dtype) in sorted(headers.items())
        if name.endswith(".weight") and name not in matches and len(shape) == 2 and shape[0] == vocabulary
    ]
    counts = sum(others), len(others), _norm_entries(headers), site_bytes
    return ModelShape(in_order(sites), *counts, named(left_out), tuple(tables))


def in_order(sites: Sequence[SiteShape]) -> tuple[SiteShape, ...]:
    """Return sites by block and name: the order in which what is left of a budget is given out."""
    return tuple(sorted(sites, key=lambda site: (site.block, site.name)))


def _one_by_one(headers: Headers) -> Headers:
    """Return the tensors as the model calls them, experts that are stored fused as a matrix each."""
    parts, called = parts_of({name: shape for name, (shape, _) in headers.items()}), called_as(headers)
    fused = {part.fused for part in parts.values()}
    whole = {called[name]: entry for name, entry in headers.items() if name not in fused}
    return whole | {name: (part.shape, headers[part.fused][1]) for name, part in parts.items()}


def _weight_files(directory: Path) -> list[Path]:
    """Return the files that a loader would read: the single one, else those of the index, else all."""
    single, index = directory / _SINGLE, directory / _INDEX
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            named = dict(json.loads(index.read_text(encoding="utf8"))["weight_map"]).values()
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{index}: not a readable index ({error}); fetch it again") from error
        return [directory / name for name in dict.fromkeys(named)]
    return sorted(directory.glob("*.safetensors"))


def _norm_entries(headers: Headers) -> int:
    modules: dict[str, list[tuple[int, ...]]] = {}
    for name, (shape, _) in headers.items():
        modules.setdefault(name.rpartition(".")[0], []).append(shape)
    return sum(sum(map(prod, shapes)) for shapes in modules.values() if all(len(shape) == 1 for shape in shapes))
