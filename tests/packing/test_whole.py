"""A directory appears whole or not at all, and a failure leaves the listing as it was."""

import errno
from pathlib import Path

import pytest

from liptt_cli.errors import ConfigError, ResourceError
from liptt_cli.packing.whole import whole_directory


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_it_appears_when_the_block_ends(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "new" / "deep") as partial:
        (partial / "file").write_text("1")
        assert not (tmp_path / "new" / "deep").exists()
    assert listing(tmp_path) == ["new", "new/deep", "new/deep/file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with pytest.raises(ResourceError, match="no space left"), whole_directory(tmp_path / "new" / "deep") as partial:
        (partial / "file").write_text("1")
        raise OSError(number, "full")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, PermissionError])
def test_any_other_end_leaves_nothing_too(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_directory(tmp_path / "new"):
        raise error
    assert listing(tmp_path) == []


def test_what_is_there_is_kept_unless_replaced(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine").write_text("1")
    with pytest.raises(ConfigError, match=r"exists already.*--force"), whole_directory(tmp_path / "old"):
        pass
    with pytest.raises(ValueError), whole_directory(tmp_path / "old", replace=True):
        raise ValueError
    assert listing(tmp_path) == ["old", "old/mine"]
    with whole_directory(tmp_path / "old", replace=True) as partial:
        (partial / "yours").write_text("2")
    assert listing(tmp_path) == ["old", "old/yours"]


def test_what_a_killed_process_left_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "half").write_text("1")
    with whole_directory(tmp_path / "new") as partial:
        assert not list(partial.iterdir())
    assert listing(tmp_path) == ["new"]
