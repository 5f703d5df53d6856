"""Train the small Llama that the repository ships as its reference model, from plain text.

    python scripts/pretrain_reference.py --work ~/reference CORPUS/train-*.txt.gz

The text files are joined with the calibration side of the standard-library corpus, a byte-level BPE
tokenizer is trained on them, then a Llama: Muon for the matrices (torch.optim.Muon), AdamW for the
embedding and the norms, a warm-up, a plateau, and a linear decay to zero. Killed at any point, the same
command goes on from the last checkpoint. At the end the model, its tokenizer and `training.json` stand
in WORK/model, and `scripts/judge_reference.py` tests whether it qualifies as a judge.

Documents in a text file end with a line `<|endoftext|>`; a file without such lines is one document.
"""

import argparse
import gzip
import hashlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from liptt_cli.calibration.standard_library import standard_library

SEPARATOR = "<|endoftext|>"
BEGIN, END = "<s>", "</s>"


@dataclass(frozen=True)
class Preset:
    """One size of model and of training."""

    vocabulary: int
    width: int
    intermediate: int
    blocks: int
    heads: int
    window_tokens: int
    batch_windows: int
    steps: int
    matrix_rate: float
    vector_rate: float
    stdlib_repeats: int
    decay_share: float = 0.5
    warmup_steps: int = 100


PRESETS = {
    "smoke": Preset(384, 32, 64, 1, 2, 32, 4, 12, 0.02, 3e-3, 1, warmup_steps=2),
    "cpu": Preset(2048, 192, 512, 4, 6, 256, 32, 5400, 0.02, 4e-3, 2),
    "gpu": Preset(4096, 320, 896, 8, 5, 512, 64, 7600, 0.02, 3e-3, 2),
}


def main() -> None:
    """Parse the command line, then build data, tokenizer and model in the work folder."""
    arguments = parse(sys.argv[1:])
    preset = PRESETS[arguments.preset]
    arguments.work.mkdir(parents=True, exist_ok=True)
    documents = read_documents(arguments.corpus, preset)
    tokenizer = load_or_train_tokenizer(documents, preset, arguments.work)
    tokens = load_or_encode(documents, tokenizer, arguments.work)
    train(tokens, tokenizer, preset, arguments)


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path, help="text files, .txt or .txt.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and the result")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint-steps", type=int, default=100)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args(words)


def read_documents(paths: list[Path], preset: Preset) -> list[str]:
    """Return all documents; the standard library's stand in as often as the preset says."""
    documents = standard_library("calibration") * preset.stdlib_repeats
    for path in paths:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf8")
        documents += [part.strip() for part in text.split(f"\n{SEPARATOR}") if part.strip()]
    return documents


def load_or_train_tokenizer(documents: list[str], preset: Preset, work: Path) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE that puts `<s>` first, or load the one of an earlier start."""
    path = work / "tokenizer.json"
    if not path.exists():
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=preset.vocabulary,
            special_tokens=[BEGIN, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(documents[:: max(1, len(documents) // 2500)], trainer)
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, 0)]
        )
        bpe.save(str(path))
    return PreTrainedTokenizerFast(tokenizer_file=str(path), bos_token=BEGIN, eos_token=END)


def load_or_encode(documents: list[str], tokenizer: PreTrainedTokenizerFast, work: Path) -> np.ndarray:
    """Return all documents as one uint16 array, each begun by `<s>`, or the array of an earlier start."""
    path = work / "tokens.npy"
    if not path.exists():
        order = np.random.default_rng(0).permutation(len(documents))
        pieces = []
        for start in range(0, len(order), 256):
            batch = tokenizer([documents[i] for i in order[start : start + 256]])["input_ids"]
            pieces += [np.asarray(ids, dtype=np.uint16) for ids in batch]
        temporary = work / "tokens.partial.npy"
        np.save(temporary, np.concatenate(pieces))
        temporary.replace(path)
    return np.load(path, mmap_mode="r")


def windows(tokens: np.ndarray, step: int, preset: Preset, seed: int) -> torch.Tensor:
    """Return the batch of one step: each epoch visits every window once, at an offset of its own."""
    per_epoch = (len(tokens) - 1) // preset.window_tokens - 1
    first = step * preset.batch_windows
    rows = []
    for number in range(first, first + preset.batch_windows):
        epoch, place = divmod(number, per_epoch)
        generator = np.random.default_rng((seed, epoch))
        offset = int(generator.integers(preset.window_tokens))
        start = offset + _order(per_epoch, seed, epoch)[place] * preset.window_tokens
        rows.append(tokens[start : start + preset.window_tokens + 1].astype(np.int64))
    return torch.from_numpy(np.stack(rows))


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    key = (count, seed, epoch)
    if key not in _orders:
        _orders.clear()
        _orders[key] = np.random.default_rng((seed, epoch, 1)).permutation(count)
    return _orders[key]


def build(preset: Preset, seed: int) -> LlamaForCausalLM:
    """Return an untrained Llama of the preset's size, embedding and head tied."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=preset.vocabulary,
            hidden_size=preset.width,
            intermediate_size=preset.intermediate,
            num_hidden_layers=preset.blocks,
            num_attention_heads=preset.heads,
            num_key_value_heads=preset.heads,
            max_position_embeddings=2 * preset.window_tokens,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def share_of_rate(step: int, preset: Preset) -> float:
    """Return the schedule's factor in 0..1: warm-up, plateau, linear decay to zero."""
    decay_steps = preset.decay_share * preset.steps
    return min(1.0, (step + 1) / preset.warmup_steps, (preset.steps - step) / decay_steps)


def train(
    tokens: np.ndarray, tokenizer: PreTrainedTokenizerFast, preset: Preset, arguments: argparse.Namespace
) -> None:
    """Train to the preset's last step, from the newest checkpoint if there is one."""
    model = build(preset, arguments.seed).to(arguments.device)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    vectors = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=preset.matrix_rate, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(vectors, lr=preset.vector_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [preset.matrix_rate, preset.vector_rate]
    checkpoint = arguments.work / "checkpoint.pt"
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]

    def nats(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(arguments.device).type, dtype=torch.bfloat16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    loss_of = torch.compile(nats) if arguments.compile else nats
    began, seen, running = time.monotonic(), 0, math.nan
    while step < preset.steps:
        batch = windows(tokens, step, preset, arguments.seed).to(arguments.device)
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share_of_rate(step, preset)
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        seen += preset.batch_windows * preset.window_tokens
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if not math.isfinite(running):
            sys.exit(f"step {step}: the loss is {running}; lower the preset's rates")
        if step % arguments.checkpoint_steps == 0 or step == preset.steps:
            speed = seen / (time.monotonic() - began)
            left = (preset.steps - step) * preset.batch_windows * preset.window_tokens / speed / 60
            print(f"step {step}/{preset.steps} nats {running:.4f} {speed:.0f} tokens/s {left:.0f} min left", flush=True)
            save_checkpoint(checkpoint, model, optimizers, step)
    folder = arguments.work / "model"
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = describe(model, preset, arguments, training_tokens=len(tokens), nats=running)
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"wrote {folder}")


def save_checkpoint(path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Write the checkpoint beside and rename it, so that a kill leaves the old or the new one."""
    temporary = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
    torch.save(state, temporary)
    temporary.replace(path)


def describe(
    model: LlamaForCausalLM, preset: Preset, arguments: argparse.Namespace, *, training_tokens: int, nats: float
) -> dict[str, object]:
    """Return the facts of the training that the model card is written from."""
    seen = preset.steps * preset.batch_windows * preset.window_tokens
    return {
        "preset": arguments.preset,
        **asdict(preset),
        "seed": arguments.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_seen": seen,
        "epochs": round(seen / training_tokens, 3),
        "final_training_nats": round(nats, 4),
        "corpus_sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in arguments.corpus},
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
