"""Corpora by name and by file, and what is refused."""

import errno
import gzip
import json
from pathlib import Path

import pytest

from liptt_cli.calibration import corpora
from liptt_cli.calibration.corpora import read_corpus, reading_datasets, sha256_of
from liptt_cli.errors import CorpusError, InputError

TEXT = "One document.\nIn two lines.\n<|endoftext|>\nAnother\n<|endoftext|>\n"


def test_text_is_cut_at_separator_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    corpus = read_corpus(str(tmp_path / "a.txt"), side="calibration")
    assert corpus.documents == ["One document.\nIn two lines.", "Another"]
    assert corpus.sha256 == sha256_of(corpus.documents)


def test_gzip_and_plain_are_the_same_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    plain, packed = (read_corpus(str(tmp_path / name), side="evaluation") for name in ("a.txt", "a.txt.gz"))
    assert plain.documents == packed.documents
    assert plain.sha256 == packed.sha256


def test_lines_end_as_the_file_has_them_and_only_there(tmp_path: Path) -> None:
    """Line ends of other systems are read as ours; a separator of paragraphs or pages ends no line."""
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\u2028\x0c<|endoftext|>\r\n<|endoftext|>\r\nthree\r".encode())
    documents = read_corpus(str(tmp_path / "a.txt"), side="calibration").documents
    assert documents == ["one\ntwo\u2028\x0c<|endoftext|>", "three"]
    (tmp_path / "a.jsonl").write_text('{"text": "one\u2028two"}\n', encoding="utf-8")
    assert read_corpus(str(tmp_path / "a.jsonl"), side="calibration").documents == ["one\u2028two"]


def test_text_without_separator_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert read_corpus(str(tmp_path / "a.txt"), side="calibration").documents == ["one\n\ntwo"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"page": "p", "text": "t", "title": "x"}, "t"),
        ({"page": "p", "title": "x"}, "p"),
        ({"body": "only string", "id": 3}, "only string"),
    ],
)
def test_json_lines_take_text_then_page_then_the_single_string(tmp_path: Path, row: object, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n\n")
    assert read_corpus(str(tmp_path / "a.jsonl"), side="calibration").documents == [text]


def test_blank_documents_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": " "}\n{"text": "x"}\n')
    assert read_corpus(str(tmp_path / "a.jsonl"), side="calibration").documents == ["x"]


def test_relative_paths_are_tried_in_the_working_directory_then_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, near = tmp_path / "here", tmp_path / "near"
    for folder in (here, near):
        folder.mkdir()
        (folder / "both.txt").write_text(folder.name)
    (near / "one.txt").write_text("only near")
    monkeypatch.chdir(here)
    assert read_corpus("both.txt", side="calibration", near=near).documents == ["here"]
    assert read_corpus("one.txt", side="calibration", near=near).documents == ["only near"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n<|endoftext|>\n\n", "no text"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
        ("a.txt.gz", b"not gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"cut short" * 99, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', "a.jsonl:2"),
        ("a.jsonl", b'{"a": "x", "b": "y"}', "'text' or 'page'"),
        ("a.jsonl", b'["x"]', "'text' or 'page'"),
        ("a.csv", b"x", "has to end in"),
    ],
)
def test_unusable_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=words) as caught:
        read_corpus(str(tmp_path / name), side="calibration")
    assert name in str(caught.value)
    assert caught.value.exit_status == 3


def test_an_absent_corpus_names_the_paths_tried_and_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"Did you mean 'wikitext2'") as caught:
        read_corpus("wikitext", side="calibration", near=tmp_path)
    assert str(tmp_path / "wikitext") in str(caught.value)


def test_self_cannot_be_read() -> None:
    with pytest.raises(CorpusError, match="sampled from the model"):
        read_corpus("self", side="evaluation")


@pytest.mark.parametrize(
    ("name", "side", "split", "documents"),
    [
        ("wikitext2", "evaluation", "test", ["a\n\n\n\nb"]),
        ("wikitext2", "calibration", "train", ["a\n\n\n\nb"]),
        ("c4", "evaluation", "train[:1100]", ["a", "b"]),
    ],
)
def test_hub_corpora_ask_for_their_side(
    monkeypatch: pytest.MonkeyPatch, name: str, side: corpora.Side, split: str, documents: list[str]
) -> None:
    asked = []

    def load(*arguments: object, **options: object) -> dict[str, list[str]]:
        asked.append(options["split"])
        return {"text": ["a", "", "b"]}

    monkeypatch.setattr("datasets.load_dataset", load)
    assert read_corpus(name, side=side).documents == documents
    assert asked == [split]


def test_a_hub_that_cannot_be_reached_tells_of_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(CorpusError, match=r"wikitext2.*no route.*local file"):
        read_corpus("wikitext2", side="evaluation")


def test_reading_datasets_turns_their_errors_into_ours() -> None:
    with pytest.raises(InputError, match="the rows: .*gone"), reading_datasets("the rows"):
        raise FileNotFoundError("gone\nsecond line")


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_full_disk_is_not_the_datas_fault(wrapped: bool) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, reading_datasets("the rows"):
        if wrapped:
            raise RuntimeError("while writing") from full
        raise full
    assert caught.value.errno == errno.ENOSPC
