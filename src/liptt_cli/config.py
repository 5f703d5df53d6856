"""From a YAML file to a checked configuration; the only room that reads YAML, and it needs no torch.

    defaults < the method's recipe < the file that `extends` names < the file < `--set`

YAML as version 1.2 reads it: `1e-4` is a number, only `true` and `false` are booleans, a key stands once;
aliases are refused, `extends` being the one way to share. All faults are reported at once.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from liptt_cli.config_faults import faults, nearest
from liptt_cli.config_tree import Place, Plain, Tree, assign, merge
from liptt_cli.errors import ConfigError, Fault
from liptt_cli.menu.run import RunConfig

_SUFFIXES = (".yaml", ".yml")
_STDIN = Path("-")


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration, the text it was written in, and all of its keys written out."""

    config: RunConfig
    source_path: Path
    source_text: str
    resolved: dict[str, Plain]


@dataclass(frozen=True)
class _Layer:
    path: Path
    text: str
    tree: Tree


def load_config(config: str, *, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a configuration, lay it over its bases, apply the overrides and check the whole.

    Args:
        config: a path, `-` for standard input, or the name of a shipped configuration.
        overrides: `stage.key=value`, the value in YAML, applied in order.

    Raises:
        ConfigError: with every fault found.
    """
    path = find_config(config)
    layer = _read(path)
    found: list[Fault] = []
    tree = _with_extended(layer)
    recipe = _recipe(_overridden(tree, overrides, []), path)
    tree = _overridden(merge(recipe.tree, tree) if recipe else tree, overrides, found)
    tree = assign(tree, ["extends"], Tree(None, tree.place, {}))
    try:
        checked = RunConfig.model_validate(tree.plain())
    except ValidationError as error:
        raise ConfigError(*found, *faults(error, tree=tree, model=RunConfig)) from None
    if found:
        raise ConfigError(*found)
    return LoadedConfig(checked, path, layer.text, checked.model_dump(mode="json"))


def find_config(config: str) -> Path:
    """Return the file that a path or the name of a shipped configuration stands for.

    Raises:
        ConfigError: if there is none; the message has the nearest shipped name.
    """
    path = Path(config)
    if path == _STDIN or path.is_file():
        return path
    shipped = shipped_configs()
    name = config.removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    if path.is_dir():
        raise ConfigError(f"{config}: this is a folder; a configuration is a YAML file")
    close = nearest(name, shipped) or nearest(name, {key.rpartition("/")[2] for key in shipped})
    raise ConfigError(f"{config}: no such file or shipped configuration.{close} Shipped: {', '.join(shipped)}.")


def shipped_configs() -> dict[str, Path]:
    """Return the configurations that come with liptt, `tiny` or `methods/sign`, by name in order."""
    folder = configs_folder()
    paths = [*folder.glob("*.yaml"), *folder.glob("methods/*.yaml")]
    return dict(sorted((path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths))


def configs_folder() -> Path:
    """Return the folder of the shipped configurations: inside a wheel, else beside `src/`."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def render_config(resolved: Mapping[str, Plain]) -> str:
    """Return a resolved configuration as YAML that reads back the same."""
    return yaml.dump(dict(resolved), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def parse_yaml(text: str, *, name: str) -> Tree:
    """Read one YAML document; `name` is the file that its places and faults tell.

    Raises:
        ConfigError: if it is not YAML, or has duplicate keys, keys that are not text or aliases.
    """
    found: list[Fault] = []
    try:
        found.extend(_aliases(text, name))
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Tree(None, Place(name, 1, 1), {})
        tree = _tree(loader, node, name, found) if not found else Tree(None, Place(name), {})
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        raise ConfigError(place.fault("", f"not valid YAML: {error.problem}")) from None
    except yaml.YAMLError as error:
        raise ConfigError(Place(name).fault("", f"not valid YAML: {error}")) from None
    if found:
        raise ConfigError(*found)
    return tree


def _with_extended(layer: _Layer) -> Tree:
    extends = layer.tree.child("extends")
    if extends is None or extends.value is None:
        return layer.tree
    base = _base(extends, layer.path, key="extends")
    further = base.tree.child("extends")
    if further is not None and further.value is not None:
        raise ConfigError(further.place.fault("extends", "only one level is allowed, and another file extends this"))
    return merge(base.tree, layer.tree)


def _recipe(tree: Tree, path: Path) -> _Layer | None:
    """Return the recipe that `method` names, unless the file is that recipe itself or defines one of its own."""
    method = tree.child("method")
    if method is None or not isinstance(method.value, str):
        return None
    if method.value.endswith(_SUFFIXES):
        return _base(method, path, key="method")
    recipes = {name.removeprefix("methods/"): file for name, file in shipped_configs().items() if "/" in name}
    if method.value in recipes:
        recipe = recipes[method.value]
        return None if path != _STDIN and path.resolve() == recipe.resolve() else _read(recipe)
    if tree.child("binarize") is None and tree.child("decompose") is None:
        advice = f"{nearest(method.value, recipes)} Known: {', '.join(recipes)}; or define one here under `binarize`."
        raise ConfigError(method.place.fault("method", f"no recipe {method.value!r}.{advice}"))
    return None


def _base(named: Tree, path: Path, *, key: str) -> _Layer:
    """Read the file that a key names, looked for beside the file that names it, then as any configuration."""
    if not isinstance(named.value, str):
        raise ConfigError(named.place.fault(key, "expected the name of a configuration"))
    beside = path.parent / named.value
    if path != _STDIN and beside.is_file():
        return _read(beside)
    try:
        return _read(find_config(named.value))
    except ConfigError as error:
        raise ConfigError(*(named.place.fault(key, fault.message) for fault in error.faults)) from None


def _read(path: Path) -> _Layer:
    name = "<stdin>" if path == _STDIN else str(path)
    try:
        text = sys.stdin.read() if path == _STDIN else path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(Place(name).fault("", f"not UTF-8 text: byte {error.start} is {error.reason}")) from None
    tree = parse_yaml(text, name=name)
    if tree.value is None:
        tree = Tree({}, tree.place, {})
    if not isinstance(tree.value, Mapping):
        raise ConfigError(tree.place.fault("", "a configuration is a mapping of keys"))
    return _Layer(path, text, tree)


def _overridden(tree: Tree, overrides: Sequence[str], found: list[Fault]) -> Tree:
    for override in overrides:
        name = f"--set {override}"
        key, equals, value = override.partition("=")
        if not equals or not all(key.split(".")):
            found.append(Fault("", "expected stage.key=value", name))
            continue
        try:
            tree = assign(tree, key.split("."), _placeless(parse_yaml(value, name=name), Place(name)))
        except ConfigError as error:
            found.extend(error.faults)
    return tree


def _placeless(tree: Tree, place: Place) -> Tree:
    """Give every part of a tree one place."""
    if isinstance(tree.value, Mapping):
        entries = {key: _placeless(entry, place) for key, entry in tree.value.items()}
        return Tree(entries, place, dict.fromkeys(entries, place))
    if isinstance(tree.value, Sequence) and not isinstance(tree.value, str):
        return Tree([_placeless(entry, place) for entry in tree.value], place, {})
    return Tree(tree.value, place, {})


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2: no `yes` or `on`, no sexagesimal numbers, no dates, no merge keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would read as something else than text."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0x", "0o")) else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


_NUMBERS = "-+.0123456789"
_CORE = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|false)$"), ["t", "f"]),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list(_NUMBERS)),
    "float": (
        re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN))$"),
        list(_NUMBERS),
    ),
}
for _name, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def _aliases(text: str, name: str) -> list[Fault]:
    marks = [token.start_mark for token in yaml.scan(text, _Loader) if isinstance(token, yaml.AliasToken)]
    message = "aliases are not read here; share by `extends`"
    return [Place(name, mark.line + 1, mark.column + 1).fault("", message) for mark in marks]


def _tree(loader: _Loader, node: yaml.Node, name: str, found: list[Fault]) -> Tree:
    place = Place(name, node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, place, found)
    if isinstance(node, yaml.SequenceNode):
        return Tree([_tree(loader, entry, name, found) for entry in node.value], place, {})
    return Tree(loader.construct_object(node), place, {})


def _mapping(loader: _Loader, node: yaml.MappingNode, place: Place, found: list[Fault]) -> Tree:
    entries: dict[str, Tree] = {}
    keys: dict[str, Place] = {}
    for key_node, value_node in node.value:
        at = Place(place.file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            found.append(at.fault(str(key_node.value), "a key must be text"))
        elif key in entries:
            found.append(at.fault(key, f"duplicate key; the first stands in line {keys[key].line}"))
        else:
            keys[key] = at
            entries[key] = _tree(loader, value_node, place.file, found)
    return Tree(entries, place, keys)
