"""An engine's process seen from outside: answers, errors under their own class, and a process that is gone."""

import json
import subprocess
import sys

import pytest

from liptt_cli.decoding import contestant
from liptt_cli.decoding.contestant import Contestant
from liptt_cli.decoding.worker import Job
from liptt_cli.errors import LipttError, ModelError, ResourceError

JOB = Job("lean", "somewhere", threads=2, capacity_tokens=8)
ECHO = """\
import json, os, sys
job = json.loads(sys.stdin.readline())
print(json.dumps({"load_seconds": 1.5}), flush=True)
for line in sys.stdin:
    print(json.dumps({"job": job, "wish": json.loads(line), "omp": os.environ["OMP_NUM_THREADS"]}), flush=True)
"""


def run_instead(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestant, "_COMMAND", (sys.executable, "-c", script))


def test_job_and_wishes_reach_the_process_and_its_threads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(ECHO, monkeypatch)
    with Contestant("ours", JOB) as found:
        assert found.load_seconds == 1.5
        told = found.facts()
    assert told["wish"] == {"do": "facts"}
    assert Job(**told["job"]) == JOB
    assert told["omp"] == "2"


@pytest.mark.parametrize(
    ("answer", "kind"), [("ModelError", ModelError), ("SomethingElse", LipttError), ("ConfigError", LipttError)]
)
def test_an_error_keeps_its_class_and_words(answer: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    words = json.dumps({"error": answer, "message": "what is wrong"})
    run_instead(f"print({words!r}, flush=True); input()", monkeypatch)
    with pytest.raises(kind, match="what is wrong"), Contestant("ours", JOB):
        raise AssertionError("it never starts")


def test_a_process_that_is_gone_is_told_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead("import os; os.kill(os.getpid(), 9)", monkeypatch)
    with pytest.raises(ResourceError, match="ours: its process ended with status -9"), Contestant("ours", JOB):
        raise AssertionError("it never starts")


def test_the_process_does_not_outlive_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(ECHO, monkeypatch)
    with Contestant("ours", JOB) as found:
        process: subprocess.Popen[str] = found._process
        assert process.poll() is None
    assert process.poll() is not None
