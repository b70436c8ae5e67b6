"""Connections to meta.db: reads that never wait, writes one after the other.

Promises: `write` is one transaction, on disk when it returns (WAL, synchronous=FULL); `read` sees one consistent state.
A connection serves one thread at a time and is handed from thread to thread through a pool, so that a server's many
threads need few of them. After fork() the child opens its own: SQLite forbids carrying one across.
"""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.errors import StoreError
from registry.storage import schema
from registry.storage.failures import explained, from_sqlite_error

BUSY_SECONDS = 30
Row = tuple[Any, ...]


class Database:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "meta.db"
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()
        self._inherited: list[deque[sqlite3.Connection]] = []  # kept from being closed: they belong to our parent
        self._writer = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, root: Path) -> "Database":
        """Make the file and its tables if they are not there. The caller holds the root's set-up lock."""
        database = cls(root)
        with explained(root):
            os.close(os.open(database._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # its -wal takes this mode
            try:
                with database.read() as connection:
                    version = schema.schema_version(connection)
                    schema.check_version(version)
                if version < len(schema.MIGRATIONS):
                    with database.write() as connection:
                        schema.migrate(connection)
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
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer overlaps. An exception inside undoes it."""
        with self._writer, explained(self._root):
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

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Row]:
        with self.read() as connection:
            return connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: tuple[Any, ...] = ()) -> Row | None:
        """The first row, or None."""
        connection = (
            self._take()
        )  # not through `read`: this is every request's path, and half of its time would be that
        try:
            found: Row | None = connection.execute(statement, values).fetchone()
            return found
        except sqlite3.Error as error:
            raise from_sqlite_error(self._root, error) from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        self._closed = True
        while self._idle and self._pid == os.getpid():
            self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            self._inherited.append(self._idle)
            self._idle, self._writer, self._pid = deque(), threading.Lock(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            connection.close()
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
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
        return connection
