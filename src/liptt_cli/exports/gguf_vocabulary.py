"""A tokenizer.json as llama.cpp's `tokenizer.ggml.*` keys. Reads JSON only; no tokenizer runs.

Two kinds are told. Byte-level BPE (`gpt2`) needs its merges, and the name of a way to cut text that llama.cpp knows by
heart, so the cutting rule must be one of those. BPE over sentencepiece's pieces with byte fallback (`llama`) is merged
there by the pieces' scores alone: those of `tokenizer.model`, else the merges must be those that scores give. Anything
else is refused: a tokenizer that is nearly right makes a model that is nearly right.

Ids are those of the model: the list is padded to the rows of the embedding table with unused entries.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liptt_cli.errors import ModelError
from liptt_cli.exports.gguf_entries import Entry
from liptt_cli.exports.sentencepiece_file import piece_scores

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_SPACE = "\u2581"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_CUTS = {  # by the rule, and whether whole words are looked up before they are merged
    (_WORDS[0] + r"\p{N}{1,3}" + _WORDS[1], True): "llama-bpe",
    (_WORDS[0] + r"\p{N}{1,3}" + _WORDS[1], False): "smaug-bpe",
    (_WORDS[0] + r"\p{N}" + _WORDS[1], False): "qwen2",
    ("", False): "gpt-2",
    ("digits", False): "smollm",
}
_IDS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True)
class _Tokenizer:
    """What the files beside a model say of its tokenizer."""

    place: Path
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def model(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.data["model"]
        return found

    @property
    def ids(self) -> dict[str, int]:
        """Return the id of every text, added ones included."""
        return {**self.model["vocab"], **{added["content"]: added["id"] for added in self.data["added_tokens"]}}

    def refusal(self, what: str) -> ModelError:
        return ModelError(
            f"{self.place}: {what}, which is not known to be read alike by llama.cpp; use --to hf and llama.cpp's own "
            "converter, or another target"
        )


def vocabulary(directory: Path, *, rows: int) -> list[Entry]:
    """Return the entries that tell a model's tokenizer; `rows` is the length of its embedding table.

    Raises:
        ModelError: if there is no tokenizer.json, or llama.cpp would cut text otherwise than it does.
    """
    tokenizer = _read(directory)
    if tokenizer.model.get("type") != "BPE":
        raise tokenizer.refusal(f"a tokenizer of type {tokenizer.model.get('type')}")
    kind = _pieces(tokenizer) if tokenizer.model.get("byte_fallback") else _byte_level(tokenizer)
    texts, types = _tokens(tokenizer, rows)
    entries = [*kind, Entry("tokenizer.ggml.tokens", texts), Entry("tokenizer.ggml.token_type", types)]
    if tokenizer.model.get("byte_fallback"):
        entries.append(Entry("tokenizer.ggml.scores", _scores(tokenizer, texts)))
    return entries + _specials(tokenizer) + _chat(tokenizer)


def _read(directory: Path) -> _Tokenizer:
    place = directory / "tokenizer.json"
    if not place.is_file():
        raise ModelError(f"{directory}: no tokenizer.json, from which a GGUF file gets its vocabulary; add it")
    beside = (place, directory / "tokenizer_config.json", directory / "config.json")
    try:
        data, settings, config = (json.loads(path.read_bytes()) if path.is_file() else {} for path in beside)
    except ValueError as error:
        raise ModelError(f"{place}: it or a file beside it is no readable JSON ({error}); copy it again") from error
    return _Tokenizer(place, data, settings, config)


def _tokens(tokenizer: _Tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """Return the text and type of each id."""
    texts, types = [f"[PAD{number}]" for number in range(rows)], [_UNUSED] * rows
    for text, number in tokenizer.ids.items():
        if number >= rows:
            raise ModelError(f"{tokenizer.place}: token {text!r} has id {number}, but the model has {rows} rows")
        texts[number], types[number] = text, _NORMAL
    if tokenizer.model.get("byte_fallback"):
        for byte in range(256):
            types[tokenizer.ids[_byte_text(byte)]] = _BYTE
        types[tokenizer.ids[tokenizer.model["unk_token"]]] = _UNKNOWN
    for added in tokenizer.data["added_tokens"]:
        unknown = types[added["id"]] == _UNKNOWN
        types[added["id"]] = _UNKNOWN if unknown else _CONTROL if added["special"] else _USER_DEFINED
    return texts, types


def _byte_level(tokenizer: _Tokenizer) -> list[Entry]:
    """Return the entries of a byte-level BPE."""
    normalizer = tokenizer.data.get("normalizer")
    if normalizer is not None and normalizer["type"] != "NFC":
        raise tokenizer.refusal(f"a normaliser of type {normalizer['type']}")
    cut = _cut(tokenizer), bool(tokenizer.model.get("ignore_merges"))
    if cut not in _CUTS:
        raise tokenizer.refusal(f"text cut by {cut[0]!r}{' with whole words looked up first' if cut[1] else ''}")
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    return [
        Entry("tokenizer.ggml.model", "gpt2"),
        Entry("tokenizer.ggml.pre", _CUTS[cut]),
        Entry("tokenizer.ggml.merges", merges),
    ]


def _cut(tokenizer: _Tokenizer) -> str:
    """Return the rule by which text is cut before it is merged; "" is GPT-2's own."""
    told = tokenizer.data.get("pre_tokenizer") or {}
    steps = told.get("pretokenizers", [told])
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    whole = kinds[-1] == "ByteLevel" and not last.get("add_prefix_space")
    if whole and kinds == ["ByteLevel"] and last.get("use_regex", True):
        return ""
    if whole and kinds == ["Digits", "ByteLevel"] and last.get("use_regex", True) and steps[0]["individual_digits"]:
        return "digits"
    if whole and kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True) and not steps[0].get("invert"):
        return str(steps[0]["pattern"].get("Regex", steps[0]["pattern"]))
    raise tokenizer.refusal(f"text cut by {json.dumps(told)}")


def _pieces(tokenizer: _Tokenizer) -> list[Entry]:
    """Return the entries of a BPE over pieces with byte fallback."""
    absent = [byte for byte in range(256) if _byte_text(byte) not in tokenizer.ids]
    if absent:
        raise tokenizer.refusal(f"byte fallback without a token for {len(absent)} of the 256 bytes")
    if tokenizer.model.get("unk_token") not in tokenizer.ids:
        raise tokenizer.refusal("byte fallback without an unknown token")
    return [
        Entry("tokenizer.ggml.model", "llama"),
        Entry("tokenizer.ggml.pre", "default"),
        Entry("tokenizer.ggml.add_space_prefix", _prefixed(tokenizer)),
    ]


def _prefixed(tokenizer: _Tokenizer) -> bool:
    """Return whether a space goes before the text; spaces are written as the piece's own sign in either case."""
    normalizer, cut = tokenizer.data.get("normalizer"), tokenizer.data.get("pre_tokenizer")
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepended = {"type": "Prepend", "prepend": _SPACE}
    if cut is None and normalizer == {"type": "Sequence", "normalizers": [prepended, replaced]}:
        return True
    if cut is None and normalizer in (replaced, {"type": "Sequence", "normalizers": [replaced]}):
        return False
    known = {"type": "Metaspace", "replacement": _SPACE, "split": False}
    if normalizer is None and cut is not None and known.items() <= cut.items():
        return cut.get("prepend_scheme") in ("always", "first")
    raise tokenizer.refusal(f"spaces written by {json.dumps(normalizer)} and {json.dumps(cut)}")


def _scores(tokenizer: _Tokenizer, texts: Sequence[str]) -> list[float]:
    """Return a score for each piece: those of `tokenizer.model` if it is there, else minus the rank of its merges."""
    beside = tokenizer.place.with_name("tokenizer.model")
    scores = piece_scores(beside) if beside.is_file() else None
    if scores is None:
        scores = _scores_of_merges(tokenizer)
    return [scores.get(text, -float(len(texts))) for text in texts]


def _scores_of_merges(tokenizer: _Tokenizer) -> dict[str, float]:
    """Return a score for each merged piece: the earlier it is merged, the higher.

    llama.cpp merges the two neighbours whose joined piece scores highest. That is BPE if every cut of a piece into two
    pieces is among the merges, and the merges of a piece follow each other.
    """
    merges = _merges(tokenizer)
    made = [left + right for left, right in merges]
    order = list(dict.fromkeys(made))
    if 1 + sum(one != other for one, other in zip(made, made[1:], strict=False)) > max(1, len(order)):
        raise tokenizer.refusal("merges that make one piece at several ranks")
    listed, vocab = set(merges), tokenizer.model["vocab"]
    special = {added["content"] for added in tokenizer.data["added_tokens"]}
    for text in vocab.keys() - special:
        for cut in range(1, len(text)):
            pair = text[:cut], text[cut:]
            if pair not in listed and pair[0] in vocab and pair[1] in vocab:
                raise tokenizer.refusal(f"{pair[0]!r} and {pair[1]!r} that do not merge, though {text!r} is a piece")
    return {text: -float(rank) for rank, text in enumerate(order)}


def _merges(tokenizer: _Tokenizer) -> list[tuple[str, str]]:
    found = []
    for merge in tokenizer.model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found.append((left, right))
    return found


def _specials(tokenizer: _Tokenizer) -> list[Entry]:
    """Return the ids of special tokens, and which of them are put around a text."""
    ids = {role: _special_id(tokenizer, role) for role in _IDS}
    before, after = ([tokenizer.ids.get(text) for text in texts] for texts in _around(tokenizer))
    if before not in ([], [ids["bos"]]) or after not in ([], [ids["eos"]]):
        raise tokenizer.refusal(f"{_around(tokenizer)} put before and after a text")
    entries = [
        Entry(f"tokenizer.ggml.{_IDS[role]}_token_id", number) for role, number in ids.items() if number is not None
    ]
    entries.append(Entry("tokenizer.ggml.add_bos_token", bool(before)))
    return [*entries, Entry("tokenizer.ggml.add_eos_token", bool(after))]


def _special_id(tokenizer: _Tokenizer, role: str) -> int | None:
    """Return the id of the token of a role, by the tokenizer's settings, else by the model's `config.json`."""
    said = tokenizer.settings.get(f"{role}_token")
    text = said.get("content") if isinstance(said, Mapping) else said
    if text is not None:
        return tokenizer.ids.get(text)
    number = tokenizer.config.get(f"{role}_token_id")
    number = number[0] if isinstance(number, list) and number else number
    return number if isinstance(number, int) else None


def _around(tokenizer: _Tokenizer) -> tuple[list[str], list[str]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    told = tokenizer.data.get("post_processor") or {"type": "Sequence", "processors": []}
    steps = told.get("processors", [told])
    templates = [step for step in steps if step["type"] == "TemplateProcessing"]
    strange = [step["type"] for step in steps if step["type"] not in ("TemplateProcessing", "ByteLevel")]
    if strange or len(templates) > 1:
        raise tokenizer.refusal(f"a text finished by {strange or 'two templates'}")
    parts = templates[0]["single"] if templates else [{"Sequence": {}}]
    middle = next(number for number, part in enumerate(parts) if "Sequence" in part)
    texts = [part.get("SpecialToken", {}).get("id", "") for part in parts]
    return texts[:middle], texts[middle + 1 :]


def _chat(tokenizer: _Tokenizer) -> list[Entry]:
    beside = tokenizer.place.with_name("chat_template.jinja")
    told = beside.read_text(encoding="utf8") if beside.is_file() else tokenizer.settings.get("chat_template")
    if isinstance(told, list):  # several, by name
        told = next((each["template"] for each in told if each.get("name") == "default"), None)
    return [] if told is None else [Entry("tokenizer.chat_template", str(told))]


def _byte_text(byte: int) -> str:
    return f"<0x{byte:02X}>"
