"""The first training of a schedule in several steps: float trains of the dial's ranks, before they are binarised.

    TT-SVD of each linear at its form's ranks  ->  all trains trained end to end  ->  the walk binarises what they make

The practice that LipTT's abstract sets its one step against (decompose, heal, binarise, heal); `finetune` is the second
healing. Runs on one process. The walk's dense targets stay those of the source model.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.catalogue import factor_of, objective_of
from liptt_cli.formats.base import Encoded
from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm
from liptt_cli.layers.surgery import get_module, thawed
from liptt_cli.menu.decompose import TensorTrain
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.assemble import dense_model
from liptt_cli.stages.job import Job
from liptt_cli.stages.trained import progress, write_trained
from liptt_cli.tuning import finetune_model
from liptt_cli.tuning_loop import Course


def heal(job: Job, forms: Mapping[str, Form]) -> dict[str, float | int]:
    """Write the healed trains beside the forms, if that is asked for; return what the training came to."""
    wanted = job.config.decompose.heal
    if not wanted.trains:
        return {}
    options = wanted.in_steps(len(job.windows))
    job.reporter.begin("heal", total=options.steps)
    student = dense_model(job)
    values = {name: _train_of(_weight(student, name), form) for name, form in forms.items()}
    modules = thawed(student, values, tuning=options)
    course = Course(
        options=options,
        objectives=[objective_of(each) for each in options.objectives],
        seed=job.config.seed,
        checkpoint=_checkpoint(job),
        on_step=progress(job.reporter),
    )
    history = finetune_model(
        student, dense_model(job), block_path=job.structure.block_path, ids=job.windows, course=course
    )
    write_trained(job, "decompose", student, {name: module.freeze() for name, module in modules.items()})
    _checkpoint(job).unlink(missing_ok=True)
    return {"steps": len(history.records), "first": history.records[0].loss, "last": history.records[-1].loss}


def healed_weight(job: Job, name: str) -> Float[Tensor, "out in"] | None:
    """Return a linear's weight as it was healed, None where nothing was."""
    overlay = Overlay.read(job.block_files("decompose"))
    return overlay.value(name).dense() if name in overlay.forms else None


def _train_of(weight: Float[Tensor, "out in"], form: Form) -> Encoded:
    """Return the weight's float train with the modes and ranks of its binary one."""
    if not isinstance(form, ChainForm):
        raise ValueError(f"only chains are healed, not a {type(form).__name__}")
    cores = tuple(DenseForm(core.shape, "float32") for core in form.cores)
    bare = ChainForm(form.shape, form.out_modes, form.in_modes, form.ranks, cores, (False,) * len(form.scales))
    factor = factor_of(TensorTrain(kind="tensor_train", start="svd"))
    return factor.start(weight.float(), form=bare, generator=torch.Generator())


def _weight(model: nn.Module, name: str) -> Float[Tensor, "out in"]:
    linear = get_module(model, name)
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{name} is a {type(linear).__name__}, and was a linear when the model was described")
    return linear.weight.detach()


def _checkpoint(job: Job) -> Path:
    return job.run.stage("decompose") / "checkpoint.pt"
