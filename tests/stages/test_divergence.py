"""The divergence of one replaced linear: that of whole models, and zero where nothing is replaced."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import kl_div

from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.layers.surgery import get_module
from liptt_cli.models.hub import load_model, locate
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.stages.divergence import Divergence

IDS = torch.arange(60).reshape(4, 15) * 7 % 300


def test_it_is_the_divergence_of_the_whole_model_with_one_linear_replaced(tiny_llama: Path, tmp_path: Path):
    source = locate(str(tiny_llama))
    streamed = StreamedModel(source, dtype=torch.float32)
    whole = load_model(source, dtype=torch.float32)
    divergence, found = Divergence(streamed, IDS, 3), {}

    def work(visit: Visit) -> None:
        paths = ("self_attn.v_proj", "mlp.down_proj")
        weights = {path: get_module(visit.block, path).weight * 0.5 for path in paths}
        before = [parameter for parameter in visit.block.parameters()]
        found[visit.number] = divergence.of(visit, weights)
        assert all(a is b for a, b in zip(before, visit.block.parameters(), strict=True))

    walk(streamed, IDS, streams=Streams(tmp_path), itinerary=Itinerary(0, 2, True, dense=True), work=work)
    with torch.no_grad():
        dense = whole(IDS[:3]).logits.log_softmax(-1)
        for number, each in found.items():
            for path, nats in each.items():
                linear = whole.get_submodule(f"model.layers.{number}.{path}")
                own = linear.weight.data
                linear.weight.data = own * 0.5
                other = whole(IDS[:3]).logits.log_softmax(-1)
                linear.weight.data = own
                expected = kl_div(other.flatten(0, 1), dense.flatten(0, 1), reduction="batchmean", log_target=True)
                assert nats == pytest.approx(float(expected), rel=1e-4), (number, path)
    assert len(found) == 2


def test_the_same_weight_diverges_by_nothing(tiny_llama: Path, tmp_path: Path):
    streamed = StreamedModel(locate(str(tiny_llama)), dtype=torch.float32)
    found = []

    def work(visit: Visit) -> None:
        weight = get_module(visit.block, "mlp.up_proj").weight
        found.append(Divergence(streamed, IDS, 2).of(visit, {"mlp.up_proj": weight})["mlp.up_proj"])

    walk(streamed, IDS, streams=Streams(tmp_path), itinerary=Itinerary(0, 4, True, dense=True), work=work)
    assert found == [0.0, 0.0]
