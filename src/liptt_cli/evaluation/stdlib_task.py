"""`stdlib_cloze`: a small multiple-choice task made at run time from the standard library's evaluation side.

An item shows the start of a paragraph and asks for its true continuation, the rest of a sentence, among
four. The wrong ones are the rests of sentences of other documents that have nearly as many characters,
so that the sum of log-probabilities does not favour the shortest. Chance is 25 %. The items depend on the
Python version, as the corpus does, and on the seed.
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
_CONTEXT_WORDS = 48
_FEWEST_CONTEXT_WORDS = 12
_REST_WORDS = range(5, 25)
_SENTENCE_END = re.compile(r"(?<=[a-z)][.!?])\s+(?=[A-Z])")
_PROSE = re.compile(r"[A-Za-z0-9 ,.;:()'\"`*/_-]+")
_YAML = """\
task: stdlib_cloze
dataset_path: json
dataset_kwargs:
  data_files:
    test: stdlib_cloze.jsonl
  cache_dir: {cache}
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: label
num_fewshot: 0
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1.0
"""


@dataclass(frozen=True)
class _Cut:
    """A paragraph cut inside a sentence: what comes before, the rest of the sentence, and its document."""

    document: int
    context: str
    rest: str


def write_stdlib_task(folder: Path, *, seed: int = 0) -> Path:
    """Write the task's YAML and its items into a folder, and return the YAML's path."""
    lines = [json.dumps(item) + "\n" for item in stdlib_items(read_corpus("stdlib", side="evaluation").documents, seed)]
    (folder / f"{NAME}.jsonl").write_text("".join(lines), encoding="utf-8")
    path = folder / f"{NAME}.yaml"
    path.write_text(_YAML.format(cache=json.dumps(str(folder / "cache"))), encoding="utf-8")
    return path


def stdlib_items(documents: Sequence[str], seed: int) -> list[dict[str, object]]:
    """Return the items of documents: context, choices, and the label of the true choice.

    Raises:
        CorpusError: if the documents have too few sentences.
    """
    generator = random.Random(seed)
    cuts = [cut for number, text in enumerate(documents) for cut in _cuts(number, text, generator)]
    if len(cuts) < _ITEMS or len({cut.document for cut in cuts}) <= _CHOICES:
        raise CorpusError(f"{NAME}: {len(cuts)} sentences to ask for, {_ITEMS} in more than {_CHOICES} documents needed.")
    return [_item(cut, cuts, generator) for cut in generator.sample(cuts, _ITEMS)]


def _item(cut: _Cut, cuts: Sequence[_Cut], generator: random.Random) -> dict[str, object]:
    others = [other for other in cuts if other.document != cut.document]
    generator.shuffle(others)
    others.sort(key=lambda other: abs(len(other.rest) - len(cut.rest)))
    choices = [cut.rest]
    for other in others:
        if len(choices) < _CHOICES and other.rest not in choices:
            choices.append(other.rest)
    generator.shuffle(choices)
    return {"context": cut.context, "choices": choices, "label": choices.index(cut.rest)}


def _cuts(document: int, text: str, generator: random.Random) -> Iterator[_Cut]:
    """Cut each paragraph of plain prose once, in one of its sentences, the last words before the cut being shown."""
    for paragraph in text.split("\n\n"):
        joined = " ".join(paragraph.split())
        sentences = _SENTENCE_END.split(joined)
        if _PROSE.fullmatch(joined) and joined[0].isupper() and joined.endswith("."):
            place = generator.randrange(len(sentences))
            words = sentences[place].split()
            half = len(words) // 2
            context = [*" ".join(sentences[:place]).split(), *words[:half]]
            if len(context) >= _FEWEST_CONTEXT_WORDS and len(words) - half in _REST_WORDS:
                yield _Cut(document, " ".join(context[-_CONTEXT_WORDS:]), " ".join(words[half:]))
