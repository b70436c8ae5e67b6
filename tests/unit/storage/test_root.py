"""The root directory: made once, by one of many processes; refused when it is of another version or not ours."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import StoreError
from registry.storage import ContentStore


def test_a_new_root_is_private(root: Path) -> None:
    ContentStore.open(root).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "meta.db").stat().st_mode) == 0o600
    assert (root / "VERSION").read_text() == "1\n"


def test_parents_are_made_too(root: Path) -> None:
    ContentStore.open(root / "deeper" / "still").close()
    assert (root / "deeper" / "still" / "meta.db").exists()


def test_what_was_stored_is_there_when_opened_again(root: Path) -> None:
    with ContentStore.open(root) as store:
        digest = store.put(b"hello")
    with ContentStore.open(root) as store:
        assert store.read(digest) == b"hello"


def test_another_layout_is_refused_and_both_versions_named(root: Path) -> None:
    ContentStore.open(root).close()
    (root / "VERSION").write_text("7\n")
    with pytest.raises(StoreError, match=r"layout version '7', this pybuild reads version 1") as caught:
        ContentStore.open(root)
    assert "--root" in (caught.value.hint or "")


def test_metadata_of_a_newer_version_is_refused(root: Path) -> None:
    ContentStore.open(root).close()
    database = sqlite3.connect(root / "meta.db")
    database.execute("UPDATE schema_version SET contracted = 99")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match=r"contracted to version 99, this pybuild knows \d+"):
        ContentStore.open(root)


def test_damaged_metadata_is_an_error_not_a_traceback(root: Path) -> None:
    ContentStore.open(root).close()
    for name in os.listdir(root):
        if name.startswith("meta.db"):
            (root / name).write_bytes(b"this is no database " * 1000)
    with pytest.raises(StoreError, match="damaged"):
        ContentStore.open(root)


def test_a_root_that_is_a_file_is_an_error(root: Path) -> None:
    root.write_text("")
    with pytest.raises(StoreError, match=str(root)):
        ContentStore.open(root)


def test_two_stores_of_one_root_see_each_other(root: Path) -> None:
    with ContentStore.open(root) as one, ContentStore.open(root) as other:
        assert other.has(one.put(b"hello"))


def in_a_fork(work: Callable[[], None]) -> int:
    """The exit status of a forked child that does it: 0 done, 3 refused with a StoreError."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except StoreError:
            status = 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class TestFork:
    """SQLite in a child would rely on its parent's locks, and write to a log that the parent's end deletes."""

    def test_a_child_of_a_process_with_an_open_store_may_not_use_it(self, root: Path) -> None:
        with ContentStore.open(root) as store:
            digest = store.put(b"hello")
            assert in_a_fork(lambda: store.has(digest) and None) == 3
            assert in_a_fork(lambda: ContentStore.open(root).close()) == 3
            assert in_a_fork(store.close) == 0
            assert store.has(digest)

    def test_one_that_was_forked_before_may(self, root: Path) -> None:
        ContentStore.open(root).close()
        assert in_a_fork(lambda: ContentStore.open(root).close()) == 0
