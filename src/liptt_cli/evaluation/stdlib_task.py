"""`stdlib_cloze`: a small multiple-choice task made at run time from the standard library's evaluation side.

An item shows the rest of a sentence and four beginnings, each up to the middle of a sentence; the true one
is from the same paragraph, the others from other documents and of nearly the same length. The model chooses the
beginning after which the rest is likeliest. As the scored text is the same four times, neither its length
nor its commonness decides (partial scoring, Trinh and Le 2018, arXiv:1806.02847): a model of 2M parameters got
three items in four right, but only two in five when asked for the rest among four. Chance is 25 %. The
items depend on the Python version, as the corpus does, and on the seed.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from liptt_cli.calibration.corpora import read_corpus
from liptt_cli.errors import CorpusError

NAME = "stdlib_cloze"
_ITEMS = 200
_CHOICES = 4
_BEGINNING_WORDS = 48
_FEWEST_WORDS = 12
_REST_WORDS = range(5, 25)
_SENTENCE_END = re.compile(r"(?<=[a-z)][.!?])\s+(?=[A-Z])")
_PROSE = re.compile(r"[A-Za-z0-9 ,.;:()'\"`*/_=<>\[\]{}%#+-]+")
_YAML = """\
task: stdlib_cloze
dataset_path: json
dataset_kwargs:
  data_files:
    test: stdlib_cloze.jsonl
  cache_dir: {cache}
test_split: test
output_type: multiple_choice
doc_to_text: label
doc_to_choice: beginnings
doc_to_target: rest
num_fewshot: 0
metric_list:
  - metric: acc
metadata:
  version: 1.0
"""


@dataclass(frozen=True)
class _Cut:
    """A paragraph cut inside a sentence: what comes before, the rest of the sentence, and its document."""

    document: int
    beginning: str
    rest: str


def write_stdlib_task(folder: Path, *, seed: int = 0) -> Path:
    """Write the task's YAML and its items into a folder, and return the YAML's path."""
    lines = [json.dumps(item) + "\n" for item in stdlib_items(read_corpus("stdlib", side="evaluation").documents, seed)]
    (folder / f"{NAME}.jsonl").write_text("".join(lines), encoding="utf-8")
    path = folder / f"{NAME}.yaml"
    path.write_text(_YAML.format(cache=json.dumps(str(folder / "cache"))), encoding="utf-8")
    return path


def stdlib_items(documents: Sequence[str], seed: int) -> list[dict[str, object]]:
    """Return the items of documents: the rest of a sentence, four beginnings, and the place of the true one.

    Raises:
        CorpusError: if the documents have too few sentences.
    """
    generator = random.Random(seed)
    cuts = [cut for number, text in enumerate(documents) for cut in _cuts(number, text, generator)]
    if len(cuts) < _ITEMS or len({cut.document for cut in cuts}) <= _CHOICES:
        raise CorpusError(
            f"{NAME}: {len(cuts)} sentences to ask for, {_ITEMS} in more than {_CHOICES} documents needed."
        )
    return [_item(cut, cuts, generator) for cut in generator.sample(cuts, _ITEMS)]


def _item(cut: _Cut, cuts: Sequence[_Cut], generator: random.Random) -> dict[str, object]:
    others = [other for other in cuts if other.document != cut.document and other.rest != cut.rest]
    generator.shuffle(others)
    others.sort(key=lambda other: abs(len(other.beginning) - len(cut.beginning)))
    beginnings = [cut.beginning, *(other.beginning for other in others[: _CHOICES - 1])]
    generator.shuffle(beginnings)
    return {"rest": cut.rest, "beginnings": beginnings, "label": beginnings.index(cut.beginning)}


def _cuts(document: int, text: str, generator: random.Random) -> Iterator[_Cut]:
    """Cut each paragraph of plain prose once, in one of its sentences, the last words before the cut being shown."""
    for paragraph in text.split("\n\n"):
        joined = " ".join(paragraph.split())
        sentences = _SENTENCE_END.split(joined)
        if _PROSE.fullmatch(joined) and joined[0].isupper() and joined.endswith("."):
            place = generator.randrange(len(sentences))
            words = sentences[place].split()
            half = len(words) // 2
            before = [*" ".join(sentences[:place]).split(), *words[:half]]
            if len(before) >= _FEWEST_WORDS and len(words) - half in _REST_WORDS:
                yield _Cut(document, " ".join(before[-_BEGINNING_WORDS:]), " ".join(words[half:]))
