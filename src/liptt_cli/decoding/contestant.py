"""An engine in a process of its own, seen from outside: rounds, facts, agreement."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from liptt_cli import errors
from liptt_cli.decoding.worker import Job
from liptt_cli.metrics.speed import Round

_COMMAND = (sys.executable, "-m", "liptt_cli.decoding.worker")


class Contestant:
    """A context: the process lives inside it."""

    def __init__(self, name: str, job: Job) -> None:
        """Take what to call it, and what it shall hold."""
        self.name = name
        self.job = job
        self.load_seconds = 0.0

    def __enter__(self) -> Self:
        """Start the process and wait until the model is there."""
        threads = str(self.job.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self._process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            self.load_seconds = self._asked(asdict(self.job))["load_seconds"]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        self._end()

    def round(self, prompt: list[int], new_tokens: int) -> tuple[Round, list[int]]:
        """Run one round, and return it with its tokens."""
        answer = self._asked({"do": "round", "prompt": prompt, "new_tokens": new_tokens})
        return Round(**answer["round"]), answer["tokens"]

    def facts(self) -> dict[str, Any]:
        """Return what it is, and its memory."""
        return self._asked({"do": "facts"})

    def agreement(self, prompt: list[int], tokens: list[int]) -> dict[str, Any] | None:
        """Return how its tokens compare with transformers' on the torch meaning."""
        found: dict[str, Any] | None = self._asked({"do": "agreement", "prompt": prompt, "tokens": tokens})["agreement"]
        return found

    def _asked(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Ask and wait.

        Raises:
            LipttError: what the process raised, under its own class.
            ResourceError: if the process is gone.
        """
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without pipes")
        line = ""
        try:
            process.stdin.write(json.dumps(wish) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise errors.ResourceError(
                f"{self.name}: its process ended with status {process.wait()} (-9: the system ran out of memory); "
                "what it said is above"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"], errors.LipttError)(answer["message"])
        return answer

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
