"""`liptt methods`: the shipped recipes, told from the head comments of their files, and what they store.

The first comment line of a recipe is its title, the one that begins with `Paper:` its source, and the one that begins
with `Claims:` the bits a weight that its paper gives for the file's defaults, with the reason why ours differ. Our own
are the exact bytes of a linear of `SHAPE`, by the planner that also prices a run.
"""

import re
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
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.price import ladder

SHAPE = (4096, 4096)
_FOLDER = "methods/"
_PAPER, _CLAIMS = "Paper:", "Claims:"
_CLAIM = re.compile(r"(?:(?P<bits>\d+(?:\.\d+)?) bits|none)(?: \((?P<reason>.+)\))?")


@dataclass(frozen=True)
class Claim:
    """The bits a weight of a paper's own count, None where it gives none, and why ours are others."""

    bits: float | None
    reason: str


@dataclass(frozen=True)
class Method:
    """A shipped recipe in one line; honest bits are those stored of a linear of `SHAPE` at the file's defaults."""

    name: str
    title: str
    paper: str
    dial: str
    claimed_bits: float | None
    honest_bits: float
    reason: str


def methods_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe.")] = None,
    copy: Annotated[Path | None, typer.Option("--copy", metavar="FILE", help="Write the recipe to a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the methods with their papers, claimed and honest bits; print one, or copy it to start from.

    Example: liptt methods liptt-onestep --copy run.yaml
    """
    recipes = {key.removeprefix(_FOLDER): path for key, path in shipped_configs().items() if key.startswith(_FOLDER)}
    if name is None:
        if copy is not None:
            raise ConfigError("--copy needs the name of a method: liptt methods NAME --copy FILE")
        _list([read_method(key, path) for key, path in recipes.items()], as_json=as_json)
        return
    name = name.removeprefix(_FOLDER)
    if name not in recipes:
        raise ConfigError(f"no method {name!r}.{nearest(name, recipes)} Known: {', '.join(recipes)}.")
    if copy is not None:
        _copy(recipes[name], copy)
    elif as_json:
        screen.emit_json({**asdict(read_method(name, recipes[name])), "config": load_config(_FOLDER + name).resolved})
    else:
        screen.emit(recipes[name].read_text(encoding="utf-8").rstrip())
        screen.emit(f"# {_bits(read_method(name, recipes[name]))}")


def read_method(name: str, path: Path) -> Method:
    """Return what a shipped recipe's head and its plan tell.

    Raises:
        ConfigError: if its line of claims is not one.
    """
    config = load_config(_FOLDER + name).config
    told = _head(path)
    papers = [line.removeprefix(_PAPER).strip() for line in told if line.startswith(_PAPER)]
    titles = [line for line in told if not line.startswith((_PAPER, _CLAIMS))]
    dial = "its own price" if config.bits_per_weight is None else f"{config.bits_per_weight:g}"
    claim = read_claim(path)
    facts = (claim.bits if claim else None, _honest_bits(config), claim.reason if claim else "")
    return Method(name, titles[0] if titles else "", "; ".join(papers), dial, *facts)


def read_claim(path: Path) -> Claim | None:
    """Return what a recipe's head says of its paper's count, None if it says nothing.

    Raises:
        ConfigError: if the line is not `# Claims: NUMBER bits (REASON)` or `# Claims: none (REASON)`.
    """
    told = _head(path)
    starts = [number for number, line in enumerate(told) if line.startswith(_CLAIMS)]
    if not starts:
        return None
    rest = " ".join(told[starts[0] :]).removeprefix(_CLAIMS).strip()
    words = rest[: _end(rest)] if "(" in told[starts[0]] else told[starts[0]].removeprefix(_CLAIMS).strip()
    match = _CLAIM.fullmatch(words)
    if len(starts) > 1 or match is None:
        raise ConfigError(
            f"{path}: its head needs one line `# Claims: 1.08 bits (why ours differ)` or `# Claims: none (why)`, "
            f"not {words!r}"
        )
    return Claim(None if match["bits"] is None else float(match["bits"]), match["reason"] or "")


def _head(path: Path) -> list[str]:
    """Return the comment lines of a recipe without their marks."""
    comments = [line.lstrip("# ").rstrip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    return [line for line in comments if line and not line.startswith("yaml-language-server:")]


def _end(words: str) -> int:
    """Return where the first parenthesis is closed again."""
    depth = 0
    for place, letter in enumerate(words):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            return place + 1
    return len(words)


def _honest_bits(config: RunConfig) -> float:
    """Return the bits a weight of a linear of `SHAPE`, at the recipe's dial if it has one."""
    found = ladder(config, SHAPE)
    return found.bits[0 if config.bits_per_weight is None else found.best(config.bits_per_weight)]


def _bits(method: Method) -> str:
    """Return claimed and honest bits and why they differ, in a line."""
    claimed = "none" if method.claimed_bits is None else f"{method.claimed_bits:g}"
    reason = f": {method.reason}" if method.reason else ""
    shape = " x ".join(map(str, SHAPE))
    return f"bits per weight: claimed {claimed}, honest {method.honest_bits:.4g} (all bytes of {shape}){reason}"


def _list(methods: list[Method], *, as_json: bool) -> None:
    if as_json:
        screen.emit_json({"shape": list(SHAPE), "methods": [asdict(method) for method in methods]})
        return
    shape = " x ".join(map(str, SHAPE))
    title = f"claimed: bits a weight by the paper's own count; honest: all bytes of a linear of {shape}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for heading in ("what it is", "paper"):
        table.add_column(heading, overflow="fold")
    for heading in ("claimed", "honest", "dial"):
        table.add_column(heading, justify="right")
    for method in methods:
        claimed = "-" if method.claimed_bits is None else f"{method.claimed_bits:g}"
        dial = "-" if method.dial == "its own price" else method.dial
        table.add_row(method.name, method.title, method.paper, claimed, f"{method.honest_bits:.3f}", dial)
    screen.emit(table)


def _copy(recipe: Path, target: Path) -> None:
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(recipe.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{target}: this file exists; nothing was written. Name another one.") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ConfigError(f"{target}: cannot be written; does its folder exist?") from None
    screen.say(f"{target} written; name your model and run: liptt compress --config {target}")
