"""`liptt`: the commands, in two panels, and what holds for all of them."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from liptt_cli.cli import screen
from liptt_cli.cli.bench import bench_command
from liptt_cli.cli.boundary import Boundary
from liptt_cli.cli.compress import compress_command
from liptt_cli.cli.doctor import doctor_command
from liptt_cli.cli.evaluate import evaluate_command
from liptt_cli.cli.export import export_command
from liptt_cli.cli.generate import generate_command
from liptt_cli.cli.inspect import inspect_command
from liptt_cli.cli.methods import methods_command
from liptt_cli.cli.plan import plan_command
from liptt_cli.cli.schema import schema_command
from liptt_cli.cli.validate import validate_command
from liptt_cli.cli.verify import verify_command
from liptt_cli.version import VERSION

_WORK, _HELP = "Work", "Help"
_COMMANDS = (
    ("compress", compress_command, _WORK),
    ("plan", plan_command, _WORK),
    ("eval", evaluate_command, _WORK),
    ("export", export_command, _WORK),
    ("inspect", inspect_command, _WORK),
    ("verify", verify_command, _WORK),
    ("generate", generate_command, _WORK),
    ("bench", bench_command, _WORK),
    ("validate", validate_command, _HELP),
    ("schema", schema_command, _HELP),
    ("methods", methods_command, _HELP),
    ("doctor", doctor_command, _HELP),
)
_EPILOG = """\
Examples:

  liptt plan --config llama7b.yaml

  liptt compress --config tiny --output runs/tiny

  liptt eval runs/tiny --perplexity stdlib --fail-if 'perplexity>30'

  liptt generate runs/tiny "Once upon a time"

Exit status: 0 done · 1 our fault · 2 usage or configuration · 3 inputs ·
4 memory, disk or lock · 5 numbers or integrity · 6 a quality gate failed ·
130 interrupted, resumable
"""


class _Guarded(TyperGroup):
    """A group of commands whose errors end at the boundary."""

    def invoke(self, ctx: Any) -> Any:  # Any: typer keeps the class of its contexts to itself
        """Run the chosen command."""
        with Boundary():
            return super().invoke(ctx)


app = typer.Typer(
    name="liptt",
    cls=_Guarded,
    help="Compress a pretrained language model to about one bit per weight and below, every bit counted.",
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command, _panel in _COMMANDS:
    app.command(_name, rich_help_panel=_panel)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `liptt` with the arguments of the command line, or these; ends in SystemExit."""
    typer.main.get_command(app).main(args=arguments, prog_name="liptt")


def _print_version(wanted: bool) -> bool:
    if wanted:
        screen.emit(f"liptt {VERSION}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more; show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no messages but errors.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour; NO_COLOR does the same.")] = False,
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if verbose and quiet:
        raise typer.BadParameter("-v and -q exclude each other")
    level = screen.VERBOSE if verbose else screen.QUIET if quiet else screen.NORMAL
    screen.configure(level=level, color=not no_color)
