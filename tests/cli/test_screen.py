"""What goes to stdout and to stderr, and how progress looks without a terminal and on one."""

import io
import json

import pytest
from rich.console import Console

from liptt_cli.cli import screen


@pytest.fixture(autouse=True)
def _normal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screen, "_level", screen.NORMAL)


def test_results_and_messages_keep_apart(capsys: pytest.CaptureFixture[str]):
    screen.emit("[bold]1 " + "x" * 200)
    screen.emit_json({"a": [1.5, None]})
    screen.say("note :smile:")
    printed = capsys.readouterr()
    first, rest = printed.out.split("\n", 1)
    assert first == "[bold]1 " + "x" * 200
    assert json.loads(rest) == {"a": [1.5, None]}
    assert printed.err == "note :smile:\n"


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="JSON"):
        screen.emit_json({"a": float("nan")})


def test_quiet_leaves_warnings_and_results(capsys: pytest.CaptureFixture[str]):
    screen.configure(level=screen.QUIET)
    screen.say("note")
    screen.warn("fault")
    with screen.progress() as reporter:
        reporter.begin("binarize", total=2)
        reporter.advance("one")
    assert capsys.readouterr().err == "fault\n"


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("RANK", "1")
    screen.configure()
    screen.say("note")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]):
    with screen.progress() as reporter:
        reporter.begin("binarize", total=2)
        reporter.advance("q_proj 0.21")
        reporter.advance("k_proj 0.19")
    assert capsys.readouterr().err.splitlines() == [
        "binarize 1/2, 0 s left q_proj 0.21",
        "binarize 2/2 k_proj 0.19",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_last_message():
    shown = io.StringIO()
    with screen.Bars(Console(file=shown, force_terminal=True, width=120, _environ={})) as reporter:
        reporter.begin("binarize", total=2)
        reporter.advance("q_proj [0.21]")
        reporter.begin("finetune", total=1)
    for part in ("binarize", "1/2", "q_proj [0.21]", "finetune", "0/1"):
        assert part in shown.getvalue()
