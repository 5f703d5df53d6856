"""`liptt compress`: the six stages, from one YAML file to a packed model."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from liptt_cli.cli import screen
from liptt_cli.cli.boundary import exit_status
from liptt_cli.cli.plan import print_plan
from liptt_cli.config import LoadedConfig, configs_folder, load_config, render_config
from liptt_cli.errors import ConfigError, Interrupted, LipttError
from liptt_cli.exports.preflight import refuse_forms
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.architectures import model_shape
from liptt_cli.planning.plan import chosen_sites, structure
from liptt_cli.run_directory import STAGES, RunDirectory, Written, create, look_at, reopen

_WORTH_KEEPING = frozenset({LipttError.exit_status, Interrupted.exit_status})  # our fault has its log there


def compress_command(
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="A YAML file, or the name of a shipped configuration.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="stage.key=value; can be given again.", metavar="KEY=VALUE")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory; default: runs/<name of the file>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run directory.", metavar="RUN")] = None,
    until: Annotated[str, typer.Option(help=f"Last stage to run: {', '.join(STAGES)}.")] = STAGES[-1],
    seed: Annotated[int | None, typer.Option(help="Same as --set seed=N.")] = None,
    num_processes: Annotated[int, typer.Option(help="Processes for the fine-tune, through accelerate.", min=1)] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Compress a model: load, decompose, binarize, fine-tune, evaluate, export.

    Example: liptt compress --config tiny --output runs/tiny
    """
    if until not in STAGES:
        raise typer.BadParameter(f"--until {until}: no such stage; there are {', '.join(STAGES)}")
    words = list(overrides or []) + ([] if seed is None else [f"seed={seed}"])
    loaded = None if config is None else load_config(config, overrides=words)
    if loaded is None and (resume is None or words or dry_run):
        raise typer.BadParameter("--config is needed, or --resume with a run directory")
    if resume is not None and output is not None:
        raise typer.BadParameter("--resume RUN names the run directory; leave --output out")
    if loaded is not None and dry_run:
        print_plan(loaded, as_json=as_json)
        return
    if num_processes > 1 and "LOCAL_RANK" not in os.environ:
        _relaunch(num_processes)
    _compress(_Wanted(loaded, output, resume), until=until, as_json=as_json)


def _relaunch(processes: int) -> None:
    """Run this very command line in several processes, and end with their status.

    torch's launcher, since `accelerate launch` starts several processes on a CPU only with MPI.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["--module", "liptt_cli", *sys.argv[1:]]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    raise SystemExit(subprocess.run(command, check=False, env=environment).returncode)


@dataclass(frozen=True)
class _Wanted:
    loaded: LoadedConfig | None
    output: Path | None
    resume: Path | None

    @property
    def path(self) -> Path:
        """Return the run directory."""
        if self.resume is not None:
            return self.resume
        if self.output is not None or self.loaded is None:
            return self.output or Path()
        return Path(self.loaded.config.output) / self.loaded.source_path.stem

    def written(self) -> Written | None:
        """Return the configuration as the run directory keeps it: so that any folder is good to resume from."""
        if self.loaded is None:
            return None
        origin = self.loaded.source_path.absolute()
        resolved = _rooted(self.loaded.resolved, places=(Path(), origin.parent))
        return Written(origin, self.loaded.source_text, render_config(resolved), resolved)


def _rooted(resolved: Mapping[str, Any], *, places: Sequence[Path]) -> dict[str, Any]:
    """Give what lies on this machine its absolute path: a model's folder, files of text and of tasks."""
    model, calibration, evaluate = resolved["model"], resolved["calibration"], resolved["evaluate"]
    texts = {key: [_found(name, places, _is_text) for name in evaluate[key]] for key in ("perplexity", "tasks")}
    corpus = calibration["corpus"]
    mix = isinstance(corpus, Mapping)
    rooted = {_found(name, places, _is_text): share for name, share in corpus.items()} if mix else corpus
    return {
        **resolved,
        "model": None if model is None else _found(model, (*places, configs_folder()), Path.is_dir),
        "calibration": {**calibration, "corpus": rooted if mix else _found(corpus, places, _is_text)},
        "evaluate": {**evaluate, **texts},
    }


def _found(name: str, places: Sequence[Path], is_it: Callable[[Path], bool]) -> str:
    """Return the absolute path of what a name stands for in the first place that has it, else the name."""
    return next((str((place / name).resolve()) for place in places if is_it(place / name)), name)


def _is_text(path: Path) -> bool:
    return path.suffix != "" and path.is_file()


def _compress(wanted: _Wanted, *, until: str, as_json: bool) -> None:
    from liptt_cli.models.hub import Source, locate
    from liptt_cli.pipeline import compress
    from liptt_cli.stages.job import Job
    from liptt_cli.tuning import make_accelerator

    def located(settings: RunConfig, origin: Path | None) -> Source:
        if settings.model is None:
            raise ConfigError(
                "model: a method alone names no model; add `model: DIRECTORY or hub id`, or --set model=..."
            )
        return locate(settings.model, revision=settings.revision, near=origin.parent if origin else None)

    accelerator = make_accelerator()
    written = wanted.written()
    if wanted.resume is None and written is not None:
        checked = RunConfig.model_validate(written.resolved)
        _refuse_hopeless(checked, located(checked, written.origin).path)
    run = None
    if accelerator.is_main_process:
        run = _opened(wanted, written)
    accelerator.wait_for_everyone()
    run = run or look_at(wanted.path)
    settings = RunConfig.model_validate(run.resolved)
    try:
        with screen.progress() as reporter:
            job = Job(settings, run, located(settings, run.origin), run.origin.parent if run.origin else None, reporter)
            report = compress(job, accelerator, until=until)
    except (LipttError, OSError) as error:
        if wanted.resume is None and accelerator.is_main_process and exit_status(error) not in _WORTH_KEEPING:
            _discard_if_barren(run)
        raise
    else:
        if accelerator.is_main_process:
            _tell(run, report, as_json=as_json)
    finally:
        run.release()


def _refuse_hopeless(settings: RunConfig, model: Path) -> None:
    """Plan the run by the headers of the weight files alone, so that no weight is read for nothing.

    A dial out of reach is refused, and an export that could not hold what the recipe makes of this model.
    """
    from liptt_cli.exports.model_check import refuse_model

    shape = model_shape(model)
    refuse_forms(settings, structure(settings, shape, chosen_sites(settings, shape)).forms)
    refuse_model(settings, model)


def _opened(wanted: _Wanted, written: Written | None) -> RunDirectory:
    if wanted.resume is not None:
        return reopen(wanted.resume, resolved=written.resolved if written else None)
    if written is None:
        raise ConfigError("--config is needed to start a run")
    return create(wanted.path, written)


def _discard_if_barren(run: RunDirectory) -> None:
    """Remove a run that was refused before it had decided anything: nothing of it is worth resuming."""
    if not run.is_whole("decompose"):
        run.discard()


def _tell(run: RunDirectory, report: dict[str, Any] | None, *, as_json: bool) -> None:
    if as_json:
        screen.emit_json(report if report is not None else {"run": str(run.path), "report": None})
    elif report is None:
        screen.emit(f"{run.path}: stopped where --until says. Go on: liptt compress --resume {run.path}")
    else:
        screen.emit((run.path / "report.md").read_text(encoding="utf8"))
        screen.say(f'Packed model: {run.path / "model"}   try: liptt generate {run.path} "Once upon a time"')
