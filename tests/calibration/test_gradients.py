"""Gradient squares: those of one backward pass of the whole model, block by block, for every family."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from liptt_cli.algebra.metric import clipped
from liptt_cli.calibration.gradients import Backward, gradient_squares
from liptt_cli.calibration.streams import Streams
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.models.hub import load_model, locate
from liptt_cli.models.streamed import StreamedModel

IDS = torch.randint(0, 300, (5, 12), generator=torch.Generator().manual_seed(5))


def measured(directory: Path, folder: Path, **options: float) -> dict[str, Tensor]:
    model = StreamedModel(locate(str(directory)), dtype=torch.float32)
    return gradient_squares(model, Backward(IDS, **{"batch_windows": 2, **options}), streams=Streams(folder))


def of_the_whole(directory: Path) -> dict[str, Tensor]:
    """Return all gradients of the outputs of the blocks' linears, a token a row, by plain autograd."""
    model = load_model(locate(str(directory)), dtype=torch.float32)
    path, blocks = find_block_list(model)
    outputs: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    for number, block in enumerate(blocks):
        for inside, linear in linears(block).items():
            linear.register_forward_hook(keep(f"{path}.{number}.{inside}"))
    logits = model(input_ids=IDS).logits
    nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="sum").backward()
    return {name: output.grad.reshape(-1, output.shape[-1]) for name, output in outputs.items()}


def test_they_are_those_of_plain_autograd(tiny_models: Path, tmp_path: Path):
    found, wanted = measured(tiny_models, tmp_path), of_the_whole(tiny_models)
    assert set(found) == set(wanted)
    for name, gradients in wanted.items():
        squares = gradients.square().mean(0)
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], squares, rtol=1e-4, atol=1e-5 * float(squares.mean()))
    assert not list(tmp_path.iterdir())


def test_batches_change_nothing_and_clipping_shortens_what_comes_back(tiny_llama: Path, tmp_path: Path):
    plain, one, cut = (
        measured(tiny_llama, tmp_path, **options)
        for options in ({}, {"batch_windows": 5}, {"batch_windows": 5, "clip_percentile": 80.0})
    )
    wanted = of_the_whole(tiny_llama)
    for name, squares in plain.items():
        torch.testing.assert_close(one[name], squares, rtol=1e-4, atol=1e-5 * float(squares.mean()))
        expected = clipped(wanted[name], 80.0).square().mean(0)
        torch.testing.assert_close(cut[name], expected, rtol=1e-4, atol=1e-5 * float(expected.mean()))
        assert cut[name].sum() < squares.sum()


def test_a_linear_to_which_nothing_comes_back_gets_zeros(make_tiny_model: Callable[..., Path], tmp_path: Path):
    """With an output projection of zeros, what lies before it in attention is never felt."""
    directory = make_tiny_model("llama", tmp_path / "model")
    tensors = load_file(directory / "model.safetensors")
    muted = {name: tensor * ("o_proj" not in name) for name, tensor in tensors.items()}
    save_file(muted, directory / "model.safetensors", metadata={"format": "pt"})
    found = measured(directory, tmp_path / "streams")
    assert len(found) == 14
    for name, squares in found.items():
        assert bool((squares == 0).all()) == name.endswith(("q_proj", "k_proj", "v_proj")), name
