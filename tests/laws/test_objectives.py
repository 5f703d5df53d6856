"""The laws of objectives, for every kind on the menu, and each against its formula."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.algebra.objectives.hidden_cosine import HiddenCosine
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.label_nats import LabelNats
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.catalogue import OBJECTIVES, objective_of
from liptt_cli.errors import ConfigError
from liptt_cli.menu import tuning

RECORDS = [
    tuning.LabelNats(kind="label_nats"),
    tuning.TeacherNats(kind="teacher_nats", temperature=2.0),
    tuning.TeacherNats(kind="teacher_nats", entropy_power=2.0),
    tuning.HiddenCosine(kind="hidden_cosine"),
    tuning.HiddenCosine(kind="hidden_cosine", form="log", drop_last=True),
    tuning.HiddenSquare(kind="hidden_square"),
    tuning.HiddenSquare(kind="hidden_square", normalise=False),
    tuning.Lipschitz(kind="lipschitz", weight=1.0, positions=6),
    tuning.Lipschitz(kind="lipschitz", weight=1.0, estimator="directional", blocks_each_step=2),
    tuning.Lipschitz(kind="lipschitz", weight=1.0, estimator="error_direction"),
]


@pytest.fixture(
    params=RECORDS,
    ids=lambda record: f"{record.kind} {getattr(record, 'estimator', getattr(record, 'form', ''))}".strip(),
)
def objective(request):
    return objective_of(request.param)


def draw(seed):
    return torch.Generator().manual_seed(seed)


class Bent:
    """A branch that is louder in a later block and bends, so that direction and place matter."""

    def __init__(self, mixing):
        self.mixing = mixing

    def __call__(self, number, state):
        return state + (number + 1) * torch.tanh(state @ self.mixing) / 3


def trace(seed, *, windows=3, dtype=torch.float64):
    generator = draw(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    labels = torch.randint(0, 11, (windows, 9), generator=generator)
    labels[:, -1] = -100
    hidden = {b: normal(windows, 9, 6) for b in (-1, 0, 1)}
    return Trace(normal(windows, 9, 11), labels, hidden, Bent(normal(6, 6)))


def part(whole, rows):
    hidden = {b: state[rows] for b, state in whole.hidden.items()}
    return Trace(whole.logits[rows], whole.labels[rows], hidden, whole.block)


def leaves(whole):
    return [whole.logits, *whole.hidden.values(), whole.block.mixing]


def test_the_catalogue_serves_the_whole_menu():
    union = get_args(tuning.Objective)[0]
    assert set(OBJECTIVES) == set(get_args(union))
    for record in RECORDS:
        built = objective_of(record.model_copy(update={"weight": 0.3}))
        assert built.weight == 0.3
        assert built.kind == record.kind
        assert built.needs <= {"logits", "labels", "hidden", "block"}


def test_a_distance_is_zero_when_the_student_is_the_teacher(objective):
    one = trace(0)
    loss = objective.loss(one, one, generator=draw(1))
    if objective.kind == "label_nats":
        assert loss > 0
    else:
        assert loss.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_are_not_negative_and_gradients_finite(objective, dtype):
    student, teacher = trace(0, dtype=dtype), trace(1, dtype=dtype)
    if dtype == torch.bfloat16 and getattr(objective, "estimator", "") == "directional":
        with pytest.raises(ConfigError, match="load.dtype: float32"):
            objective.loss(student, teacher, generator=draw(2))
        return
    loss = objective.loss(student, teacher, generator=draw(2))
    assert loss > 0
    loss.backward()
    gradients = [leaf.grad for leaf in leaves(student) if leaf.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(leaf.grad is None for leaf in leaves(teacher))


def test_the_gradient_is_that_of_finite_differences():
    student, teacher = trace(0, windows=1), trace(1, windows=1)
    for record in RECORDS:
        built = objective_of(record)
        inputs = leaves(student)
        if isinstance(built, Lipschitz):
            built = replace(built, power_steps=100, positions=512)
        if isinstance(built, Lipschitz) and built.estimator != "retention":
            inputs = [*(state.detach() for state in inputs[:-1]), inputs[-1]]  # the direction is held fixed

        def loss(*states, built=built):
            hidden = dict(zip((-1, 0, 1), states[1:4], strict=True))
            changed = Trace(states[0], student.labels, hidden, Bent(states[4]))
            return built.loss(changed, teacher, generator=draw(2))

        assert torch.autograd.gradcheck(loss, tuple(inputs), atol=1e-4, fast_mode=True)


def test_the_loss_of_a_batch_is_the_mean_over_its_windows(objective):
    student, teacher = trace(0), trace(1)
    whole = objective.loss(student, teacher, generator=draw(2))
    rows = [slice(w, w + 1) for w in range(3)]
    alone = [objective.loss(part(student, r), part(teacher, r), generator=draw(2)) for r in rows]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_a_trace_that_lacks_something_is_refused(objective):
    with pytest.raises(ValueError, match="needs"):
        objective.loss(Trace(), Trace(), generator=draw(0))


def test_nats_are_those_of_the_formula():
    student, teacher = trace(0), trace(1)
    p, q = teacher.logits.softmax(-1), student.logits.softmax(-1)
    divergence = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(TeacherNats().loss(student, teacher, generator=draw(0)), divergence)
    picked = q[:, :-1].gather(2, student.labels[:, :-1, None]).log()
    torch.testing.assert_close(LabelNats().loss(student, teacher, generator=draw(0)), -picked.mean())


def test_an_entropy_power_weighs_each_windows_tokens_by_how_unsure_both_are():
    student, teacher = trace(0), trace(1)
    p, q = teacher.logits.softmax(-1), student.logits.softmax(-1)
    nats = (p * (p / q).log()).sum(-1)
    unsure = -((p * p.log()).sum(-1) + (q * q.log()).sum(-1)) / (2 * math.log(11))
    wanted = ((unsure**2 * nats).sum(1) / (unsure**2).sum(1)).mean()
    loss = TeacherNats(entropy_power=2.0).loss(student, teacher, generator=draw(0))
    torch.testing.assert_close(loss, wanted)
    sure = Trace(logits=torch.eye(11, dtype=torch.float64)[None, :9] * 1e4)
    assert TeacherNats(entropy_power=2.0).loss(sure, sure, generator=draw(0)) == 0


def test_hidden_cosine_is_the_angle_of_each_token_whatever_the_sizes():
    student, teacher = trace(0), trace(1)
    cos = [torch.nn.functional.cosine_similarity(student.hidden[b], teacher.hidden[b], dim=-1) for b in (0, 1)]
    loss = HiddenCosine().loss(student, teacher, generator=draw(0))
    torch.testing.assert_close(loss, torch.stack([1 - each for each in cos]).mean())
    log = HiddenCosine(form="log").loss(student, teacher, generator=draw(0))
    torch.testing.assert_close(log, -torch.stack([((1 + each) / 2).log() for each in cos]).mean())
    longer = Trace(hidden={b: (b + 2) * state for b, state in teacher.hidden.items()})
    assert HiddenCosine().loss(longer, teacher, generator=draw(0)).item() == pytest.approx(0, abs=1e-12)


def test_hidden_cosine_leaves_blocks_out_but_not_all():
    student, teacher = trace(0), trace(1)
    only = {b: HiddenCosine().loss(Trace(hidden={b: student.hidden[b]}), teacher, generator=draw(0)) for b in (0, 1)}
    assert HiddenCosine(drop_last=True).loss(student, teacher, generator=draw(0)) == only[0]
    assert HiddenCosine(first=1).loss(student, teacher, generator=draw(0)) == only[1]
    with pytest.raises(ConfigError, match="needs the outputs of blocks from 1 on without the last"):
        HiddenCosine(first=1, drop_last=True).loss(student, teacher, generator=draw(0))


def test_hidden_square_is_relative_to_the_teacher_and_leaves_the_input_out():
    teacher = trace(0)
    hidden = {b: 1.1 * state for b, state in teacher.hidden.items()} | {-1: torch.zeros(3, 9, 6, dtype=torch.float64)}
    loss = HiddenSquare().loss(Trace(hidden=hidden), teacher, generator=draw(0))
    assert loss.item() == pytest.approx(0.01)


@pytest.mark.parametrize("normalise", [True, False])
def test_hidden_square_weighs_each_entry_of_the_width_by_its_share_of_the_mean_weight(normalise):
    student, teacher = trace(0), trace(1)
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    taught = replace(teacher, weights=dict.fromkeys(teacher.hidden, weights))
    loss = HiddenSquare(normalise=normalise, weights="fisher").loss(student, taught, generator=draw(0))
    wanted = []
    for b in sorted(teacher.hidden)[1:]:
        square = weights / 2.5 * (student.hidden[b] - teacher.hidden[b]).square()
        energy = (weights / 2.5 * teacher.hidden[b].square()).sum((1, 2))
        wanted.append((square.sum((1, 2)) / energy).mean() if normalise else square.mean())
    torch.testing.assert_close(loss, torch.stack(wanted).mean())
    with pytest.raises(ValueError, match="needs squared gradients of block"):
        HiddenSquare(weights="fisher").loss(student, teacher, generator=draw(0))


def linear_trace(weight, *, before=None):
    """One linear block, h + W h, on hidden states that reach it."""
    state = torch.randn(2, 7, len(weight), generator=draw(3), dtype=torch.float64) if before is None else before
    return Trace(hidden={-1: state, 0: state + state @ weight.T}, block=lambda _, h: h + h @ weight.T)


@pytest.mark.parametrize("estimator", ["directional", "error_direction"])
def test_one_sided_costs_nothing_below_the_teacher_and_the_whole_log_ratio_above(estimator):
    weight = torch.randn(6, 6, generator=draw(0), dtype=torch.float64)
    teacher = linear_trace(weight)
    wrong = teacher.hidden[-1] + 0.1 * torch.randn(2, 7, 6, generator=draw(4), dtype=torch.float64)
    for factor, cost in ((0.5, 0.0), (2.0, math.log(2) ** 2)):
        student = linear_trace(factor * weight, before=wrong)
        one, two = (
            Lipschitz(estimator=estimator, sided=sided).loss(student, teacher, generator=draw(1))
            for sided in ("one", "two")
        )
        assert one.item() == pytest.approx(cost, rel=1e-4)
        assert two.item() == pytest.approx(math.log(2) ** 2, rel=1e-4)


def test_the_directional_term_is_the_log_ratio_of_spectral_norms_of_commuting_linear_blocks():
    left, right = (torch.linalg.qr(torch.randn(6, 6, generator=draw(s), dtype=torch.float64))[0] for s in (0, 1))
    teacher, student = (
        left @ torch.diag(torch.tensor(sizes, dtype=torch.float64)) @ right.T
        for sizes in ([3.0, 1.0, 0.5, 0.5, 0.2, 0.1], [1.2, 2.0, 0.5, 0.5, 0.2, 0.1])
    )
    term = Lipschitz(estimator="directional", power_steps=30)
    loss = term.loss(linear_trace(student), linear_trace(teacher), generator=draw(2))
    assert loss.item() == pytest.approx(math.log(1.2 / 3.0) ** 2, rel=1e-2)


def test_blocks_are_drawn_and_no_error_means_nothing_to_amplify():
    student, teacher = trace(0), trace(1)
    numbers = [Lipschitz(estimator="directional")._blocks(student, teacher, draw(s)) for s in range(8)]
    assert {len(found) for found in numbers} == {1} and {0, 1} == {found[0] for found in numbers}
    assert Lipschitz()._blocks(student, teacher, draw(0)) == [0, 1]
    clean = Trace(hidden={**student.hidden, -1: teacher.hidden[-1]}, block=student.block)
    found = [Lipschitz(estimator="error_direction")._blocks(clean, teacher, draw(s)) for s in range(8)]
    assert found == [[1]] * 8


def test_twice_the_gain_costs_the_square_of_log_two():
    teacher = trace(0)
    before, after = teacher.hidden[-1], teacher.hidden[0]
    student = Trace(hidden={-1: before, 0: before + 2 * (after - before)})
    loss = Lipschitz().loss(student, Trace(hidden={-1: before, 0: after}), generator=draw(1))
    assert loss.item() == pytest.approx(math.log(2) ** 2, rel=1e-4)


class Block(nn.Module):
    """A small pre-norm transformer block; its output weights carry the gain."""

    def __init__(self, width=16):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, x):
        inside = self.norms[0](x)
        x = x + self.attention(inside, inside, inside, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(self.norms[1](x))))


@pytest.mark.parametrize("objective", [Lipschitz(), Lipschitz(estimator="directional")], ids=lambda o: o.estimator)
def test_the_term_brings_the_ratio_of_a_block_of_doubled_gain_back_towards_one(objective):
    torch.manual_seed(0)
    teacher, student = Block(), Block()
    with torch.no_grad():
        teacher.down.weight.mul_(4)
        student.load_state_dict(teacher.state_dict())
        for linear in (student.attention.out_proj, student.down):
            linear.weight.mul_(2)
            linear.bias.mul_(2)
    x = torch.randn(4, 24, 16)
    target = Trace(hidden={-1: x, 0: teacher(x).detach()}, block=lambda _, h: teacher(h))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        now = Trace(hidden={-1: x, 0: student(x)}, block=lambda _, h: student(h))
        loss = objective.loss(now, target, generator=draw(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2) ** 2, rel=0.1)
    assert losses[-1] < (0.01 if objective.estimator == "retention" else 0.1) * losses[0]
