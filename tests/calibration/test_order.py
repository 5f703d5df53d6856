"""The windows of a step are a pure function of seed and step."""

import torch

from liptt_cli.calibration.order import seeded_generator, step_windows


def test_an_epoch_holds_every_window_once():
    for epoch in range(3):
        steps = [step_windows(step, windows=12, batch=4, seed=5) for step in range(3 * epoch, 3 * epoch + 3)]
        assert sorted(torch.cat(steps).tolist()) == list(range(12))


def test_batches_run_over_the_ends_of_epochs():
    stream = torch.cat([step_windows(step, windows=5, batch=3, seed=1) for step in range(5)])
    assert [sorted(epoch.tolist()) for epoch in stream.split(5)] == [list(range(5))] * 3
    large = step_windows(0, windows=5, batch=12, seed=1)
    assert torch.equal(large, stream[:12])


def test_seeds_and_epochs_differ():
    orders = {tuple(step_windows(step, windows=20, batch=20, seed=seed).tolist()) for step in (0, 1) for seed in (0, 1)}
    assert len(orders) == 4


def test_a_generator_depends_on_its_whole_path():
    draws = {
        torch.rand(1, generator=seeded_generator(*path)).item() for path in ((0, "a", 1), (0, "a", 2), (1, "a", 1))
    }
    assert len(draws) == 3
    assert seeded_generator(3, "b").initial_seed() == seeded_generator(3, "b").initial_seed()
