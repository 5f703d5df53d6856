"""Where the dense model of a packed one lies: by its run's manifest, by the source it was made from, or by neither."""

from pathlib import Path

from liptt_cli.errors import InputError
from liptt_cli.models.hub import Source, locate
from liptt_cli.packing.section import read_section
from liptt_cli.run_directory import read_manifest


def find_dense(model: str, source: Source) -> Source | None:
    """Return the dense model that a packed one was made from, None if it cannot be found or `source` is dense itself.

    Args:
        model: what the user named, perhaps a run directory.
        source: the packed model itself.
    """
    try:
        section = read_section(source.path)
    except InputError:
        return None
    revision = section["source_revision"]
    if revision is not None:  # only what came from the hub has one
        return _located(section["source_model"], revision=revision)
    run = Path(model).expanduser()
    try:
        config, origin = read_manifest(run)
    except InputError:
        return _located(section["source_model"]) if Path(section["source_model"]).is_dir() else None
    return _located(config["model"], near=origin.parent)


def _located(model: str, *, revision: str | None = None, near: Path | None = None) -> Source | None:
    try:
        return locate(model, revision=revision, near=near)
    except InputError:
        return None
