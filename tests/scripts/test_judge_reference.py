"""The judge's three tests on a tiny untrained Llama: what is measured, what is written, and when it qualifies."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import judge_reference
from judge_reference import judge, main, model_nats, read_held_out, signs_with_scales

WORDS = ["<s>", "the", "cat", "sat", "on", "a", "mat", "."]
FACTS = {
    "preset": "tiny", "vocabulary": 8, "width": 16, "intermediate": 24, "blocks": 2, "heads": 2, "window_tokens": 6,
    "batch_windows": 2, "steps": 10, "matrix_rate": 0.02, "vector_rate": 0.003, "decay_share": 0.5, "warmup_steps": 2,
    "seed": 0, "parameters": 1000, "tokens_seen": 25_000, "epochs": 3.0, "final_training_nats": 2.0,
    "corpus_sha256": {"train.txt": "00ff"}, "python": "3.11", "torch": "2.13",
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of eight words that puts <s> first."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")


def llama() -> LlamaForCausalLM:
    """Return an untrained model of two blocks."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, tie_word_embeddings=True)).eval()


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Two documents, 13 tokens with their <s>."""
    path = tmp_path / "valid.txt.gz"
    text = "the cat sat on a mat .\n<|endoftext|>\na cat sat .\n<|endoftext|>\n"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_windows_predict_every_token_but_the_first_once(held_out: Path) -> None:
    """Windows share one token; the bytes are those of the documents without their separators."""
    text = read_held_out(held_out, tokenizer(), 6)
    assert (text.documents, len(text.tokens), text.text_bytes) == (2, 13, 33)
    assert np.concatenate([window[1:] for window in text.windows()]).tolist() == text.tokens[1:].tolist()
    even = text.summary(np.full(12, 2.0))
    assert even == {"nats": 2.0, "bits_per_byte": round(11 * 2.0 / np.log(2) / 33, 4)}  # the second <s> is not counted


def test_model_nats_equal_a_direct_forward(held_out: Path) -> None:
    """Batched windows and a shorter last one give what the plain formula gives."""
    text = read_held_out(held_out, tokenizer(), 5)
    model = llama()
    expected = []
    for window in text.windows():
        ids = torch.from_numpy(window)[None]
        log_probability = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        expected += [-log_probability[place, token].item() for place, token in enumerate(window[1:])]
    assert model_nats(model, text) == pytest.approx(expected, abs=1e-5)


def test_signs_keep_a_rank_one_magnitude_and_are_the_best_of_their_kind() -> None:
    """A rank-one magnitude comes back as it was; on a general weight no scaling of rows or columns lowers the error."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(6, 5, generator=generator).sign()
    exact = signs * torch.outer(torch.arange(1.0, 7.0), torch.arange(2.0, 7.0))
    assert torch.allclose(signs_with_scales(exact), exact, rtol=1e-5)
    weight = torch.randn(6, 5, generator=generator)
    rounded = signs_with_scales(weight)
    assert torch.equal(rounded.sign(), weight.sign())
    for axis in (0, 1):
        best_gain = (weight * rounded).sum(axis) / rounded.square().sum(axis)
        assert torch.allclose(best_gain, torch.ones_like(best_gain), atol=1e-5)


def test_a_model_qualifies_only_when_all_three_tests_pass() -> None:
    """Each bar by itself turns the verdict."""
    measured = {"held_out": {"model": {"nats": 3.0}, "trigram": {"nats": 3.5}}}
    facts = {"tokens_seen": 2000, "parameters": 100}
    assert judge(measured, {"nats": 4.0}, facts)["qualifies"]
    assert not judge(measured, {"nats": 3.6}, facts)["qualifies"]
    assert not judge(measured, {"nats": 4.0}, {**facts, "parameters": 101})["qualifies"]
    measured["held_out"]["trigram"]["nats"] = 3.05
    assert not judge(measured, {"nats": 4.0}, facts)["qualifies"]


def test_the_command_writes_verdict_and_card(
    tmp_path: Path, held_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained model fails, and both files say so."""
    folder = tmp_path / "model"
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(FACTS))
    np.save(tmp_path / "tokens.npy", np.tile(np.arange(8, dtype=np.uint16), 20))
    status = main([str(folder), "--tokens", str(tmp_path / "tokens.npy"), "--held-out", str(held_out)])
    verdict = json.loads((folder / "judge.json").read_text())
    card = (folder / "README.md").read_text()
    assert status == 1
    assert verdict["qualifies"] is False
    assert verdict["tests"]["tokens_per_parameter"] == {"found": 25.0, "at_least": 20.0, "passed": True}
    assert f"{verdict['held_out']['model']['nats']:.4f} nats per token" in capsys.readouterr().out
    assert card.startswith("---\nlicense: apache-2.0\n")
    for fact in ("25,000", "It does **not** qualify.", "CC-BY", "Python Software Foundation", "00ff"):
        assert fact in card


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    """With the file's name and what it should hold."""
    (tmp_path / "empty.txt").write_text("\n<|endoftext|>\n")
    with pytest.raises(SystemExit, match=r"empty\.txt: no text"):
        read_held_out(tmp_path / "empty.txt", tokenizer(), 4)


def test_signing_spares_the_head() -> None:
    """Every linear of the blocks has one magnitude a row and column; an untied head is left alone."""
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    head = model.lm_head.weight.clone()
    judge_reference.replace_by_signs(model)
    assert torch.equal(model.lm_head.weight, head)
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert torch.linalg.matrix_rank(module.weight.abs(), rtol=1e-4) == 1, name
