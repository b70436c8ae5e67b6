"""Leases: content that nothing refers to yet, kept from collection while somebody works with it.

A lease ends with `release`, with its time, or with its process, whichever comes first. Its row is written together with
the first blob it holds, so that an unused lease costs nothing.
"""

import sqlite3
import time
import uuid
from types import TracebackType
from typing import Self

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage.database import Database
from registry.storage.processes import Owner


class Lease:
    """Safe to use from several threads. A lease that was released can be used again."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.id = uuid.uuid4().hex
        self._database = database
        self._seconds = seconds
        self._used = False

    def hold(self, *digests: Digest) -> None:
        """Keep stored blobs. Raises BlobUnknown if one is not there (any more)."""
        with self._database.write(durable=False) as transaction:  # a power cut ends our process, and the lease with it
            for digest in digests:
                if not is_live(transaction, digest):
                    raise BlobUnknown(f"no blob {digest}", hint="it was collected or never stored; fetch it again")
            self.insert(transaction, digests)

    def insert(self, transaction: sqlite3.Connection, digests: tuple[Digest, ...]) -> None:
        """Note the digests in the caller's transaction."""
        self._renew(transaction)
        transaction.executemany(
            "INSERT INTO lease_blob (lease_id, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(self.id, str(digest)) for digest in digests],
        )

    def renew(self) -> None:
        """Start its time anew; holding more content does so by itself."""
        with self._database.write() as transaction:
            self._renew(transaction)

    def release(self) -> None:
        if self._used:
            with self._database.write(durable=False) as transaction:  # if it comes back, its time still ends
                transaction.execute("DELETE FROM lease WHERE id = ?", (self.id,))

    def _renew(self, transaction: sqlite3.Connection) -> None:
        owner = Owner.self()
        transaction.execute(
            "INSERT INTO lease (id, pid, started, boot, pid_ns, expires) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET expires = excluded.expires",
            (self.id, owner.pid, owner.started, owner.boot, owner.pid_ns, time.time() + self._seconds),
        )
        self._used = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def is_live(connection: sqlite3.Connection, digest: Digest) -> bool:
    found = connection.execute("SELECT 1 FROM blob WHERE digest = ? AND state = 'live'", (str(digest),)).fetchone()
    return found is not None


def drop_dead(transaction: sqlite3.Connection) -> int:
    """Remove the leases whose time or process is over; return how many."""
    now = time.time()
    over = [
        (identity,)
        for identity, pid, started, boot, pid_ns, expires in transaction.execute("SELECT * FROM lease").fetchall()
        if expires <= now or Owner(pid, started, boot, pid_ns).is_dead()
    ]
    transaction.executemany("DELETE FROM lease WHERE id = ?", over)
    return len(over)
