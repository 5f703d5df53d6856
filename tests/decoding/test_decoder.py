"""The lean loop against transformers: the same logits, whatever the family, the chunk and the window."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liptt_cli  # noqa: F401  # registers the packed format
from conftest import MakeTinyModel
from liptt_cli.decoding.decoder import Decoder
from liptt_cli.errors import ConfigError
from liptt_cli.kernels import native
from liptt_cli.models import hub

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
TOKENS = 21  # longer than the windows of 8 and the chunks of 6
NEW = 5


def loaded(directory: Path, dtype: torch.dtype = torch.float32) -> Any:
    return hub.load_model(hub.locate(str(directory)), dtype=dtype)


def some_ids(tokens: int = TOKENS + NEW) -> list[int]:
    return [int(i) for i in torch.randint(2, 320, (tokens,), generator=torch.Generator().manual_seed(3))]


def by_transformers(model: Any, ids: list[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids])).logits[0].float()
    return logits


def by_the_loop(decoder: Decoder, ids: list[int], *, prompt: int) -> Tensor:
    return torch.stack([decoder.prefill(ids[:prompt]), *(decoder.step(token) for token in ids[prompt:])])


def assert_same(model: Any, **options: int) -> None:
    ids = some_ids()
    expected = by_transformers(model, ids)[TOKENS - 1 :]
    decoder = Decoder(model, capacity_tokens=len(ids), **options)
    for _ in range(2):  # the second time, the cache holds what an earlier prompt left
        found = by_the_loop(decoder, ids, prompt=TOKENS)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5 * expected.abs().max().item())


@pytest.mark.parametrize("chunk", [6, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(
    family: str, chunk: int, make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    assert_same(loaded(make_tiny_model(family, tmp_path / family)), chunk_tokens=chunk)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("rope", [LLAMA3, YARN], ids=["llama3", "yarn"])
def test_the_scaling_of_rotary_positions_is_the_model_s(
    rope: dict[str, Any], make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    assert_same(loaded(make_tiny_model("llama", tmp_path / "scaled", rope_parameters=rope)))


def test_biases_of_every_linear_count(make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    assert_same(loaded(make_tiny_model("llama", tmp_path / "biased", attention_bias=True, mlp_bias=True)))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_models_too(
    family: str, make_tiny_model: MakeTinyModel, make_packed_model: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LIPTT_KERNEL", "torch")
    dense = make_tiny_model(family, tmp_path / family)
    assert_same(loaded(make_packed_model(dense, tmp_path / "packed")), chunk_tokens=6)


def test_bfloat16_stays_within_its_rounding(tiny_llama: Path) -> None:
    exact = by_transformers(loaded(tiny_llama), some_ids())[TOKENS - 1 :]
    decoder = Decoder(loaded(tiny_llama, torch.bfloat16), capacity_tokens=TOKENS + NEW)
    found = by_the_loop(decoder, some_ids(), prompt=TOKENS)
    assert (found - exact).norm() < 0.03 * exact.norm()


def test_joining_holds_nothing_twice(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    Decoder(model, capacity_tokens=4)
    attention = model.model.layers[0].self_attn
    stores = {part.weight.untyped_storage().data_ptr() for part in (attention.q_proj, attention.k_proj)}
    assert len(stores) == 1
    assert attention.q_proj.weight.shape == (32, 32)


def test_too_many_tokens_and_none_are_refused(tiny_llama: Path) -> None:
    decoder = Decoder(loaded(tiny_llama), capacity_tokens=4)
    with pytest.raises(ValueError, match="5 tokens, but there is room for 4"):
        decoder.prefill([2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="no tokens"):
        decoder.prefill([])


@pytest.mark.parametrize("family", ["opt", "trellis"])
def test_other_families_are_refused(family: str, make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'{family}' is not one of llama, mistral, qwen2, qwen3; transformers does"):
        Decoder(loaded(make_tiny_model(family, tmp_path / family)), capacity_tokens=4)


@pytest.mark.outside
def test_a_trained_model_with_grouped_heads(shared_data: Path) -> None:
    assert_same(loaded(shared_data / "models" / "stories260K" / "hf"))


def test_a_home_made_part_is_refused(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    model.model.layers[1].mlp.extra = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="block 1 holds other modules"):
        Decoder(model, capacity_tokens=4)


def test_while_packed_tokens_are_made_torch_has_one_thread_and_the_kernels_keep_theirs(
    packed_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder(loaded(packed_llama), capacity_tokens=4)
    seen, head = [], decoder._head

    def watched(last: Tensor) -> Tensor:
        seen.append((torch.get_num_threads(), native.threads()))
        return head(last)

    monkeypatch.setattr(native, "thread_limit", lambda: 8)
    monkeypatch.setattr(decoder, "_head", watched)
    torch.set_num_threads(2)
    try:
        decoder.step(2)
        assert seen == [(1, 2)]
        assert (torch.get_num_threads(), native.threads()) == (2, 2)
    finally:
        torch.set_num_threads(1)
