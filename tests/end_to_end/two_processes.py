"""A program for `accelerate launch`: fine-tune a tiny Llama and let the first process write the losses.

Arguments: model directory, folder for checkpoint and losses, the step after which process 1 dies (-1: never).
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.layers.surgery import thawed
from liptt_cli.menu import tuning as menu
from liptt_cli.tuning import finetune_model, make_accelerator
from liptt_cli.tuning_loop import Course, History

OPTIONS = menu.Tuning(
    steps=8,
    batch_windows=2,
    accumulate=2,
    train=["codes", "scales", "norms"],
    learning_rate=menu.LearningRates(codes=0.01),
    objectives=[menu.TeacherNats(kind="teacher_nats")],
    checkpoint_steps=3,
)


def finetune(directory: Path, course: Course) -> History:
    """Train the attention's queries and the up projections as signs under a row scale."""
    student, teacher = (AutoModelForCausalLM.from_pretrained(directory) for _ in range(2))
    values, sources = {}, {}
    for name, module in teacher.named_modules():
        if name.endswith(("q_proj", "up_proj")):
            weight = module.weight.detach()
            sources[name] = [weight[None]]
            rows = weight.abs().mean(1).half().reshape(1, 1, -1, 1)
            values[name] = Grid((weight >= 0).to(torch.uint8)[None], Envelope(rows, None, weight.shape[1]))
    thawed(student, values, tuning=course.options, sources=sources)
    ids = torch.randint(0, 300, (10, 12), generator=torch.Generator().manual_seed(1))
    return finetune_model(student, teacher, block_path="model.layers", ids=ids, course=course)


def objectives() -> list[TeacherNats | HiddenSquare | Lipschitz]:
    """Return one of each kind that compares with a teacher."""
    return [
        TeacherNats(),
        HiddenSquare(weight=0.5),
        Lipschitz(weight=0.05),
        Lipschitz(weight=0.05, estimator="directional"),
        Lipschitz(weight=0.05, estimator="error_direction"),
    ]


def main() -> None:
    """Train in this process's share, and die where asked."""
    directory, folder, death = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    accelerator = make_accelerator()
    course = Course(OPTIONS, objectives(), 0, folder / "state.pt", accelerator=accelerator, recompute=True)
    if death >= 0 and accelerator.process_index == 1:
        course = replace(course, objectives=_dying(death))
    history = finetune(directory, course)
    if accelerator.is_main_process:
        record = {
            "processes": accelerator.num_processes,
            "losses": [row.loss for row in history.records],
            "flip_share": history.flip_share,
        }
        (folder / "history.json").write_text(json.dumps(record))


def _dying(step: int) -> list[TeacherNats | HiddenSquare | Lipschitz]:
    class Dying(HiddenSquare):
        calls = 0

        def loss(self, student: object, teacher: object, *, generator: torch.Generator) -> torch.Tensor:
            Dying.calls += 1
            if Dying.calls > step * OPTIONS.accumulate:
                os._exit(9)
            return super().loss(student, teacher, generator=generator)

    return [Dying(weight=0.5) if isinstance(each, HiddenSquare) else each for each in objectives()]


if __name__ == "__main__":
    main()
