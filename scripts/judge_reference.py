"""Test whether a small trained model has learnt enough to tell compression methods apart.

    python scripts/judge_reference.py WORK/model --tokens WORK/tokens.npy --held-out CORPUS/valid.txt.gz

Three tests, each with its bar (`BARS`):

1. held-out loss: nats per token below an interpolated Kneser-Ney trigram that was trained on the model's own training
   tokens and is asked for the same tokens in the same windows;
2. tokens seen per parameter (from MODEL/training.json);
3. what plain sign costs in held-out nats: every linear but the head becomes sign(W) * u v^T, where u v^T is the best
   rank-one approximation of |W|, that is row and column scales.

The held-out documents are joined, each begun by the tokenizer's `<s>`, and cut into windows of the length trained on;
neighbours share one token, so that every token but the first is predicted once. Predictions of `<s>` itself are left
out. Writes MODEL/judge.json and the model card MODEL/README.md; the exit status is 1 when a test fails.
"""

import argparse
import gzip
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kneser_ney import KneserNey, train_kneser_ney, window_nats
from model_card import write_model_card
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

SEPARATOR = "<|endoftext|>"
BARS = {"nats_below_trigram": 0.1, "tokens_per_parameter": 20.0, "sign_costs_nats": 0.7}
BATCH_WINDOWS = 16


@dataclass(frozen=True)
class HeldOut:
    """A text as the model reads it."""

    documents: int
    text_bytes: int
    tokens: NDArray[np.int64]
    begin: int
    window_tokens: int

    def windows(self) -> list[NDArray[np.int64]]:
        """Return windows of window_tokens predictions each; the last may be shorter."""
        starts = range(0, len(self.tokens) - 1, self.window_tokens)
        return [self.tokens[start : start + self.window_tokens + 1] for start in starts]

    def summary(self, nats: NDArray[np.float64]) -> dict[str, float]:
        """Return nats per token, and bits per byte, from -ln P of every token but the first."""
        counted = nats[self.tokens[1:] != self.begin]
        bits_per_byte = counted.sum() / math.log(2) / self.text_bytes
        return {"nats": round(float(counted.mean()), 4), "bits_per_byte": round(float(bits_per_byte), 4)}


def main(words: list[str]) -> int:
    """Judge the model, write judge.json and README.md into its folder, and return the exit status."""
    arguments = parse(words)
    facts = json.loads((arguments.model / "training.json").read_text(encoding="utf8"))
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    trigram = train_kneser_ney(np.load(arguments.tokens, mmap_mode="r"), vocabulary=model.config.vocab_size)
    texts = {"held_out": read_held_out(arguments.held_out, tokenizer, facts["window_tokens"])}
    if arguments.wikitext:
        texts["wikitext"] = read_held_out(arguments.wikitext, tokenizer, facts["window_tokens"])
    measured = {name: measure(model, trigram, text) for name, text in texts.items()}
    replace_by_signs(model)
    signed = texts["held_out"].summary(model_nats(model, texts["held_out"]))
    verdict = judge(measured, signed, facts)
    (arguments.model / "judge.json").write_text(json.dumps(verdict, indent=1) + "\n", encoding="utf8")
    write_model_card(arguments.model, facts, verdict)
    sys.stdout.write(describe(verdict))
    return 0 if verdict["qualifies"] else 1


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder with the model, its tokenizer and training.json")
    parser.add_argument("--tokens", type=Path, required=True, help="the .npy array of training tokens")
    parser.add_argument("--held-out", type=Path, required=True, help="text file, .txt or .gz")
    parser.add_argument("--wikitext", type=Path, help="a second text, measured and told but not judged")
    return parser.parse_args(words)


def read_held_out(path: Path, tokenizer: PreTrainedTokenizerFast, window_tokens: int) -> HeldOut:
    """Return the file's documents, which end with a line `<|endoftext|>`, as one stream of tokens."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    documents = [part.strip() for part in raw.decode("utf8").split(f"\n{SEPARATOR}") if part.strip()]
    if not documents:
        raise SystemExit(f"{path}: no text; give a file with documents that end with a line {SEPARATOR}")
    pieces = tokenizer(documents)["input_ids"]
    text_bytes = sum(len(document.encode()) for document in documents)
    tokens = np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces])
    return HeldOut(len(documents), text_bytes, tokens, tokenizer.bos_token_id, window_tokens)


def measure(model: PreTrainedModel, trigram: KneserNey, text: HeldOut) -> dict[str, Any]:
    """Return what model and trigram lose on the same tokens."""
    counted = np.concatenate([window_nats(trigram, window) for window in text.windows()])
    return {
        "documents": text.documents,
        "tokens": len(text.tokens),
        "bytes": text.text_bytes,
        "model": text.summary(model_nats(model, text)),
        "trigram": text.summary(counted),
    }


@torch.inference_mode()
def model_nats(model: PreTrainedModel, text: HeldOut) -> NDArray[np.float64]:
    """Return -ln P of every token but the first, window by window."""
    windows = [torch.from_numpy(window) for window in text.windows()]
    last = windows.pop() if len(windows[-1]) < len(windows[0]) else None
    batches = [torch.stack(windows[start : start + BATCH_WINDOWS]) for start in range(0, len(windows), BATCH_WINDOWS)]
    if last is not None:
        batches.append(last[None])
    losses = []
    for batch in batches:
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits.float().flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="none"))
    return torch.cat(losses).double().numpy()


@torch.no_grad()
def replace_by_signs(model: PreTrainedModel) -> None:
    """Round every linear but the head to signs with row and column scales, in place."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
            module.weight.copy_(signs_with_scales(module.weight))


def signs_with_scales(weight: torch.Tensor) -> torch.Tensor:
    """Return sign(W) * u v^T, u v^T the best rank-one approximation of |W|; sign(0) is +1."""
    left, values, right = torch.linalg.svd(weight.abs(), full_matrices=False)
    magnitude = values[0] * torch.outer(left[:, 0], right[0])
    return torch.where(weight < 0, -magnitude, magnitude)


def judge(measured: dict[str, Any], signed: dict[str, float], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements with the three tests beside them."""
    held_out = measured["held_out"]
    found = {
        "nats_below_trigram": held_out["trigram"]["nats"] - held_out["model"]["nats"],
        "tokens_per_parameter": facts["tokens_seen"] / facts["parameters"],
        "sign_costs_nats": signed["nats"] - held_out["model"]["nats"],
    }
    tests = {
        name: {"found": round(value, 4), "at_least": BARS[name], "passed": value >= BARS[name]}
        for name, value in found.items()
    }
    return {"qualifies": all(test["passed"] for test in tests.values()), "tests": tests, "sign": signed, **measured}


def describe(verdict: dict[str, Any]) -> str:
    """Return the verdict in a few plain lines."""
    lines = []
    for name in ("held_out", "wikitext"):
        for reader in ("model", "trigram") if name in verdict else ():
            loss = verdict[name][reader]
            lines.append(
                f"{name} {reader}: {loss['nats']:.4f} nats per token, {loss['bits_per_byte']:.4f} bits per byte"
            )
    for name, test in verdict["tests"].items():
        word = "passed" if test["passed"] else "FAILED"
        lines.append(f"{word} {name}: {test['found']:.4g}, at least {test['at_least']:g}")
    lines.append("qualifies as a judge" if verdict["qualifies"] else "does not qualify as a judge")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
