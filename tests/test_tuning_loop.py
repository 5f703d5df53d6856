"""The training loop: it lowers losses, resumes to the bit, and stops with a clear word when numbers break."""

from dataclasses import replace

import pytest
import torch

from lessons import block_lesson, course, options, same, state
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.errors import ConfigError, DivergenceError, OtherRunError
from liptt_cli.menu import tuning as menu
from liptt_cli.tuning import tune


def test_a_block_learns_and_everything_outside_of_train_stays():
    lesson, seen = block_lesson(), []
    before = state(lesson.module)
    history = tune(lesson, course=course(options=options(steps=60), on_step=lambda *row: seen.append(row)))
    assert history.records[-1].loss < 0.8 * history.records[0].loss
    assert [record.step for record in history.records] == list(range(60))
    assert history.records[7].parts == {"hidden_square": pytest.approx(history.records[7].loss)}
    assert history.flip_share is not None
    assert 0 < history.flip_share < 0.5
    assert [record for record, _ in seen] == history.records
    assert seen[-1][1] == 0
    assert seen[0][1] > 0
    moved = {name for name, tensor in state(lesson.module).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if "latent" in name}


def test_weights_and_several_objectives_add_up_and_a_weight_of_zero_is_a_diagnostic():
    objectives = [HiddenSquare(weight=0.5), Lipschitz(weight=0.1), HiddenSquare(weight=0.0, normalise=False)]
    lesson, alone = block_lesson(), block_lesson()
    record = tune(lesson, course=course(objectives=objectives)).records[-1]
    assert list(record.parts) == ["hidden_square 0", "lipschitz", "hidden_square 2"]
    assert record.loss == pytest.approx(0.5 * record.parts["hidden_square 0"] + 0.1 * record.parts["lipschitz"])
    tune(alone, course=course(objectives=objectives[:2]))
    assert same(state(lesson.module), state(alone.module))


def test_accumulated_batches_are_one_large_batch():
    whole = tune(block_lesson(), course=course(options=options(batch_windows=6)))
    parts = tune(block_lesson(), course=course(options=options(batch_windows=2, accumulate=3)))
    for record, other in zip(whole.records, parts.records, strict=True):
        assert record.loss == pytest.approx(other.loss, rel=1e-4)
    assert whole.records[0].gradient_norm == pytest.approx(parts.records[0].gradient_norm, rel=1e-4)


def test_windows_limit_what_is_seen():
    lesson, seen = block_lesson(), set()

    def watched(index):
        seen.update(index.tolist())
        return lesson.teacher(index)

    tune(replace(lesson, teacher=watched), course=course(options=options(windows=3)))
    assert seen == {0, 1, 2}


class Stop(Exception):
    pass


def latent(**changes):
    return {"latent": menu.LatentOptions(**changes)}


FLIPS = latent(kind="flips", flip_share=0.05, flip_every=3)


@pytest.mark.parametrize("changes", [{}, latent(ste="ede"), FLIPS, FLIPS | {"train": ["codes"]}])
@pytest.mark.parametrize("stop", [0, 4, 8, 11])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, stop, changes):
    chosen = options(**changes)

    def lesson():
        return block_lesson(tuning=chosen)

    def stopper(record, _seconds):
        if record.step == stop:
            raise Stop

    path = tmp_path / "state.pt"
    whole = lesson()
    straight = tune(whole, course=course(options=chosen))
    with pytest.raises(Stop):
        tune(lesson(), course=course(options=chosen, checkpoint=path, on_step=stopper))
    assert path.exists() == (stop >= 4)
    seen = []
    resumed = lesson()
    history = tune(
        resumed, course=course(options=chosen, checkpoint=path, on_step=lambda record, _: seen.append(record.step))
    )
    assert seen == list(range({0: 0, 4: 5, 8: 5, 11: 12}[stop], 12))
    assert history == straight
    assert same(state(resumed.module), state(whole.module))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    first = course(checkpoint=tmp_path / "state.pt")
    tune(block_lesson(), course=first)
    for other in (replace(first, seed=4), replace(first, options=options(betas=[0.9, 0.99]))):
        with pytest.raises(OtherRunError, match=r"state\.pt: the checkpoint is of another training"):
            tune(block_lesson(), course=other)


def test_a_loss_that_is_not_finite_names_step_and_part():
    lesson = block_lesson()

    def broken(index):
        trace = lesson.teacher(index)
        return replace(trace, hidden={**trace.hidden, 0: trace.hidden[0] * (float("nan") if 7 in index else 1)})

    with pytest.raises(DivergenceError, match=r"step \d+: hidden_square is nan; lower the learning rate of codes"):
        tune(replace(lesson, teacher=broken), course=course())
    assert all(torch.isfinite(tensor).all() for tensor in state(lesson.module).values())


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ConfigError, match="nothing to train among weights"):
        tune(block_lesson(), course=course(options=options(train=["weights"])))
    with pytest.raises(ConfigError, match="windows: 11 asked for, but there are 10"):
        tune(block_lesson(), course=course(options=options(windows=11)))


def test_epochs_are_counted_in_steps():
    chosen = options(steps=0, epochs=3, batch_windows=2, accumulate=2)
    assert [record.step for record in tune(block_lesson(), course=course(options=chosen)).records] == list(range(9))
    assert chosen.in_steps(10, processes=2).steps == 6
    assert chosen.in_steps(10).in_steps(99).steps == 9
    assert options(steps=0, epochs=2, batch_windows=2, windows=5).in_steps(10).steps == 6
    assert options().in_steps(10) is not None and not options(steps=0).trains
    with pytest.raises(ValueError, match="steps: 12 and epochs: 2 say the same"):
        options(epochs=2)


def test_signs_flip_without_a_float_behind_them_and_learn():
    chosen = options(steps=60, latent=menu.LatentOptions(kind="flips", flip_share=0.03, flip_every=4))
    lesson = block_lesson(tuning=chosen)
    history = tune(lesson, course=course(options=chosen))
    assert history.records[-1].loss < 0.8 * history.records[0].loss
    assert 0 < history.flip_share < 0.5
    codes = lesson.module[1].groups()["codes"]
    assert len(codes) == 2
    assert all((parameter.abs() == 1).all() for parameter in codes)


def test_an_estimator_that_steepens_is_told_how_far_the_training_is():
    chosen, slopes = options(steps=4, **latent(ste="ede")), []
    lesson = block_lesson(tuning=chosen)
    core = lesson.module[1].latent.cores[0]

    def watched(index):
        slopes.append(core.codes.slope)
        return lesson.student(index)

    tune(replace(lesson, student=watched), course=course(options=chosen))
    assert slopes == pytest.approx([10 ** (2 * step / 4 - 1) for step in range(4)])
    assert core.codes.slope == pytest.approx(10)
