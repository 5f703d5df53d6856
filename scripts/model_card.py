"""The model card of the reference model, written from what its training and its judgement recorded.

The texts are templates for `str.format_map`: names in braces are keys of training.json or of judge.json.
"""

from pathlib import Path
from typing import Any

FRONT = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, tiny, compression-test]
---
"""

DATA = """## Data and credits

English plain text, and the documentation that every CPython carries. No text is included here.

- Books of 1930 or earlier, in the public domain in the USA, by way of
  [mlschmitt/classic-books-markdown](https://github.com/mlschmitt/classic-books-markdown) (commit 94488272).
- Children's stories under CC-BY from African Storybook
  ([global-asp/asp-source](https://github.com/global-asp/asp-source), commit 99e02236) and from Pratham Books
  ([global-asp/pb-source](https://github.com/global-asp/pb-source), commit 9ea530df). Only stories whose own licence
  line says CC-BY were used; those repositories name each story's authors, illustrators and translators. Thank you.
- CPython's documentation topics and docstrings, Python Software Foundation License Version 2 (the calibration half of
  the standard-library corpus; the other half was never trained on).

The weights are under the Apache License 2.0, like the repository.
"""

USE = """## Intended use and limits

It exists to compare compression methods in minutes on a processor: quality is read as *excess nats per token over this
model*. It writes plausible old-fashioned English and pieces of Python documentation, and knows nothing: no facts, no
instructions, no code that works. It repeats the views of the books that it read, which are of their time. Nothing was
filtered for harm. Do not use its text for anything, and do not carry a conclusion about it over to a large model
without measuring there.
"""

WHAT = """# A small reference model of {parameters:,} parameters

A Llama of {blocks} blocks, width {width}, feed-forward width {intermediate}, {heads} heads, vocabulary {vocabulary},
embedding and head tied, in bfloat16, trained from scratch on windows of {window_tokens} tokens.

| | |
| --- | --- |
| tokens seen | {tokens_seen:,} ({epochs:g} epochs) |
"""

LOSS = "| {name} | {nats:.4f} nats per token, {bits_per_byte:.4f} bits per byte |\n"

BAR = """## Is it a judge?

A model that has learnt little makes every compression method look good, so a reference model has to pass three tests.

| test | found | at least | passed |
| --- | --- | --- | --- |
"""

HELD_OUT = """
Held out are {held_out[documents]} documents ({held_out[tokens]:,} tokens, {held_out[bytes]:,} bytes) of books and
stories that are in no training file. The trigram loses {held_out[trigram][nats]:.4f} nats per token there, and the
model rounded to signs {sign[nats]:.4f}.
"""

MAKING = """## How it was made

    python scripts/pretrain_reference.py --work WORK --preset {preset} --seed {seed} {files}
    python scripts/judge_reference.py WORK/model --tokens WORK/tokens.npy --held-out valid.txt.gz

{steps:,} steps of {batch_windows} windows; Muon (rate {matrix_rate:g}) for the matrices, AdamW (rate {vector_rate:g})
for the embedding and the norms; {warmup_steps} steps of warm-up, a plateau, a linear decay to zero over the last
{decay_share:.0%}. Python {python}, torch {torch}. The last training loss was {final_training_nats:.4f} nats per token.

| training file | sha256 |
| --- | --- |
"""

TESTS = {
    "nats_below_trigram": "held-out nats per token below a Kneser-Ney trigram on the same training tokens",
    "tokens_per_parameter": "training tokens seen per parameter",
    "sign_costs_nats": "held-out nats lost to plain sign with row and column scales on all block linears",
}


def write_model_card(folder: Path, facts: dict[str, Any], verdict: dict[str, Any]) -> None:
    """Write FOLDER/README.md from training.json (`facts`) and judge.json (`verdict`)."""
    parts = [FRONT, WHAT.format_map(facts) + _losses(verdict), _tests(verdict), _making(facts), DATA, USE]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf8")


def _losses(verdict: dict[str, Any]) -> str:
    names = {"held_out": "held-out loss", "wikitext": "loss on wikitext-2"}
    return "".join(LOSS.format(name=names[key], **verdict[key]["model"]) for key in names if key in verdict)


def _tests(verdict: dict[str, Any]) -> str:
    rows = "".join(
        f"| {TESTS[name]} | {test['found']:.4g} | {test['at_least']:g} | {'yes' if test['passed'] else '**no**'} |\n"
        for name, test in verdict["tests"].items()
    )
    conclusion = "It qualifies." if verdict["qualifies"] else "It does **not** qualify."
    return BAR + rows + HELD_OUT.format_map(verdict) + f"\n{conclusion}\n"


def _making(facts: dict[str, Any]) -> str:
    rows = "".join(f"| {name} | `{digest}` |\n" for name, digest in facts["corpus_sha256"].items())
    return MAKING.format(files=" ".join(facts["corpus_sha256"]), **facts) + rows
