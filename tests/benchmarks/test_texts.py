"""Texts cut by document: stories end where the sample's do, and no document is on two sides."""

import gzip
import json
from pathlib import Path

from texts import cut_stories, split, write_story_parts

SAMPLE = "\n\nOne story begins.\n\nIts second paragraph.\nAnother story.\nA third one.\n\nWith an end.\n"


def stories_in(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf8").splitlines()]


def test_a_single_newline_separates_stories_and_a_blank_line_paragraphs():
    assert cut_stories(SAMPLE) == [
        "One story begins.\n\nIts second paragraph.",
        "Another story.",
        "A third one.\n\nWith an end.",
    ]


def test_split_is_by_document_seeded_and_takes_its_share():
    documents = [f"document {number} " * 10 for number in range(50)]
    taken, rest = split([*documents, documents[0]], share=0.4)
    assert sorted([*taken, *rest]) == sorted(documents)
    assert split(documents, share=0.4) == (taken, rest)
    assert 0.38 < sum(map(len, taken)) / sum(map(len, documents)) < 0.45


def test_story_parts_are_disjoint_and_written_once(tmp_path: Path):
    sample = tmp_path / "sample.txt.gz"
    sample.write_bytes(gzip.compress("\n".join(f"Story number {number} was told." for number in range(60)).encode()))
    write_story_parts(tmp_path / "texts", sample)
    parts = {path.stem: stories_in(path) for path in (tmp_path / "texts").glob("*.jsonl")}
    calibration, evaluation = parts["tinystories-calibration"], parts["tinystories-evaluation"]
    assert not set(calibration) & set(evaluation)
    assert len(calibration) + len(evaluation) == 60
    tuning, held_out = parts["tinystories-tuning"], parts["tinystories-held-out"]
    assert not set(tuning) & set(held_out)
    assert sorted([*tuning, *held_out]) == sorted(calibration)
    before = (tmp_path / "texts" / "tinystories-tuning.jsonl").stat().st_mtime_ns
    write_story_parts(tmp_path / "texts", sample)
    assert (tmp_path / "texts" / "tinystories-tuning.jsonl").stat().st_mtime_ns == before
