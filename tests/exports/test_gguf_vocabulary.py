"""A tokenizer as llama.cpp reads it: ids, types, scores that merge as the merges do, and refusals of what differs."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

from liptt_cli.errors import ModelError
from liptt_cli.exports.gguf_vocabulary import vocabulary
from sentencepiece_models import sentencepiece_model
from tiny_models import VOCABULARY, tiny_tokenizer

TEXT = ["a story of a storm at sea, of a stone and a star", "the sea is a sea of stones", "stars at the storm's end"]
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pieces_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE over pieces with byte fallback, as sentencepiece's are converted."""
    folder = tmp_path_factory.mktemp("pieces")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.save(str(folder / "tokenizer.json"))
    change(folder, lambda data: data.update(added_tokens=data["added_tokens"][:3]))
    change(folder, every_merge)
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def pieces(pieces_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pieces_once, tmp_path / "pieces"))


def every_merge(data: dict[str, Any]) -> None:
    """List each cut of a piece into two pieces, as a conversion from sentencepiece's scores does."""
    vocab = data["model"]["vocab"]
    order = list(dict.fromkeys(left + right for left, right in data["model"]["merges"]))
    data["model"]["merges"] = [
        [piece[:cut], piece[cut:]]
        for piece in order
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]


def change(directory: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    place = directory / "tokenizer.json"
    data = json.loads(place.read_text())
    how(data)
    place.write_text(json.dumps(data))


def told(directory: Path, rows: int = VOCABULARY) -> dict[str, Any]:
    return {entry.key.removeprefix("tokenizer.ggml."): entry.value for entry in vocabulary(directory, rows=rows)}


def test_byte_level_merges_and_special_tokens_are_told(byte_level: Path) -> None:
    found, ours = told(byte_level), tiny_tokenizer()
    data = json.loads((byte_level / "tokenizer.json").read_text())
    assert (found["model"], found["pre"]) == ("gpt2", "gpt-2")
    assert (found["add_bos_token"], found["add_eos_token"]) == (False, False)
    assert found["tokens"][: len(ours)] == ours.convert_ids_to_tokens(list(range(len(ours))))
    assert found["tokens"][len(ours) :] == [f"[PAD{number}]" for number in range(len(ours), VOCABULARY)]
    assert found["token_type"] == [3, 3, *[1] * (len(ours) - 2), *[5] * (VOCABULARY - len(ours))]
    assert (found["bos_token_id"], found["eos_token_id"]) == (0, 1)
    assert found["merges"] == [" ".join(pair) for pair in data["model"]["merges"]]
    assert "scores" not in found and "tokenizer.chat_template" not in found


@pytest.mark.parametrize(
    ("cut", "ignore_merges", "name"),
    [
        (WORDS, True, "llama-bpe"),
        (WORDS, False, "smaug-bpe"),
        (WORDS.replace("{1,3}", ""), False, "qwen2"),
        (None, False, "gpt-2"),
        ("digits", False, "smollm"),
    ],
)
def test_the_cut_is_told_by_the_name_that_llama_cpp_knows(
    byte_level: Path, cut: str | None, ignore_merges: bool, name: str
) -> None:
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
    digits = {"type": "Digits", "individual_digits": True}
    steps = {None: plain, "digits": {"type": "Sequence", "pretokenizers": [digits, plain]}}
    whole = {"type": "Sequence", "pretokenizers": [split, {**plain, "use_regex": False}]}
    change(byte_level, lambda data: data.update(pre_tokenizer=steps.get(cut, whole), normalizer={"type": "NFC"}))
    change(byte_level, lambda data: data["model"].update(ignore_merges=ignore_merges))
    assert told(byte_level)["pre"] == name


def test_special_tokens_fall_back_to_the_model_s_configuration(byte_level: Path) -> None:
    (byte_level / "tokenizer_config.json").write_text("{}")
    (byte_level / "config.json").write_text(json.dumps({"bos_token_id": None, "eos_token_id": [1, 0]}))
    found = told(byte_level)
    assert found["eos_token_id"] == 1 and "bos_token_id" not in found


def test_a_chat_template_is_taken_from_either_place(byte_level: Path) -> None:
    several = [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}]
    for said, text in (("z", "z"), (several, "y")):
        (byte_level / "tokenizer_config.json").write_text(json.dumps({"chat_template": said}))
        assert told(byte_level)["tokenizer.chat_template"] == text
    (byte_level / "chat_template.jinja").write_text("{{ messages }}")
    assert told(byte_level)["tokenizer.chat_template"] == "{{ messages }}"


def by_scores(text: str, found: dict[str, Any]) -> list[int]:
    """Return the ids of a text as llama.cpp merges it: the neighbours whose joined piece scores highest, first."""
    ids = {piece: number for number, piece in enumerate(found["tokens"])}
    symbols = list(("\u2581" if found["add_space_prefix"] else "") + text.replace(" ", "\u2581"))
    while True:
        joined = [a + b for a, b in itertools.pairwise(symbols)]
        pairs = [(-found["scores"][ids[text]], k) for k, text in enumerate(joined) if text in ids]
        if not pairs:
            break
        _, k = min(pairs)
        symbols[k : k + 2] = [symbols[k] + symbols[k + 1]]
    known = [[ids[s]] if s in ids else [ids[f"<0x{byte:02X}>"] for byte in s.encode()] for s in symbols]
    return [found["bos_token_id"]] * found["add_bos_token"] + [number for part in known for number in part]


@pytest.mark.parametrize("text", [*TEXT, "seas of  stone\n at Zürich", "", "aaaa sstt"])
def test_pieces_merged_by_their_scores_are_the_tokenizer_s_own(pieces: Path, text: str) -> None:
    found, ours = told(pieces, rows=340), Tokenizer.from_file(str(pieces / "tokenizer.json"))
    if text:
        assert by_scores(text, found) == ours.encode(text).ids
    assert (found["model"], found["pre"], found["add_bos_token"]) == ("llama", "default", True)
    assert found["token_type"][:4] == [2, 3, 3, 6] and found["token_type"][-1] == 5
    assert found["unknown_token_id"] == 0


def test_scores_of_a_sentencepiece_model_are_taken_instead_of_merges(pieces: Path) -> None:
    merges = json.loads((pieces / "tokenizer.json").read_text())["model"]["merges"]
    scores = {"".join(merges[0]): 0.0, "".join(merges[-1]): -7.0}
    (pieces / "tokenizer.model").write_bytes(sentencepiece_model(scores))
    change(pieces, lambda data: data["model"]["merges"].pop())
    found = told(pieces, rows=340)
    told_of = dict(zip(found["tokens"], found["scores"], strict=True))
    assert {piece: told_of[piece] for piece in scores} == scores
    assert told_of["<s>"] == -340.0


@pytest.mark.outside
def test_a_real_tokenizer_of_pieces_is_merged_alike(shared_data: Path) -> None:
    directory = shared_data / "models" / "stories260K" / "hf"
    ours = Tokenizer.from_file(str(directory / "tokenizer.json"))
    found = told(directory, rows=512)
    for text in (
        "Once upon a time, there was a little girl named Lily.",
        "She said: \u201cNo!\u201d  And 123 \u00e9.\n",
    ):
        assert by_scores(text, found) == ours.encode(text).ids


@pytest.mark.parametrize(("scheme", "prefixed"), [("first", True), ("always", True), ("never", False)])
def test_the_newer_spelling_of_spaces_is_understood(pieces: Path, scheme: str, prefixed: bool) -> None:
    cut = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    change(pieces, lambda data: data.update(normalizer=None, pre_tokenizer=cut))
    assert told(pieces, rows=340)["add_space_prefix"] is prefixed


REFUSED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a tokenizer of type WordLevel": lambda data: data["model"].update(type="WordLevel"),
    "a normaliser of type Lowercase": lambda data: data.update(normalizer={"type": "Lowercase"}),
    "text cut by": lambda data: data.update(pre_tokenizer={"type": "Whitespace"}),
    "text cut by '' with whole words": lambda data: data["model"].update(ignore_merges=True),
    "a text finished by": lambda data: data.update(post_processor={"type": "BertProcessing"}),
    "put before and after a text": lambda data: data.update(
        post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "</s>"}}, {"Sequence": {}}]}
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(byte_level: Path, words: str) -> None:
    change(byte_level, REFUSED[words])
    with pytest.raises(ModelError, match=words):
        told(byte_level)


REFUSED_PIECES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "merges that make one piece at several ranks": lambda data: data["model"]["merges"].append(
        data["model"]["merges"][0]
    ),
    "that do not merge, though": lambda data: data["model"]["merges"].pop(),
    "without a token for 1 of the 256 bytes": lambda data: data["model"]["vocab"].pop("<0x41>"),
    "without an unknown token": lambda data: data["model"].update(unk_token=None),
    "spaces written by": lambda data: data.update(normalizer={"type": "NFKC"}),
}


@pytest.mark.parametrize("words", REFUSED_PIECES)
def test_pieces_that_scores_would_merge_otherwise_are_refused(pieces: Path, words: str) -> None:
    change(pieces, REFUSED_PIECES[words])
    with pytest.raises(ModelError, match=words):
        told(pieces, rows=340)


def test_absent_broken_and_too_long_are_refused(byte_level: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has id 300, but the model has 300 rows"):
        told(byte_level, rows=300)
    (byte_level / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="no readable JSON"):
        told(byte_level)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        told(tmp_path / "nowhere")
