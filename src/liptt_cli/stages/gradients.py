"""A part of stage 2: the squared gradients of each linear's outputs, measured once if anything asks for them."""

import torch
from safetensors.torch import save_file

from liptt_cli.calibration.gradients import Backward, gradient_squares
from liptt_cli.calibration.streams import Streams
from liptt_cli.menu.needs import needs_gradients
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.run_directory import write_file
from liptt_cli.stages.job import GRADIENTS, Job


def measure_gradients(job: Job) -> None:
    """Write the squared gradients of the selected linears, in float32, unless they are there or nobody asks."""
    folder = job.run.stage("decompose")
    if not needs_gradients(job.config) or (folder / GRADIENTS).exists():
        return
    calibration = job.config.calibration
    model = StreamedModel(job.source, dtype=torch.float32, trust_remote_code=job.config.load.trust_remote_code)
    job.reporter.begin("gradients", total=2 * job.structure.blocks)
    windows = job.windows[: calibration.gradient_windows]
    backward = Backward(windows, calibration.batch_windows, calibration.clip_percentile, job.reporter.advance)
    streams = Streams(folder / "streams")
    squares = gradient_squares(model, backward, streams=streams)
    chosen = {site.name: squares[site.name] for site in job.structure.sites}
    write_file(folder / GRADIENTS, lambda path: save_file(chosen, path))
    job.run.event("gradients", windows=len(windows), linears=len(chosen))
