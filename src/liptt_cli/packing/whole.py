"""A directory that is there whole or not at all: filled beside its place, synced, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liptt_cli.errors import ConfigError, Fault, ResourceError, is_out_of_space


@contextmanager
def whole_directory(directory: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield `<directory>.partial` to be filled; when the block ends well it becomes `directory`, else it is removed.

    Args:
        directory: where it shall be. What a killed process left at `<directory>.partial` is dropped.
        replace: take the place of what is there, once the new one is whole.

    Raises:
        ConfigError: if there is something already and `replace` is false, or a file is in the way.
        ResourceError: if the disk is full.
    """
    if directory.exists() and not replace:
        raise ConfigError(
            Fault("--output", f"{directory} exists already; give another directory, or --force to replace it")
        )
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    made = _missing_parents(directory)
    try:
        _make(partial)
        yield partial
        _sync(partial)
        _put(partial, directory)
    except OSError as error:
        if is_out_of_space(error):
            raise ResourceError(
                f"{directory}: no space left to write it; free some, or give a directory on another disk"
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not directory.exists():
            _remove_empty(made)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(Fault("--output", f"{directory.parent}: no directory can be made here: {error}")) from error


def _missing_parents(directory: Path) -> list[Path]:
    return [parent for parent in directory.parents if not parent.exists()]


def _remove_empty(directories: list[Path]) -> None:
    for directory in directories:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _sync(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put(partial: Path, directory: Path) -> None:
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    handle = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
