"""Recording how a model calls its blocks, whatever the calling convention."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from liptt_cli.errors import ModelError
from liptt_cli.models.calls import extras_of, handing_on, hidden_of, record


class Step(nn.Module):
    """A block with an attribute that the model looks at."""

    kind = "plain"

    def forward(self, x: Tensor, mask: Tensor | None = None, *, shift: int = 0, **more: Any) -> tuple[Tensor, str]:
        """Return a tuple."""
        return x + shift, "extra"


class Loose(nn.Module):
    """A block that takes unnamed arguments."""

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """Return the tensor."""
        return x


@pytest.fixture
def steps() -> list[nn.Module]:
    """Two blocks."""
    return [Step(), Step()]


def test_arguments_are_recorded_by_name(steps: list[nn.Module]) -> None:
    """Positional, keyword and extra arguments come back by name; the code behind the last block does not run."""
    mask, entered, after = torch.ones(2), torch.zeros(3), []

    def forward() -> None:
        hidden = steps[0](entered, mask, note=steps[0].kind)[0]
        steps[1](x=hidden, shift=3)
        after.append(hidden)

    recording = record(steps, forward, extras=("extra",))
    assert recording.hidden[0] is entered
    assert recording.arguments == [{"mask": mask, "note": "plain"}, {"shift": 3}]
    assert after == []
    assert torch.equal(steps[0](entered, shift=2)[0], entered + 2)


def test_a_block_that_is_left_out_is_refused(steps: list[nn.Module]) -> None:
    """One of two called; and the second first."""
    with pytest.raises(ModelError, match="called 1 of its 2 blocks"):
        record(steps, lambda: steps[0](torch.zeros(1)), extras=("extra",))
    with pytest.raises(ModelError, match="block 1 was called as number 0"):
        record(steps, lambda: steps[1](torch.zeros(1)), extras=("extra",))


def test_unnamed_arguments_are_refused() -> None:
    """They cannot be given again by name; without them the block is fine."""
    loose = Loose()
    with pytest.raises(ModelError, match="unnamed arguments"):
        record([loose], lambda: loose(torch.zeros(1), torch.ones(1)), extras=None)
    assert record([loose], lambda: loose(torch.zeros(1)), extras=None).arguments == [{}]


def test_a_first_argument_that_is_no_tensor_is_refused() -> None:
    """Hidden states must come first."""
    loose = Loose()
    with pytest.raises(ModelError, match="hidden states were expected"):
        record([loose], lambda: loose("text"), extras=None)


def test_handing_on_stands_in_for_all_blocks(steps: list[nn.Module]) -> None:
    """Every block gives the same, and is itself again afterwards."""
    last = torch.full((2,), 7.0)
    with handing_on(steps, last, extras=("extra",)):
        assert steps[1](torch.zeros(2)) == (last, "extra")
    assert torch.equal(steps[1](torch.zeros(2))[0], torch.zeros(2))


def test_outputs_are_taken_apart() -> None:
    """A bare tensor, a tuple, and something that is neither."""
    hidden = torch.zeros(1)
    assert hidden_of(hidden) is hidden
    assert hidden_of((hidden, 1)) is hidden
    assert extras_of(hidden) is None
    assert extras_of((hidden, 1)) == (1,)
    with pytest.raises(ModelError, match="without hidden states"):
        hidden_of(("text",))
