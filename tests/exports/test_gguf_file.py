"""A packed model as GGUF: read back to the bit, run by transformers' own reader, and refused when a byte flips."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exports.writing import NO_WINDOW, job_of
from liptt_cli.errors import IntegrityError
from liptt_cli.exports.carrying import Carried, GgufType
from liptt_cli.exports.gguf_file import NAME, numbers, read_back, write, written_bytes
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.kernels.dispatch import exact

TOKENS = torch.arange(24).reshape(2, 12) * 7 % 300
Make = Callable[..., Path]


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def logits_of(directory: Path, **how: str) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **how)
    with torch.no_grad(), exact():
        found: torch.Tensor = model(TOKENS).logits
    return found


@pytest.mark.parametrize("wanted", [None, "TQ1_0", "TQ2_0", "Q4_0", "Q8_0", "F16", "F32"])
def test_every_type_holds_the_packed_numbers_and_gives_the_packed_logits(
    make_signs: Make, tmp_path: Path, wanted: GgufType | None, packed_rows: Path
) -> None:
    """The model is built of the file's tensors alone, with the rows of q and k in our order again."""
    job = job_of(packed_rows, wanted=wanted)
    write(job, tmp_path / NAME)
    assert set(read_back(job, tmp_path / NAME).values()) == {0.0}
    assert set(types(tmp_path / NAME).values()) == {wanted or "Q1_0", "F32"}
    packed = AutoModelForCausalLM.from_pretrained(packed_rows)
    config = {key: value for key, value in packed.config.to_dict().items() if key != "quantization_config"}
    plain = AutoModelForCausalLM.from_config(type(packed.config).from_dict(config), dtype=torch.float32)
    report = plain.load_state_dict(numbers(job, tmp_path / NAME), strict=False)
    assert not report.unexpected_keys and set(report.missing_keys) <= {"lm_head.weight"}
    with torch.no_grad(), exact():
        torch.testing.assert_close(plain(TOKENS).logits, packed(TOKENS).logits, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="session")
def packed_rows(make_signs: Make) -> Path:
    """A packed Llama with biases, of one scale a row, which every type holds; widths are multiples of 256."""
    return make_signs("llama", group=10**6, intermediate_size=512, **NO_WINDOW["llama"])


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_transformers_own_reader_gives_the_packed_logits_and_tokens(
    make_signs: Make, tmp_path: Path, family: str
) -> None:
    """Names, keys, the order of rows and the vocabulary, as another program reads them."""
    packed = make_signs(family, **NO_WINDOW[family])
    write(job_of(packed, wanted="Q4_0"), tmp_path / NAME)
    found = logits_of(tmp_path, gguf_file=NAME)
    torch.testing.assert_close(found, logits_of(packed), rtol=1e-5, atol=1e-5)
    text = "Once upon a time, there were 12 dogs.\n\n  And the sea\u2019s."
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=NAME)
    assert theirs(text).input_ids == AutoTokenizer.from_pretrained(packed)(text).input_ids


def test_rows_that_no_block_fits_and_linears_left_alone_are_plain(make_signs: Make, tmp_path: Path) -> None:
    packed = make_signs("llama", group=64, intermediate_size=172, except_for=("up_proj",))
    job = job_of(packed, tables="Q8_0")
    write(job, tmp_path / NAME)
    differences, kinds = read_back(job, tmp_path / NAME), types(tmp_path / NAME)
    assert (kinds["blk.0.ffn_gate.weight"], kinds["blk.0.ffn_down.weight"]) == ("Q4_0", "F16")
    assert (kinds["token_embd.weight"], kinds["blk.1.ffn_up.weight"], kinds["blk.1.ffn_norm.weight"]) == (
        *("Q8_0", "Q8_0", "F32"),
    )
    assert differences["model.layers.0.mlp.down_proj.weight"] == 0.0 < differences["model.embed_tokens.weight"] < 0.02


def test_chains_and_all_other_forms_are_densified_in_the_plain_type(packed_llama: Path, tmp_path: Path) -> None:
    for wanted in ("F16", "BF16", "F32", "Q8_0"):
        job = job_of(packed_llama, wanted=wanted, tables=wanted)
        write(job, tmp_path / wanted)
        largest = max(read_back(job, tmp_path / wanted).values())
        assert set(types(tmp_path / wanted).values()) == {wanted, "F32"}
        assert largest == 0.0 if wanted == "F32" else 0.0 < largest < 0.02
        assert sum(written_bytes(job).values()) < (tmp_path / wanted).stat().st_size


def test_a_tied_head_is_not_written_twice(make_signs: Make, tmp_path: Path) -> None:
    packed = make_signs("qwen3", **NO_WINDOW["qwen3"])
    write(job_of(packed), tmp_path / NAME)
    assert "output.weight" not in types(tmp_path / NAME)


def test_factors_of_positions_are_a_tensor_of_their_own(make_signs: Make, tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 64
    job = job_of(make_signs("llama", rope_parameters=rope))
    write(job, tmp_path / NAME)
    read_back(job, tmp_path / NAME)
    tensor = next(each for each in gguf.GGUFReader(tmp_path / NAME).tensors if each.name == "rope_freqs.weight")
    assert tensor.data.tolist() == job.architecture.rope_factors.tolist()


def test_the_general_keys_tell_type_and_origin(signs_llama: Path, tmp_path: Path) -> None:
    write(job_of(signs_llama), tmp_path / NAME)
    reader = gguf.GGUFReader(tmp_path / NAME)
    found = {key: field.contents() for key, field in reader.fields.items()}
    assert found["general.architecture"] == "llama"
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q1_0
    assert found["general.quantization_version"] == 2
    assert "tiny-llama" in found["general.description"] and "method sign" in found["general.description"]
    assert len(found["tokenizer.ggml.tokens"]) == found["llama.vocab_size"] == 320


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "blk.0.ffn_down.weight", "token_embd.weight"])
def test_a_flipped_bit_is_found(signs_llama: Path, tmp_path: Path, name: str) -> None:
    job = job_of(signs_llama, tables="Q8_0")
    write(job, tmp_path / NAME)
    tensor = next(each for each in gguf.GGUFReader(tmp_path / NAME).tensors if each.name == name)
    data = bytearray((tmp_path / NAME).read_bytes())
    data[tensor.data_offset + 7] ^= 0x40
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name} read back is not"):
        read_back(job, tmp_path / NAME)


def test_a_number_that_float16_does_not_hold_is_refused(
    signs_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = PackedModel.tensor
    monkeypatch.setattr(PackedModel, "tensor", lambda model, name: tensor(model, name) * 1e6)
    write(job_of(signs_llama, tables="F16"), tmp_path / NAME)
    with pytest.raises(IntegrityError, match="a number of it does not fit F16; use BF16 or F32"):
        read_back(job_of(signs_llama, tables="F16"), tmp_path / NAME)
    write(job_of(signs_llama, tables="BF16"), tmp_path / "bf16")
    read_back(job_of(signs_llama, tables="BF16"), tmp_path / "bf16")


def test_another_key_or_type_is_found(signs_llama: Path, tmp_path: Path) -> None:
    job = job_of(signs_llama)
    write(job, tmp_path / NAME)
    with pytest.raises(IntegrityError, match=r"key general\.file_type read back"):
        read_back(job_of(signs_llama, wanted="Q4_0"), tmp_path / NAME)
    other = {**job.carried, "model.layers.0.mlp.up_proj": Carried("exact", "Q4_0")}
    with pytest.raises(IntegrityError, match=r"blk\.0\.ffn_up\.weight is of type Q1_0, not Q4_0"):
        read_back(replace(job, carried=other), tmp_path / NAME)
    entries = job.vocabulary[:-1] + (replace(job.vocabulary[-1], value=True),)
    with pytest.raises(IntegrityError, match=r"key tokenizer\.ggml\.add_eos_token read back"):
        read_back(replace(job, vocabulary=entries), tmp_path / NAME)


@pytest.mark.outside
def test_a_real_model_of_pieces_is_read_alike_by_transformers(
    shared_data: Path, make_packed_model: Make, tmp_path: Path
) -> None:
    """Grouped heads, tied embeddings, rows of 64 and 172, a tokenizer with byte fallback."""
    packed = make_packed_model(shared_data / "models" / "stories260K" / "hf", tmp_path / "packed")
    write(job_of(packed, wanted="F32"), tmp_path / NAME)
    torch.testing.assert_close(logits_of(tmp_path, gguf_file=NAME), logits_of(packed), rtol=1e-4, atol=1e-4)
    text = "Once upon a time, Lily said: \u201cNo!\u201d"
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=NAME)
    assert theirs(text).input_ids == AutoTokenizer.from_pretrained(packed)(text).input_ids
