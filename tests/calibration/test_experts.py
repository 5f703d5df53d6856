"""Thin experts: the formula of the docstring, shares of nothing and of all, and moments in one pass."""

from pathlib import Path

import pytest
import torch

from liptt_cli.algebra.metric import Look, Seen, see
from liptt_cli.calibration.collect import each_seen_by, seen_by
from liptt_cli.calibration.experts import filled_up, own_share
from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.models.hub import locate
from liptt_cli.models.streamed import StreamedModel

COLUMNS = 4
TOKENS = (8, 1, 0, 4)


def seen(*, whole: bool) -> tuple[list[Seen], torch.Tensor]:
    """Return what four experts saw, and all tokens."""
    x = torch.randn(sum(TOKENS), COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return [see(part, Look(whole)) for part in x.split(TOKENS)], x


@pytest.mark.parametrize("whole", [True, False])
def test_the_moments_are_those_of_the_formula(whole: bool):
    own, x = seen(whole=whole)
    rich, thin, unseen, enough = filled_up(own)
    assert rich is own[0] and enough is own[3]
    assert [each.tokens for each in (rich, thin, unseen, enough)] == list(TOKENS)
    part = x[8:9]
    torch.testing.assert_close(thin.square, part.square().mean(0) / 4 + 0.75 * x.square().mean(0))
    torch.testing.assert_close(unseen.square, x.square().mean(0))
    if whole:
        torch.testing.assert_close(thin.gram, part.T @ part / 4 + 0.75 * x.T @ x / len(x))
        torch.testing.assert_close(unseen.gram, x.T @ x / len(x))
        assert torch.linalg.matrix_rank(own[1].gram) == 1 and torch.linalg.matrix_rank(thin.gram) == COLUMNS
    else:
        assert thin.gram is None and unseen.gram is None


def test_the_share_grows_with_the_tokens_up_to_all():
    assert [own_share(tokens, columns=8) for tokens in (0, 2, 8, 9)] == [0.0, 0.25, 1.0, 1.0]


def test_one_pass_sees_what_a_pass_for_each_does(make_tiny_model, tmp_path: Path):
    directory = make_tiny_model("mixtral", tmp_path / "model")
    model = StreamedModel(locate(str(directory)), dtype=torch.float32)
    ids = torch.randint(0, 300, (3, 12), generator=torch.Generator().manual_seed(4))

    def check(visit: Visit) -> None:
        downs = [visit.block.get_submodule(f"mlp.experts.{number}.w2") for number in range(4)]
        together = each_seen_by(downs, visit.block, visit.clean, run=visit.run, look=Look(True))
        assert sum(each.tokens for each in together) == 2 * ids.numel()
        for linear, found in zip(downs, together, strict=True):
            alone = seen_by(linear, visit.block, visit.clean, run=visit.run, look=Look(True))
            assert alone.tokens == found.tokens and torch.equal(alone.gram, found.gram)
            assert not linear._forward_pre_hooks

    walk(model, ids, streams=Streams(tmp_path / "streams"), itinerary=Itinerary(0, 2, True), work=check)
