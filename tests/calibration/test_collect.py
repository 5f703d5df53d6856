"""What a linear sees: the moments of its input in the whole model, batch by batch, no further than needed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from liptt_cli.algebra.metric import Look
from liptt_cli.calibration.collect import seen_by
from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.models.hub import load_model, locate
from liptt_cli.models.streamed import StreamedModel

IDS = torch.randint(0, 300, (5, 12), generator=torch.Generator().manual_seed(4))


def visited(directory: Path, folder: Path, work, *, batch_windows: int) -> None:
    model = StreamedModel(locate(str(directory)), dtype=torch.float32)
    walk(model, IDS, streams=Streams(folder), itinerary=Itinerary(0, batch_windows, True), work=work)


@torch.no_grad()
def inputs_of(directory: Path, name: str) -> Tensor:
    """Return all inputs of a linear of the whole model, a token a row."""
    model = load_model(locate(str(directory)), dtype=torch.float32)
    found: list[Tensor] = []
    model.get_submodule(name).register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    model(input_ids=IDS)
    return found[0].flatten(0, 1).double()


@pytest.mark.parametrize("leaf", ["self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"])
def test_the_moments_are_those_of_the_whole_model_in_any_batches(leaf: str, tiny_llama: Path, tmp_path: Path):
    x = inputs_of(tiny_llama, f"model.layers.1.{leaf}")

    def check(visit: Visit) -> None:
        if visit.number == 1:
            linear = visit.block.get_submodule(leaf)
            full, diagonal = (
                seen_by(linear, visit.block, visit.clean, run=visit.run, look=Look(w)) for w in (True, False)
            )
            assert full.tokens == diagonal.tokens == len(x) == 60
            assert diagonal.gram is None
            torch.testing.assert_close(full.gram, x.T @ x / len(x), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(diagonal.square, x.square().mean(0), rtol=1e-5, atol=1e-7)
            assert torch.equal(full.square, diagonal.square)

    for batch_windows in (2, 8):
        visited(tiny_llama, tmp_path / str(batch_windows), check, batch_windows=batch_windows)


def test_the_forward_ends_where_enough_was_seen_and_leaves_no_hook(tiny_llama: Path, tmp_path: Path):
    calls: list[str] = []

    def check(visit: Visit) -> None:
        linear, later = (visit.block.get_submodule(f"self_attn.{leaf}") for leaf in ("q_proj", "o_proj"))
        for name, module in (("q", linear), ("o", later)):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
        calls.clear()
        seen_by(linear, visit.block, visit.clean, run=visit.run, look=Look(False))
        assert calls == []
        visit.run.whole(visit.block, visit.clean)
        assert calls == ["q", "o"] * 3

    visited(tiny_llama, tmp_path, check, batch_windows=2)


def test_a_block_is_seen_as_it_is_now(tiny_llama: Path, tmp_path: Path):
    """After the values are gone, the output projection sees nothing."""

    def check(visit: Visit) -> None:
        nn.init.zeros_(visit.block.get_submodule("self_attn.v_proj").weight)
        output = visit.block.get_submodule("self_attn.o_proj")
        assert seen_by(output, visit.block, visit.prefix, run=visit.run, look=Look(False)).square.abs().sum() == 0

    visited(tiny_llama, tmp_path, check, batch_windows=8)
