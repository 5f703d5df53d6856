"""Task files of the lm-evaluation-harness: finding one by name, and the data that it names.

A task's local data are named relative to some folder that the file does not tell. They are looked for
under the data root, or else under the folder of the file and each of its parents, nearest first. The
user's file is never edited and the working directory never changed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from liptt_cli.errors import InputError

_NAMED = re.compile(rb"""^["']?(?:task|group)["']?:[ \t]*["']?([^\s"'#]+)["']?[ \t]*\r?$""", re.MULTILINE)
LOCAL_READERS = frozenset({"json", "csv", "parquet", "text", "arrow"})


def find_task_file(spec: str, folders: Sequence[Path]) -> Path | None:
    """Return the YAML of a task given as a path, with or without its ending, or as FOLDER/NAME, if there is one."""
    for folder in folders:
        path = folder / Path(spec).expanduser()
        for candidate in (path, path.with_name(path.name + ".yaml"), path.with_name(path.name + ".yml")):
            if candidate.is_file() and candidate.suffix in (".yaml", ".yml"):
                return candidate.resolve()
        if "/" in spec and path.parent.is_dir():
            named = names_in(sorted(path.parent.glob("*.yaml")))
            if path.name in named:
                return named[path.name].resolve()
    return None


def names_in(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the task and group names at the top level of YAML files, the first file of each, without parsing any."""
    found: dict[str, Path] = {}
    for path in paths:
        for name in _NAMED.findall(path.read_bytes()):
            found.setdefault(name.decode(), path)
    return found


def files_that_say(spec: str, folders: Sequence[Path]) -> list[Path]:
    """Return the YAML files that hold the name of a task given as FOLDER/NAME somewhere, perhaps inside a group."""
    paths = [folder / Path(spec).expanduser() for folder in folders] if "/" in spec else []
    files = {file.resolve() for path in paths if path.parent.is_dir() for file in path.parent.glob("*.yaml")}
    return sorted(file for file in files if Path(spec).name.encode() in file.read_bytes())


def with_data(config: Mapping[str, Any], *, file: Path, data_root: Path | None) -> dict[str, Any]:
    """Return a task's or a group's configuration with every local data file as an absolute path.

    Raises:
        InputError: if a file is under none of the folders; names all the paths tried.
    """
    folders = [file.resolve().parent, *file.resolve().parent.parents] if data_root is None else [data_root.resolve()]
    return _with_data(config, folders, file)


def _with_data(config: Mapping[str, Any], folders: Sequence[Path], file: Path) -> dict[str, Any]:
    found = dict(config)
    options = found.get("dataset_kwargs")
    if found.get("dataset_path") in LOCAL_READERS and isinstance(options, Mapping) and "data_files" in options:
        found["dataset_kwargs"] = {**options, "data_files": _absolute(options["data_files"], folders, file)}
    if isinstance(found.get("task"), list):
        found["task"] = [_with_data(m, folders, file) if isinstance(m, Mapping) else m for m in found["task"]]
    return found


def _absolute(files: Any, folders: Sequence[Path], file: Path) -> Any:
    if isinstance(files, Mapping):
        return {split: _absolute(named, folders, file) for split, named in files.items()}
    if isinstance(files, list):
        return [_absolute(named, folders, file) for named in files]
    if "://" in str(files):
        return files
    tried = [folder / str(files) for folder in folders]
    for path in tried:
        if path.is_file() or any(path.parent.glob(path.name)):
            return str(path)
    raise InputError(
        f"{file}: data file {files!r} not found; tried {', '.join(map(str, tried))}. "
        "Name the folder that it is relative to with --data-root."
    )
