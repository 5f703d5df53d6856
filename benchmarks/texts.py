"""Texts that the benchmark cuts itself, into its work folder, disjoint by document.

    stdlib-tuning.jsonl, stdlib-held-out.jsonl               the calibration side of `stdlib`, for the search of rates
    tinystories-calibration.jsonl, -evaluation.jsonl         the sample of TinyStories, story by story, 60 to 40
    tinystories-tuning.jsonl, tinystories-held-out.jsonl     its calibration part again, for the search of rates
    self-calibration.jsonl, -tuning.jsonl, -held-out.jsonl   text sampled from the reference model, in the same way

Held out is a tenth by characters. The order is a seeded shuffle of whole documents; equal stories stay on one side.
"""

import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from liptt_cli.calibration.standard_library import standard_library

HELD_OUT_SHARE = 0.1
EVALUATION_SHARE = 0.4
_SAMPLED_TOKENS = 256


def write_stdlib_parts(folder: Path) -> None:
    """Write the two parts of the calibration side of `stdlib`, unless they are there."""
    if not _there(folder, "stdlib-tuning", "stdlib-held-out"):
        held_out, tuning = split(standard_library("calibration"), share=HELD_OUT_SHARE)
        _write(folder, "stdlib-held-out", held_out)
        _write(folder, "stdlib-tuning", tuning)


def write_story_parts(folder: Path, sample: Path) -> None:
    """Write the four parts of a sample of TinyStories, unless they are there."""
    names = ("tinystories-calibration", "tinystories-evaluation", "tinystories-tuning", "tinystories-held-out")
    if not _there(folder, *names):
        stories = cut_stories(gzip.decompress(sample.read_bytes()).decode())
        evaluation, calibration = split(stories, share=EVALUATION_SHARE)
        held_out, tuning = split(calibration, share=HELD_OUT_SHARE)
        for name, part in zip(names, (calibration, evaluation, tuning, held_out), strict=True):
            _write(folder, name, part)


def write_sampled_parts(folder: Path, model: Path, *, windows: int) -> None:
    """Write text sampled from a model once for all cells, and its two parts, unless they are there."""
    if not _there(folder, "self-calibration", "self-tuning", "self-held-out"):
        documents = _sampled(model, windows)
        held_out, tuning = split(documents, share=HELD_OUT_SHARE)
        for name, part in (("self-held-out", held_out), ("self-tuning", tuning), ("self-calibration", documents)):
            _write(folder, name, part)


def _sampled(model: Path, windows: int) -> list[str]:
    """Return what `calibration.corpus: self` reads, as text; a tenth more, as some is held out."""
    import torch  # heavy, and only this text needs a model

    from liptt_cli.calibration.windows import Sampling, sampled_from
    from liptt_cli.models.hub import load_model, load_tokenizer, locate

    source = locate(str(model))
    tokenizer = load_tokenizer(source)
    sampling = Sampling(-(-windows * 6 // 5), _SAMPLED_TOKENS, seed=0)
    ids = sampled_from(load_model(source, dtype=torch.float32), tokenizer, sampling)
    return [text for text in tokenizer.batch_decode(ids, skip_special_tokens=True) if text.strip()]


def cut_stories(text: str) -> list[str]:
    """Cut at single newlines: a story follows another without a blank line, its own paragraphs have one between."""
    stories: list[list[str]] = []
    blank = False
    for line in text.splitlines():
        if line.strip():
            if blank and stories:
                stories[-1].append(line)
            else:
                stories.append([line])
        blank = not line.strip()
    return ["\n\n".join(paragraphs) for paragraphs in stories]


def split(documents: Sequence[str], *, share: float) -> tuple[list[str], list[str]]:
    """Return documents that make up a share of the characters, and the rest; a document and its copies are one."""
    distinct = list(dict.fromkeys(documents))
    random.Random(0).shuffle(distinct)
    wanted = share * sum(map(len, distinct))
    taken: list[str] = []
    while distinct and sum(map(len, taken)) < wanted:
        taken.append(distinct.pop())
    return taken, distinct


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _there(folder: Path, *names: str) -> bool:
    return all((folder / f"{name}.jsonl").exists() for name in names)


def _write(folder: Path, name: str, documents: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.partial"
    partial.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf8")
    partial.replace(folder / f"{name}.jsonl")
