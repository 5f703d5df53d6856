"""The walk: its streams are those of whole models, it resumes, and never more than one block is in memory."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.layers.hidden import recorded_hidden
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.models.hub import load_model, locate
from liptt_cli.models.streamed import StreamedModel

BATCH = 4
IDS = torch.randint(0, 300, (6, 12), generator=torch.Generator().manual_seed(3))
Streamed = tuple[list[Tensor | None], ...]


class Broken(Exception):
    """Stands for a kill."""


def to_signs(block: nn.Module) -> None:
    with torch.no_grad():
        for linear in linears(block).values():
            linear.weight.copy_(linear.weight.sign() * linear.weight.abs().mean())


def walked(
    directory: Path, folder: Path, change: Callable[[Visit], None], *, first: int = 0, flows: bool = True
) -> list[Visit]:
    """Walk and return the visits; `change` works on each block."""
    visits: list[Visit] = []

    def work(visit: Visit) -> None:
        visits.append(visit)
        change(visit)

    model = StreamedModel(locate(str(directory)), dtype=torch.float32)
    walk(model, IDS, streams=Streams(folder), itinerary=Itinerary(first, BATCH, flows), work=work)
    return visits


@torch.no_grad()
def whole(directory: Path, change: Callable[[nn.Module], None] | None = None) -> list[Tensor]:
    """Return what enters each block of the whole model, and last what leaves it, in the walk's batches."""
    model = load_model(locate(str(directory)), dtype=torch.float32)
    path, blocks = find_block_list(model)
    for block in blocks if change else ():
        change(block)
    found: list[list[Tensor]] = []
    with recorded_hidden(model, path) as hidden:
        for start in range(0, len(IDS), BATCH):
            model(input_ids=IDS[start : start + BATCH])
            found.append([hidden[number] for number in sorted(hidden)])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def same(found: list[Tensor | None], wanted: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_both_streams_are_those_of_whole_models(tiny_models: Path, tmp_path: Path):
    visits = walked(tiny_models, tmp_path, lambda visit: to_signs(visit.block))
    dense, compressed = whole(tiny_models), whole(tiny_models, to_signs)
    assert [visit.number for visit in visits] == [0, 1]
    assert same([visit.clean for visit in visits], dense[:-1])
    assert same([visit.target for visit in visits], dense[1:])
    assert same([visit.prefix for visit in visits], compressed[:-1])
    assert not same([visits[1].prefix], dense[1:2])
    streams = Streams(tmp_path)
    assert same([streams.read("clean", 2), streams.read("prefix", 2)], [dense[-1], compressed[-1]])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_walk_that_changes_nothing_keeps_both_streams_one(tiny_llama: Path, tmp_path: Path):
    visits = walked(tiny_llama, tmp_path, lambda visit: None)
    assert all(torch.equal(visit.prefix, visit.clean) for visit in visits)
    streams = Streams(tmp_path)
    assert torch.equal(streams.read("prefix", 2), streams.read("clean", 2))


@pytest.mark.parametrize("broken", [0, 1])
def test_a_walk_that_was_broken_off_goes_on_with_the_same_streams(broken: int, tiny_llama: Path, tmp_path: Path):
    def breaking(visit: Visit) -> None:
        to_signs(visit.block)
        if visit.number == broken:
            raise Broken

    uninterrupted = walked(tiny_llama, tmp_path / "one", lambda visit: to_signs(visit.block))
    with pytest.raises(Broken):
        walked(tiny_llama, tmp_path / "two", breaking)
    assert Streams(tmp_path / "two").holds(broken)
    resumed = walked(tiny_llama, tmp_path / "two", lambda visit: to_signs(visit.block), first=broken)
    for one, other in zip(uninterrupted[broken:], resumed, strict=True):
        assert one.number == other.number
        assert same([one.clean, one.prefix, one.target], [other.clean, other.prefix, other.target])
    for name in ("clean", "prefix"):
        assert torch.equal(*(Streams(tmp_path / run).read(name, 2) for run in ("one", "two")))


def test_a_walk_that_needs_nothing_runs_no_forward(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = StreamedModel(locate(str(tiny_llama)), dtype=torch.float32)
    blocks = model.structure.blocks
    monkeypatch.setattr(model, "calls", None)
    monkeypatch.setattr(model, "run_block", None)
    seen: list[Visit] = []
    walk(model, IDS, streams=Streams(tmp_path), itinerary=Itinerary(0, BATCH, False), work=seen.append)
    assert [visit.number for visit in seen] == list(range(blocks))
    assert all((visit.clean, visit.prefix, visit.target) == (None, None, None) for visit in seen)
    assert not list(tmp_path.iterdir())


def test_a_block_runs_on_a_batch_of_any_size_with_gradients(tiny_llama: Path, tmp_path: Path):
    def check(visit: Visit) -> None:
        (norm,) = [p for name, p in visit.block.named_parameters() if name == "input_layernorm.weight"]
        norm.requires_grad_(True)
        out = visit.run.on(visit.block, visit.prefix[[5, 0, 3]])
        torch.testing.assert_close(out, visit.target[[5, 0, 3]])
        out.square().sum().backward()
        assert norm.grad is not None and norm.grad.abs().sum() > 0
        norm.requires_grad_(False)

    assert len(walked(tiny_llama, tmp_path, check)) == 2


def real_parameters() -> int:
    """Count the numbers in parameters that are not on meta, among all that was made since the last freeze."""
    gc.collect()
    return sum(thing.numel() for thing in gc.get_objects() if type(thing) is nn.Parameter and not thing.is_meta)


def test_one_block_at_a_time_is_in_memory(tiny_llama: Path, tmp_path: Path):
    counts, sizes = [], []

    def count(visit: Visit) -> None:
        counts.append(real_parameters())
        sizes.append(sum(parameter.numel() for parameter in visit.block.parameters()))

    gc.collect()
    gc.freeze()  # leaves everything so far out of what the collector lists
    try:
        walked(tiny_llama, tmp_path, count)
        assert real_parameters() == 0
    finally:
        gc.unfreeze()
    assert counts == sizes == [9_280, 9_280]


def test_a_dense_walk_has_one_stream_of_the_dense_model(tiny_llama: Path, tmp_path: Path):
    visits: list[Visit] = []
    model, streams = StreamedModel(locate(str(tiny_llama)), dtype=torch.float32), Streams(tmp_path)
    itinerary = Itinerary(0, BATCH, True, dense=True)
    walk(model, IDS, streams=streams, itinerary=itinerary, work=visits.append)
    for visit, before, after in zip(visits, whole(tiny_llama), whole(tiny_llama)[1:], strict=False):
        assert visit.clean is visit.prefix and visit.clean is not None and visit.target is not None
        assert torch.equal(visit.clean, before) and torch.equal(visit.target, after)
    assert len(visits) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["clean-002.safetensors"]
    assert streams.holds_clean(2) and not streams.holds_clean(1)
