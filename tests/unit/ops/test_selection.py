"""The digest of what a step selects from a file system (reference §1.10)."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.ops.selection import selection_digest
from builder.ops.sources import Source
from registry.model import Digest

CAP_NET_BIND_SERVICE = bytes.fromhex("0100000200040000000000000000000000000000")


def digest(root: Path, *paths: str, excludes: tuple[str, ...] = ()) -> Digest:
    with ExitStack() as opened:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        opened.callback(os.close, fd)
        return selection_digest([Source(fd, path) for path in paths], excludes)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`d` with two files and a link, and the same again as `elsewhere/e`."""
    for directory in (tmp_path / "d", tmp_path / "elsewhere" / "e"):
        (directory / "sub").mkdir(parents=True)
        (directory / "a").write_text("a")
        (directory / "sub" / "b").write_text("b")
        (directory / "l").symlink_to("a")
    return tmp_path


def test_equal_content_has_one_digest_wherever_it_lies_and_whenever_it_was_made(tree: Path) -> None:
    os.utime(tree / "elsewhere" / "e" / "a", (1, 1))
    assert digest(tree, "d") == digest(tree, "elsewhere/e")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "a").write_text("other"),
        lambda d: (d / "a").chmod(0o600),
        lambda d: os.chown(d / "a", 7, 0),
        lambda d: os.chown(d / "a", 0, 7),
        lambda d: (d / "a").rename(d / "c"),
        lambda d: (d / "sub").chmod(0o700),
        lambda d: ((d / "l").unlink(), (d / "l").symlink_to("b")),
        lambda d: (d / "new").mkdir(),
        lambda d: os.mkfifo(d / "p"),
        lambda d: ((d / "a").unlink(), (d / "a").mkdir()),
        lambda d: os.setxattr(
            d / "a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
        ),
    ],
)
def test_all_that_a_copy_takes_along_is_in_it(tree: Path, change: Callable[[Path], object]) -> None:
    before = digest(tree, "d")
    change(tree / "d")
    assert digest(tree, "d") != before


def test_what_is_excluded_is_not(tree: Path) -> None:
    before = digest(tree, "d", excludes=("sub",))
    (tree / "d" / "sub" / "b").write_text("other")
    assert digest(tree, "d", excludes=("sub",)) == before


def test_a_file_is_told_with_its_own_name_and_a_directory_without(tree: Path) -> None:
    (tree / "d" / "copy-of-a").write_text("a")
    assert digest(tree, "d/a") != digest(tree, "d/copy-of-a")
    (tree / "renamed").symlink_to("d")
    assert digest(tree, "renamed") == digest(tree, "d")


def test_two_sources_are_not_one(tree: Path) -> None:
    (tree / "x").write_text("x")
    (tree / "y").write_text("y")
    assert len({digest(tree, "x", "y"), digest(tree, "y", "x"), digest(tree, "x"), digest(tree)}) == 4
