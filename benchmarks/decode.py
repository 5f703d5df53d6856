"""A whole model's speed on this machine: the synthetic Llama of the issue, packed, dense and in llama.cpp, in one run.

    python benchmarks/decode.py [--rounds 7] [--new-tokens 32] [--work DIR] [--results DIR] [--peers TQ2_0 ..] [--tiny]

411 million weights in linears (8 blocks, hidden 2048, feed-forward 5632, 16 heads, vocabulary 4096), random weights and
codes: signs with a scale for 128 columns (1.125 bits), and two sign factors at 1.0 and 0.5 bits. Decode and a prefill
of 128 tokens on one thread, beside dense transformers in the dtype that is quicker here; then two threads, with and
without another process that keeps one core busy. The dense model in our own loop stands there too, out of competition:
it shows how much of the distance is the loop. Written to <results>/decode.json; what is missed is said.
Needs 3 GB of disk in the work folder, where the models stay, and 6 GB of memory.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synthetic import ISSUE_SHAPE, sign, two_factor, write_codes, write_dense
from targets import Target

from liptt_cli.decoding import peer
from liptt_cli.decoding.comparison import Comparison, Plan, compare
from liptt_cli.decoding.contestant import Contestant
from liptt_cli.decoding.worker import Job
from liptt_cli.metrics.speed import Spread, ratios, seconds_by_dtype
from liptt_cli.models import hub
from liptt_cli.run_directory import machine

HERE = Path(__file__).resolve().parent
TINY_SHAPE = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
}
PROMPT_TOKENS = 128
SIGN, ONE_BIT, HALF_BIT = "signs, 1.125 bits", "two factors, 1.0 bit", "two factors, 0.5 bit"
FORMS = (
    (SIGN, "sign", sign),
    (ONE_BIT, "two-factor-1.0", two_factor(1.0)),
    (HALF_BIT, "two-factor-0.5", two_factor(0.5)),
)
DENSE, DENSE_LEAN, TERNARY = "dense", "dense, lean loop", "llama.cpp TQ2_0"
PACKAGES = ("torch", "transformers", "llama_cpp_python")
_BUSY = "while True: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print; returns 0."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        models = _models(work, TINY_SHAPE if options.tiny else ISSUE_SHAPE)
        plan = Plan(PROMPT_TOKENS, options.new_tokens, options.rounds, TINY_SHAPE["vocab_size"])
        found, dtypes = _alone(models, plan, work, peers=options.peers)
        contended = [_contended(each, plan) for each in _threaded(models, plan, work, peers=options.peers)]
    rows = _rows(found, contended)
    _write(options.results / "decode.json", _document(found, dtypes, contended, rows))
    _print(found, contended, rows)
    return 0


def _models(work: Path, shape: dict[str, int]) -> dict[str, Path]:
    hub.quiet_transformers()
    work.mkdir(parents=True, exist_ok=True)
    _say("models by chance")
    dense = write_dense(work / "dense", shape)
    return {DENSE: dense, **{name: write_codes(work / folder, dense=dense, made=made) for name, folder, made in FORMS}}


def _alone(
    models: dict[str, Path], plan: Plan, work: Path, *, peers: Sequence[str]
) -> tuple[Comparison, dict[str, float]]:
    """Run every engine on one thread."""
    config: Any = hub.read_config(hub.locate(str(models[DENSE])))
    dtypes = seconds_by_dtype(
        rows=config.intermediate_size,
        columns=config.hidden_size,
        prompt_tokens=plan.prompt_tokens,
        new_tokens=plan.new_tokens,
        threads=1,
    )
    capacity = plan.prompt_tokens + plan.new_tokens
    quicker: Any = min(dtypes, key=lambda name: dtypes[name])
    jobs = {name: Job("lean", str(models[name]), 1, capacity, quicker) for name, _, _ in FORMS}
    jobs[DENSE] = Job("transformers", str(models[DENSE]), 1, capacity, quicker)
    jobs[DENSE_LEAN] = Job("lean", str(models[DENSE]), 1, capacity, quicker)
    if peers:
        files = _peer_files(models, work, peers)
        jobs |= {f"llama.cpp {kind}": Job("llama.cpp", str(file), 1, capacity) for kind, file in files.items()}
    return compare([Contestant(name, job) for name, job in jobs.items()], plan, _say), dtypes


def _peer_files(models: dict[str, Path], work: Path, kinds: Sequence[str]) -> dict[str, Path]:
    absent = peer.why_absent()
    if absent is not None:
        _say(absent)
        return {}
    config = hub.read_config(hub.locate(str(models[DENSE])))
    return dict(peer.write_files(config, work, _say, kinds=kinds))


def _threaded(models: dict[str, Path], plan: Plan, work: Path, *, peers: Sequence[str]) -> list[Contestant]:
    """Return the engines whose two threads are disturbed."""
    capacity = plan.prompt_tokens + plan.new_tokens
    made = [Contestant(SIGN, Job("lean", str(models[SIGN]), 2, capacity, "bfloat16"))]
    file = work / f"{TERNARY.split()[1]}.gguf"
    if peers and file.exists():
        made.append(Contestant(TERNARY, Job("llama.cpp", str(file), 2, capacity)))
    return made


def _contended(contestant: Contestant, plan: Plan) -> dict[str, Any]:
    """Measure two threads in turns without and with another process on one of the cores."""
    free, disturbed = [], []
    with ExitStack() as stack:
        stack.enter_context(contestant)
        contestant.round(plan.prompt(), plan.new_tokens)
        for _ in range(plan.rounds):
            free.append(contestant.round(plan.prompt(), plan.new_tokens)[0])
            with _one_core_busy():
                disturbed.append(contestant.round(plan.prompt(), plan.new_tokens)[0])
            _say(
                f"{contestant.name}, 2 threads: {free[-1].decode_tokens_per_second:.1f} and "
                f"{disturbed[-1].decode_tokens_per_second:.1f} tokens/s"
            )
    slower = ratios([each.decode_seconds for each in disturbed], [each.decode_seconds for each in free])
    return {
        "name": contestant.name,
        "threads": 2,
        "free_tokens_per_second": Spread.of([each.decode_tokens_per_second for each in free]).to_json(),
        "disturbed_tokens_per_second": Spread.of([each.decode_tokens_per_second for each in disturbed]).to_json(),
        "times_slower": slower.to_json(),
    }


@contextmanager
def _one_core_busy() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _rows(found: Comparison, contended: list[dict[str, Any]]) -> list[Target]:
    by_name = {engine.name: engine for engine in found.engines}
    ours, dense = by_name[SIGN], by_name[DENSE]
    rows = [
        Target("decode: times dense transformers", ratios(ours.decode, dense.decode), 8, 12),
        Target("prefill of 128: times dense", ratios(ours.prefill, dense.prefill), 2.5, 5),
        Target(
            "decode, whole step: two factors at 0.5 bit, times those at 1.0",
            ratios(by_name[HALF_BIT].decode, by_name[ONE_BIT].decode),
            1.7,
            2,
        ),
        Target("two threads beside a busy process: times slower", Spread(**contended[0]["times_slower"]), 2, 2, True),
    ]
    if TERNARY in by_name:
        rows.insert(1, Target(f"decode: times {TERNARY}", ratios(ours.decode, by_name[TERNARY].decode), 1.05, 1.5))
    return rows


def _document(
    found: Comparison, dtypes: dict[str, float], contended: list[dict[str, Any]], rows: list[Target]
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": 1,
        "seconds_by_dtype_of_one_linear": dtypes,
        **found.to_json(),
        "contended": contended,
        "table": [row.to_json() for row in rows],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf8")


def _print(found: Comparison, contended: list[dict[str, Any]], rows: list[Target]) -> None:
    floor = Spread.of(found.floor_bytes_per_second).median
    print(f"one thread, memory floor {floor / 1e9:.1f} GB/s")
    for engine in found.engines:
        decode, prefill = Spread.of(engine.decode).median, Spread.of(engine.prefill).median
        share = Spread.of(found.floor_shares(engine)).median
        read = engine.bytes_per_token(found.plan.context_tokens) / 1e6
        print(
            f"{engine.name:22} {engine.facts['dtype']:9} decode {1000 / decode:7.2f} ms, prefill of {PROMPT_TOKENS} "
            f"{1000 * PROMPT_TOKENS / prefill:7.1f} ms, {read:6.1f} MB a token, {share:4.0%} of the floor"
        )
    for each in contended:
        free, disturbed = (1000 / each[f"{kind}_tokens_per_second"]["median"] for kind in ("free", "disturbed"))
        print(f"{each['name']:22} 2 threads: {free:.2f} ms, beside a busy process {disturbed:.2f} ms")
    print()
    for row in rows:
        print(row.line())


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--work", type=Path, help="where the models stay; default: a temporary folder")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--peers", nargs="*", default=peer.KINDS, help="types of llama.cpp; none: without it")
    parser.add_argument("--tiny", action="store_true", help="a toy's shapes, to try the script itself")
    return parser


if __name__ == "__main__":
    sys.exit(main())
