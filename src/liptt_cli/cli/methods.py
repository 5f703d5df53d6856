"""`liptt methods`: the shipped recipes, told from the head comments of their files.

The first comment line of a recipe is its title, and the one that begins with `Paper:` its source.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.config import load_config, shipped_configs
from liptt_cli.config_faults import nearest
from liptt_cli.errors import ConfigError

_FOLDER = "methods/"
_PAPER = "Paper:"


@dataclass(frozen=True)
class Method:
    """A shipped recipe in one line."""

    name: str
    title: str
    paper: str
    dial: str


def methods_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe.")] = None,
    copy: Annotated[Path | None, typer.Option("--copy", metavar="FILE", help="Write the recipe to a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the methods with their papers and default dials, print one, or copy it to start from."""
    recipes = {key.removeprefix(_FOLDER): path for key, path in shipped_configs().items() if key.startswith(_FOLDER)}
    if name is None:
        if copy is not None:
            raise ConfigError("--copy needs the name of a method: liptt methods NAME --copy FILE")
        _list([_method(key, path) for key, path in recipes.items()], as_json=as_json)
        return
    name = name.removeprefix(_FOLDER)
    if name not in recipes:
        raise ConfigError(f"no method {name!r}.{nearest(name, recipes)} Known: {', '.join(recipes)}.")
    if copy is not None:
        _copy(recipes[name], copy)
    elif as_json:
        screen.emit_json({**asdict(_method(name, recipes[name])), "config": load_config(_FOLDER + name).resolved})
    else:
        screen.emit(recipes[name].read_text(encoding="utf-8").rstrip())


def _list(methods: list[Method], *, as_json: bool) -> None:
    if as_json:
        screen.emit_json({"methods": [asdict(method) for method in methods]})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("method", "what it is", "paper", "bits per weight"):
        table.add_column(heading, overflow="fold")
    for method in methods:
        table.add_row(method.name, method.title, method.paper, method.dial)
    screen.emit(table)


def _method(name: str, path: Path) -> Method:
    config = load_config(_FOLDER + name).config
    comments = [line.lstrip("# ").rstrip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    told = [line for line in comments if line and not line.startswith("yaml-language-server:")]
    papers = [line.removeprefix(_PAPER).strip() for line in told if line.startswith(_PAPER)]
    titles = [line for line in told if not line.startswith(_PAPER)]
    dial = "its own price" if config.bits_per_weight is None else f"{config.bits_per_weight:g}"
    return Method(name, titles[0] if titles else "", "; ".join(papers), dial)


def _copy(recipe: Path, target: Path) -> None:
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(recipe.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{target}: this file exists; nothing was written. Name another one.") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ConfigError(f"{target}: cannot be written; does its folder exist?") from None
    screen.say(f"{target} written; name your model and run: liptt compress --config {target}")
