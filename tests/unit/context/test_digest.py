"""The content key of COPY: what is in it, what is not, and what is read to make it (reference/builder.md §1.10)."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from builder.ops.context import Context, FileEntry
from builder.ops.statcache import StatCache

Make = Callable[[Mapping[str, str]], Path]
OLD = 1_600_000_000


def digest(root: Path, *patterns: str, excludes: tuple[str, ...] = ()) -> str:
    with Context.open(str(root)) as context:
        return str(context.digest(patterns or (".",), excludes))


class TestKey:
    @pytest.mark.parametrize(
        "change",
        [
            lambda root: (root / "d/f").write_text("y"),
            lambda root: os.chmod(root / "d/f", 0o600),
            lambda root: os.chmod(root / "d", 0o700),
            lambda root: (root / "d/f").rename(root / "d/g"),
            lambda root: (root / "d/new").write_text(""),
            lambda root: (root / "d/e").mkdir(),
            lambda root: (os.unlink(root / "d/l"), os.symlink("g", root / "d/l")),
            lambda root: os.setxattr(
                root / "d/f", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12)
            ),
        ],
        ids=["content", "mode", "mode of directory", "name", "new file", "new directory", "link", "capability"],
    )
    def test_changes_with(self, make: Make, change: Callable[[Path], object]) -> None:
        root = make({"d/f": "x", "d/l": "->f"})
        before = digest(root, "d")
        change(root)
        assert digest(root, "d") != before

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: os.utime(root / "d/f", (OLD, OLD)),
            lambda root: os.chown(root / "d/f", 1000, 1000),
            lambda root: (root / "other").write_text(""),
            lambda root: os.setxattr(root / "d/f", "user.note", b"x"),
            lambda root: (root / "d/x.o").write_text(""),
        ],
        ids=["time", "owner", "file not selected", "another xattr", "excluded file"],
    )
    def test_does_not_change_with(self, make: Make, change: Callable[[Path], object]) -> None:
        root = make({"d/f": "x"})
        before = digest(root, "d", excludes=("*.o",))
        change(root)
        assert digest(root, "d", excludes=("*.o",)) == before

    def test_where_a_directory_lies_does_not_matter_but_the_name_of_a_file_does(self, make: Make) -> None:
        root = make({"a/f": "x", "b/f": "x", "c/g": "x"})
        assert digest(root, "a") == digest(root, "b") != digest(root, "c")
        assert digest(root, "a/f") == digest(root, "b/f") != digest(root, "c/g")

    def test_order_of_sources_matters_since_the_last_one_wins(self, make: Make) -> None:
        root = make({"a/f": "1", "b/f": "2"})
        assert digest(root, "a", "b") != digest(root, "b", "a")

    def test_names_can_not_be_shifted_into_each_other(self, make: Make) -> None:
        root = make({"a/x": "", "a/y/z": "", "b/x/y": "", "b/z": ""})
        assert digest(root, "a") != digest(root, "b")

    def test_no_match_has_a_digest_too(self, make: Make) -> None:
        assert digest(make({}), "no*") == digest(make({}), "none?")


def later() -> int:
    """The clock some seconds on, when all that is there now is old enough to be believed."""
    return time.time_ns() + 5 * 10**9


@pytest.fixture
def cache(room: Path) -> Iterator[StatCache]:
    with StatCache.open(room / "cache" / "stat.db", clock=later) as opened:
        yield opened


class Reads:
    """A context that counts what it reads."""

    def __init__(self, root: Path, cache: StatCache) -> None:
        self.names: list[str] = []
        reads = self

        class Counting(Context):
            def open_file(self, entry: FileEntry) -> int:
                reads.names.append(entry.path)
                return super().open_file(entry)

        with Counting.open(str(root), cache=cache) as context:
            self.digest = str(context.digest(["."]))


class TestMemory:
    def test_a_second_look_reads_nothing(self, make: Make, cache: StatCache) -> None:
        root = make({"a": "1", "b": "2", "d/c": "3"})
        first, second = Reads(root, cache), Reads(root, cache)
        assert sorted(first.names) == ["Dockerfile", "a", "b", "d/c"]
        assert second.names == []
        assert first.digest == second.digest

        (root / "b").write_text("4")
        third = Reads(root, cache)
        assert third.names == ["b"]
        assert third.digest != first.digest

    def test_young_files_are_read_again(self, make: Make, room: Path) -> None:
        root = make({"a": "1"})
        with StatCache.open(room / "stat.db") as cache:
            first = Reads(root, cache)
            (root / "a").write_text("2")  # perhaps within the same tick of the file system's clock
            second = Reads(root, cache)
        assert "a" in second.names
        assert first.digest != second.digest

    def test_survives_the_process(self, make: Make, room: Path) -> None:
        root = make({"a": "1"})
        with StatCache.open(room / "stat.db", clock=later) as first:
            Reads(root, first)
        with StatCache.open(room / "stat.db") as second:
            assert Reads(root, second).names == []

    def test_damage_costs_time_only(self, make: Make, room: Path) -> None:
        root = make({"a": "1"})
        (room / "stat.db").write_bytes(b"no database" * 1000)
        with StatCache.open(room / "stat.db") as cache:
            assert Reads(root, cache).names == ["Dockerfile", "a"]
        (room / "stat.db").unlink()
        (room / "file").write_text("")
        with StatCache.open(room / "file" / "stat.db") as cache:
            assert Reads(root, cache).names == ["Dockerfile", "a"]

    def test_another_process_may_hold_the_lock(self, make: Make, room: Path) -> None:
        root = make({"a": "1"})
        with StatCache.open(room / "stat.db") as cache:
            other = sqlite3.connect(room / "stat.db")
            other.execute("BEGIN")
            other.execute("SELECT * FROM file").fetchall()
            assert Reads(root, cache).names == ["Dockerfile", "a"]
            other.close()
