"""What files hold, remembered by what stat(2) says of them: a second build reads no file that did not change.

A file is known by (device, inode, size, mtime, ctime). Nobody can set ctime, so equal means unchanged, but for one
case: a file written again within the same tick of the clock. Hence nothing young is remembered (git's "racily clean").
It is a cache: damaged or lost, it costs time only.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

_RACY_NS = 2_000_000_000  # coarser than the clock of any file system worth naming
_MAX_BYTES = 512 << 20  # a cache file that grew beyond this starts anew
_AT_ONCE = 500  # values in one statement: SQLite takes 999
_LIMIT = 1 << 63  # SQLite's integers; what lies beyond (odd clocks, some inodes) is not remembered
_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
  device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
  content BLOB NOT NULL, capability BLOB NOT NULL, PRIMARY KEY (device, inode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tree (fingerprint BLOB PRIMARY KEY, digest TEXT NOT NULL);
"""


class FileKey(NamedTuple):
    """What stat(2) says of a file as long as nobody writes to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Content(NamedTuple):
    """What enters a cache key: sha256 of the bytes, and the xattr security.capability or nothing."""

    sha256: bytes
    capability: bytes


def is_settled(key: FileKey, read_ns: int) -> bool:
    """Whether a file was old enough when it was read that a later write shows in its times."""
    return max(key.mtime_ns, key.ctime_ns) < read_ns - _RACY_NS


Clock = Callable[[], int]  # nanoseconds since 1970, as file systems count


class StatCache:
    """Used by several threads and processes at once."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.clock = clock

    @classmethod
    def open(cls, path: Path, *, clock: Clock = time.time_ns) -> Self:
        """Open or make the cache; a damaged file is made anew, and one that can't be written is kept in memory only."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _MAX_BYTES:
                path.unlink()
            return cls(_connect(os.fspath(path)), clock)
        except (sqlite3.DatabaseError, OSError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        try:
            return cls(_connect(os.fspath(path)), clock)
        except (sqlite3.Error, OSError):
            return cls(_connect(":memory:"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self, keys: Sequence[FileKey]) -> dict[tuple[int, int], Content]:
        """What is known of these files, by device and inode."""
        wanted: dict[int, dict[int, FileKey]] = {}
        for key in keys:
            if key.inode < _LIMIT:
                wanted.setdefault(key.device, {})[key.inode] = key
        known: dict[tuple[int, int], Content] = {}
        for device, files in wanted.items():
            inodes = list(files)
            for start in range(0, len(inodes), _AT_ONCE):
                for inode, size, mtime_ns, ctime_ns, content, capability in self._rows(
                    device, inodes[start : start + _AT_ONCE]
                ):
                    if files[inode] == (device, inode, size, mtime_ns, ctime_ns):
                        known[device, inode] = Content(content, capability)
        return known

    def _rows(self, device: int, inodes: Sequence[int]) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(inodes))
        columns = "inode, size, mtime_ns, ctime_ns, content, capability"
        query = f"SELECT {columns} FROM file WHERE device = ? AND inode IN ({marks})"  # noqa: S608 - only ?s
        with self._lock:
            try:
                return self._connection.execute(query, (device, *inodes)).fetchall()
            except (sqlite3.Error, OverflowError):
                return []

    def remember(self, found: Iterable[tuple[FileKey, Content]], read_ns: int) -> None:
        """Keep what was read from `read_ns` on, by the cache's clock. Of files too young then, nothing is kept."""
        rows = [
            (*key, *content)
            for key, content in found
            if is_settled(key, read_ns) and max(key) < _LIMIT and min(key) >= -_LIMIT
        ]
        if rows:
            self._write("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def tree(self, fingerprint: bytes) -> str | None:
        """The digest of a whole selection of files whose stats have this fingerprint."""
        with self._lock:
            row = self._one("SELECT digest FROM tree WHERE fingerprint = ?", (fingerprint,))
        return None if row is None else str(row[0])

    def remember_tree(self, fingerprint: bytes, digest: str) -> None:
        """Keep the digest of a selection; the caller has seen that all of its files are settled."""
        self._write("INSERT OR REPLACE INTO tree VALUES (?, ?)", [(fingerprint, digest)])

    def _one(self, query: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        except (sqlite3.Error, OverflowError):
            return None
        return row

    def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error), self._connection:
            self._connection.executemany(statement, rows)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
