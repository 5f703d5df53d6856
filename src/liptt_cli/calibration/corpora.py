"""Named texts: what CPython carries, a local file, or a corpus of the hub, each as a list of documents.

`stdlib` has two sides that share no document. `wikitext2` and `c4` take the hub's training split for
calibration and its test or validation split for evaluation. A local file is one side as a whole: give
calibration and evaluation different files. Only this file imports `datasets`, and only when asked to.
"""

import difflib
import errno
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liptt_cli.calibration.standard_library import Side, standard_library
from liptt_cli.errors import CorpusError, InputError, MissingExtra

SEPARATOR = "<|endoftext|>"
SUFFIXES = (".txt", ".txt.gz", ".raw", ".raw.gz", ".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Corpus:
    """Documents with the name they were asked for by, and the sha256 of their text."""

    name: str
    documents: list[str]
    sha256: str


@dataclass(frozen=True)
class _HubText:
    """Where the hub keeps one side of a corpus, and how many of its rows are read."""

    path: str
    configuration: str | None
    split: str
    files: str | None = None
    joined: bool = False


_HUB: dict[str, dict[Side, _HubText]] = {
    "wikitext2": {
        "calibration": _HubText("Salesforce/wikitext", "wikitext-2-raw-v1", "train", joined=True),
        "evaluation": _HubText("Salesforce/wikitext", "wikitext-2-raw-v1", "test", joined=True),
    },
    "c4": {
        "calibration": _HubText("allenai/c4", None, "train[:10000]", "en/c4-train.00000-of-01024.json.gz"),
        "evaluation": _HubText("allenai/c4", None, "train[:1100]", "en/c4-validation.00000-of-00008.json.gz"),
    },
}
NAMES = ("stdlib", *_HUB)
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def read_corpus(name: str, *, side: Side, near: Path | None = None) -> Corpus:
    """Return a corpus by name, or the documents of a local text or jsonl file.

    Args:
        name: `stdlib`, `wikitext2`, `c4`, or the path of a text (.txt, .raw) or .jsonl file, also with .gz.
        side: which half of a named corpus; a local file is read whole for either.
        near: a folder, tried after the working directory for a relative path.

    Raises:
        CorpusError: if there is no such corpus, or no text in it.
    """
    if name == "stdlib":
        documents = standard_library(side)
    elif name in _HUB:
        documents = _from_hub(name, _HUB[name][side])
    else:
        documents = _from_file(_find(name, near))
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise CorpusError(f"{name}: no text in it; a corpus needs at least one document.")
    return Corpus(name, documents, sha256_of(documents))


def sha256_of(documents: Sequence[str]) -> str:
    """Return the sha256 of the documents in their order, each ended by a zero byte."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.encode() + b"\0")
    return digest.hexdigest()


@contextmanager
def reading_datasets(what: str) -> Iterator[None]:
    """Keep the progress bars of `datasets` off the terminal, and turn what it raises into an InputError.

    A full disk stays what it is, as it is not the data's fault.
    """
    datasets = _datasets()
    barred = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    except (OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        for cause in (error, error.__cause__):
            if isinstance(cause, OSError) and cause.errno in _FULL:
                raise cause from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{what}: the data could not be had: {reason}. Without a network use local files.") from error
    finally:
        if barred:
            datasets.enable_progress_bars()


def _find(name: str, near: Path | None) -> Path:
    given = Path(name).expanduser()
    tried = [given] if given.is_absolute() or near is None else [given, near / given]
    for path in tried:
        if path.is_file():
            return path
    if name == "self":
        raise CorpusError("self: this text is sampled from the model and cannot be read; it is for runs with a model.")
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else f" Named corpora: {', '.join(NAMES)}, self."
    raise CorpusError(f"{name}: no such corpus; looked for the file {' and '.join(map(str, tried))}.{hint}")


def _from_file(path: Path) -> list[str]:
    if not path.name.endswith(SUFFIXES):
        raise CorpusError(f"{path}: not a corpus file; it has to end in {', '.join(SUFFIXES)}.")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as UTF-8 text: {error}.") from error
    return list(_json_lines(text, path)) if ".jsonl" in path.name else _separated(text)


def _separated(text: str) -> list[str]:
    """Cut at lines that hold the separator alone; without any, the text is one document."""
    documents: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip() == SEPARATOR:
            documents.append([])
        else:
            documents[-1].append(line)
    return ["\n".join(lines).strip("\n") for lines in documents]


def _json_lines(text: str, path: Path) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}:{number}: not a line of JSON: {error}.") from error
            yield _text_of(row, f"{path}:{number}")


def _text_of(row: object, place: str) -> str:
    strings = {key: value for key, value in row.items() if isinstance(value, str)} if isinstance(row, dict) else {}
    for key in ("text", "page", *strings):
        if key in strings and (key in ("text", "page") or len(strings) == 1):
            return strings[key]
    raise CorpusError(f"{place}: no text in this row; it needs the key 'text' or 'page', or one single string.")


def _from_hub(name: str, text: _HubText) -> list[str]:
    files = {"train": text.files} if text.files else None
    try:
        with reading_datasets(text.path):
            load = _datasets().load_dataset
            rows = load(text.path, text.configuration, data_files=files, split=text.split)["text"]
    except InputError as error:
        raise CorpusError(
            f"{name}: {error} Give the path of one that ends in {' or '.join(SUFFIXES)}, or use the corpus 'stdlib'."
        ) from error
    return ["\n\n".join(rows)] if text.joined else list(rows)


def _datasets() -> Any:
    try:
        import datasets  # heavy, and only two corpora and the harness need it
    except ImportError as error:
        raise MissingExtra(
            f"the package 'datasets' is needed: {error}; install it with: pip install datasets"
        ) from error
    return datasets
