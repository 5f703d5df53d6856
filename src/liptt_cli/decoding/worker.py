"""One engine in a process of its own: so its memory is its own, and nothing of another engine is in the way.

    python -m liptt_cli.decoding.worker

A line of JSON with the job comes first, then one for each wish; each is answered by one line. What libraries print
goes to stderr. An error of ours ends the process with its message, the error's name and its exit status in the answer.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from liptt_cli.errors import LipttError

Kind = Literal["lean", "transformers", "llama.cpp"]


@dataclass(frozen=True)
class Job:
    """What a process shall hold: a model, and what makes its tokens."""

    kind: Kind
    path: str
    threads: int
    capacity_tokens: int
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_remote_code: bool = False


def main() -> None:
    """Answer line by line until there are no more wishes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        for answer in _answers(sys.stdin):
            _say(answers, answer)
    except LipttError as error:
        _say(answers, {"error": type(error).__name__, "message": str(error)})


def _answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    from liptt_cli.metrics.speed import process_memory, timed_round

    job = Job(**json.loads(next(lines)))
    made = _maker(job)
    idle_bytes, began = process_memory()["resident_bytes"], time.monotonic()
    engine = made()
    yield {"load_seconds": time.monotonic() - began}
    for line in lines:
        wish = json.loads(line)
        if wish["do"] == "round":
            found, tokens = timed_round(
                engine.prefill, engine.step, prompt=wish["prompt"], new_tokens=wish["new_tokens"]
            )
            yield {"round": asdict(found), "tokens": tokens}
        elif wish["do"] == "facts":
            yield {**engine.facts(), **process_memory(), "idle_bytes": idle_bytes}
        else:
            yield {"agreement": engine.agreement(wish["prompt"], wish["tokens"])}


def _maker(job: Job) -> Callable[[], Any]:
    """Import what the engine needs, and return what makes it."""
    if job.kind == "llama.cpp":
        from liptt_cli.decoding.peer import LlamaCpp

        return lambda: LlamaCpp(job.path, capacity_tokens=job.capacity_tokens, threads=job.threads)
    import torch

    import liptt_cli  # noqa: F401  # registers the packed format
    from liptt_cli.decoding.engines import take_engine
    from liptt_cli.models import hub

    def make() -> Any:
        torch.set_num_threads(job.threads)
        dtype = torch.float32 if job.dtype == "float32" else torch.bfloat16
        model = hub.load_model(hub.locate(job.path), dtype=dtype, trust_remote_code=job.trust_remote_code)
        return take_engine(model, lean=job.kind == "lean", capacity_tokens=job.capacity_tokens)

    return make


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
