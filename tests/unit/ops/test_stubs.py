"""Mount points in a step's tree: made for it, and gone afterwards as if they had never been (reference §1.6)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.ops.stubs import Stubs

LONG_AGO = 1_000_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    for directory in (tmp_path / "etc", tmp_path):
        os.utime(directory, (LONG_AGO, LONG_AGO))
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def times(path: Path) -> tuple[float, float]:
    return path.stat().st_mtime, (path / "etc").stat().st_mtime


def test_they_come_and_go_without_a_trace(tree: int, tmp_path: Path) -> None:
    stubs = Stubs()
    stubs.make(tree, "/etc/resolv.conf", directory=False)
    stubs.make(tree, "/run/secrets/token", directory=False)
    stubs.make(tree, "/proc", directory=True)
    assert (tmp_path / "run" / "secrets" / "token").is_file()
    assert times(tmp_path) == (LONG_AGO, LONG_AGO)
    stubs.remove(tree)
    assert os.listdir(tmp_path) == ["etc"]
    assert os.listdir(tmp_path / "etc") == []
    assert times(tmp_path) == (LONG_AGO, LONG_AGO)


def test_they_may_be_as_deep_as_a_path_can_be(tree: int, tmp_path: Path) -> None:
    stubs = Stubs()
    stubs.make(tree, "/a" * 2000, directory=True)
    assert (tmp_path / ("a/" * 1000)).is_dir()
    stubs.remove(tree)
    assert os.listdir(tmp_path) == ["etc"]


def test_what_was_there_stays(tree: int, tmp_path: Path) -> None:
    (tmp_path / "etc" / "hosts").write_text("")
    stubs = Stubs()
    stubs.make(tree, "/etc/hosts", directory=False)
    stubs.remove(tree)
    assert (tmp_path / "etc" / "hosts").exists()


def test_what_the_step_put_there_stays(tree: int, tmp_path: Path) -> None:
    stubs = Stubs()
    stubs.make(tree, "/run/secrets/token", directory=False)
    (tmp_path / "run" / "mine").write_text("x")
    os.utime(tmp_path / "run", (LONG_AGO + 5, LONG_AGO + 5))
    stubs.remove(tree)
    assert os.listdir(tmp_path / "run") == ["mine"]
    assert (tmp_path / "run").stat().st_mtime == LONG_AGO + 5


def test_a_link_that_leads_nowhere_is_followed_within_the_tree(tree: int, tmp_path: Path) -> None:
    (tmp_path / "etc" / "resolv.conf").symlink_to("../../../../run/stub.conf")
    stubs = Stubs()
    stubs.make(tree, "/etc/resolv.conf", directory=False)
    assert (tmp_path / "run" / "stub.conf").is_file()
    stubs.remove(tree)
    assert not (tmp_path / "run").exists()


def test_links_in_a_circle_end(tree: int, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    stubs = Stubs()
    stubs.make(tree, "/a/x", directory=True)
    stubs.remove(tree)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "etc"]


def test_a_directory_that_the_step_turned_into_a_link_leads_nowhere(tree: int, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "token").write_text("")
    stubs = Stubs()
    stubs.make(tree, "/run/token", directory=False)
    (tmp_path / "run" / "token").unlink()
    (tmp_path / "run").rmdir()
    (tmp_path / "run").symlink_to(outside)
    stubs.remove(tree)
    assert (outside / "token").exists()
