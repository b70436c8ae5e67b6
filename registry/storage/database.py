"""Connections to meta.db: reads that never wait, writes one after the other.

Promises: `write` is one transaction, on disk when it returns; `read` sees one consistent state.
A connection serves one thread at a time and is handed from thread to thread through a pool, so that a server's many
threads need few of them. A child that was forked while connections were open is refused: SQLite there believes to hold
the parent's locks, and would write to a log that the parent's end deletes.

The log (WAL) is synced here and not by SQLite (whose synchronous=FULL would do the same inside COMMIT, while all other
writers of all processes wait): after COMMIT, with no lock held, one fsync for all commits that came before it.
"""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry.errors import StoreError
from registry.storage import schema
from registry.storage.failures import explained, from_sqlite_error

BUSY_SECONDS = 30
_connected: set[int] = set()  # id() of each open connection of this process
_forked_with: list[int] = []  # those that were open in our parent when it forked us
os.register_at_fork(after_in_child=lambda: _forked_with.extend(_connected))
Row = tuple[Any, ...]


class Database:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "meta.db"
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer = threading.Lock()
        self._syncer = threading.Lock()
        self._commits = 0  # through this object
        self._synced = 0  # of these, surely on disk
        self._log: int | None = None
        self._closed = False

    @classmethod
    def open(cls, root: Path) -> "Database":
        """Make the file and its tables if they are not there. The caller holds the root's set-up lock."""
        database = cls(root)
        with explained(root):
            _create(database._path)
            try:
                with database.read() as connection:
                    version = schema.schema_version(connection)
                    schema.check_version(version)
                if not version.is_current:
                    with database.write() as connection:
                        schema.expand(connection)
            except BaseException:
                database.close()
                raise
        return database

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for statements that only read; each statement sees the state of its own start."""
        with explained(self._root):
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer overlaps. An exception inside undoes it.

        Args:
            durable: wait for the disk; False where a power cut may undo it (a crash of this process never does).
        """
        _refuse_forked()  # before the lock, which a thread of our parent may have held
        with explained(self._root):
            with self._writer:
                connection = self._take()
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    try:
                        yield connection
                        connection.execute("COMMIT")
                    except BaseException:
                        if connection.in_transaction:  # SQLite itself rolls back when the disk is full
                            connection.execute("ROLLBACK")
                        raise
                finally:
                    self._give_back(connection)
                self._commits += 1
                commit = self._commits
            if durable:
                self._sync_log(commit)

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Row]:
        with self.read() as connection:
            return connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: tuple[Any, ...] = ()) -> Row | None:
        """The first row, or None."""
        connection = self._take()  # not by `read`, which would take half of the time, and this is in every request
        try:
            found: Row | None = connection.execute(statement, values).fetchone()
            return found
        except sqlite3.Error as error:
            raise from_sqlite_error(self._root, error) from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        self._closed = True
        if _forked_with:
            return
        while self._idle:
            _disconnect(self._idle.pop())
        with self._syncer:
            if self._log is not None:
                os.close(self._log)
                self._log = None

    def _sync_log(self, commit: int) -> None:
        """Return when our commit of that number is on disk. Who waits here for the lock may find it done by another."""
        with self._syncer:
            if self._synced >= commit:
                return
            if self._log is None:
                self._log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)  # stays while a connection is open
            upto = self._commits
            os.fdatasync(self._log)
            self._synced = upto

    def _take(self) -> sqlite3.Connection:
        _refuse_forked()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            _disconnect(connection)
        else:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError("the content store is closed", hint="open it again")
        with explained(self._root):
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                if mode != "wal":
                    raise StoreError(f"{self._path} can't be shared by processes", hint="use a local file system")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA foreign_keys=ON")
            except BaseException:
                connection.close()
                raise
        _connected.add(id(connection))
        return connection


def _create(path: Path) -> None:
    """Make the file with the mode that its log takes over.

    One that is there is not opened: closing it would drop the locks of other connections of this process (POSIX locks
    go with the first descriptor that is closed), and the next process that leaves would take their log along.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _disconnect(connection: sqlite3.Connection) -> None:
    _connected.discard(id(connection))
    connection.close()


def _refuse_forked() -> None:
    if _forked_with:
        raise StoreError(
            "this process was forked while the content store was open",
            hint="fork before it is opened, or exec a program",
        )
