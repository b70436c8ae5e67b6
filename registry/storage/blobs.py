"""Blobs: bytes under their digest, verified on the way in, whole or absent.

Order of durability: bytes are written and synced, then get their name, then the name is synced, then the row says so.
Whoever finds a name without a row finds garbage of a crash, and the next ingest of the same bytes makes it good.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from registry.errors import BlobUnknown, DigestInvalid, SizeInvalid, StoreError
from registry.model import Digest
from registry.model.digest import new_hasher
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.failures import explained
from registry.storage.files import Files, start_writeback, write_all
from registry.storage.leases import Lease
from registry.storage.values import StoredBlob

SMALL = 4 * 1024 * 1024  # bytes; what `read` takes into memory unless told otherwise
_IN_A_ROW = 8  # tries to publish against collectors that remove the name again


class Blobs:
    def __init__(self, database: Database, files: Files) -> None:
        self._database = database
        self.files = files

    def has(self, digest: Digest) -> bool:
        """Whether row and file are both there; asked before a transfer, so that a lost file heals by pushing again."""
        found = self._database.row(
            "SELECT size FROM blob WHERE digest = ? AND state = 'live' AND digest NOT IN (SELECT digest FROM damage)",
            (str(digest),),
        )
        return found is not None and self.files.holds(digest, found[0])

    def size(self, digest: Digest) -> int:
        found = self._database.row("SELECT size FROM blob WHERE digest = ? AND state = 'live'", (str(digest),))
        if found is None:
            raise unknown_blob(digest)
        return int(found[0])

    def all(self) -> list[StoredBlob]:
        rows = self._database.rows(
            "SELECT digest, size, EXISTS (SELECT 1 FROM repo_blob l WHERE l.digest = b.digest), "
            "EXISTS (SELECT 1 FROM cache_hold h WHERE h.digest = b.digest), "
            "EXISTS (SELECT 1 FROM lease_blob p WHERE p.digest = b.digest) "
            "FROM blob b WHERE state = 'live' ORDER BY digest"
        )
        return [StoredBlob(Digest.parse(digest), size, *map(bool, uses)) for digest, size, *uses in rows]

    def path(self, digest: Digest) -> Path:
        self.size(digest)
        return Path(self.files.blob(digest))

    def open(self, digest: Digest) -> BinaryIO:
        path = self.path(digest)
        try:
            with explained(self.files.root):
                return open(path, "rb")
        except StoreError:
            if not path.exists():
                raise unknown_blob(digest) from None
            raise

    def read(self, digest: Digest, limit: int = SMALL) -> bytes:
        with self.open(digest) as file, explained(self.files.root):
            content = file.read(limit + 1)
        if len(content) > limit:
            raise SizeInvalid(f"{digest} is larger than {limit} bytes", hint="it can't be the JSON it is taken for")
        if Digest.of(content, digest.algorithm) != digest:
            raise DigestInvalid(f"the stored file of {digest} is damaged", hint="remove the image and fetch it again")
        return content

    def put(self, content: bytes, expected: Digest | None, lease: Lease | None) -> Digest:
        with self.ingest(expected.algorithm if expected else "sha256", lease) as blob:
            blob.write(content)
            return blob.commit(expected)

    def ingest(self, algorithm: str, lease: Lease | None) -> "Ingest":
        return Ingest(self, algorithm, lease)

    def publish(
        self, part: str, fd: int, digest: Digest, size: int, along: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Make the verified bytes of `part` the blob `digest`, and do `along` in the same transaction.

        The collector takes a name away only inside a transaction that also finds its row not live. So a transaction
        that finds the name in place and makes the row live is safe; one that does not must place the name again.
        """
        synced = False
        for _ in range(_IN_A_ROW):
            placed = not self.has(digest)
            if placed:
                if not synced:
                    os.fsync(fd)
                    crash_point("blob-synced")
                    synced = True
                self.files.place(part, digest)
            with self._database.write() as transaction:
                if not self.files.holds(digest, size) or (not placed and is_damaged(transaction, digest)):
                    continue
                _upsert(transaction, digest, size, self.files.key(digest))
                if placed:
                    transaction.execute("DELETE FROM damage WHERE digest = ?", (str(digest),))
                along(transaction)
                crash_point("blob-row")
            crash_point("blob-committed")
            return
        raise StoreError(f"{digest} vanished {_IN_A_ROW} times while it was stored", hint="what deletes files there?")


class Ingest:
    """A blob while it is written. Leaving the context without `commit` discards it."""

    def __init__(self, blobs: Blobs, algorithm: str, lease: Lease | None) -> None:
        self.size = 0
        self._blobs = blobs
        self._algorithm = algorithm
        self._lease = lease
        self._flushing = 0
        self._hasher = new_hasher(algorithm)
        self._part = blobs.files.new_part()
        self._fd = -1

    def __enter__(self) -> Self:
        with explained(self._blobs.files.root):
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        crash_point("ingest-created")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)
        with suppress(FileNotFoundError):
            os.unlink(self._part)

    def write(self, chunk: bytes | bytearray | memoryview) -> int:
        with explained(self._blobs.files.root):
            written = write_all(self._fd, chunk)
        self._hasher.update(chunk)
        self.size += written
        self._flushing = start_writeback(self._fd, self._flushing, self.size)
        crash_point("ingest-written")
        return written

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        """Verify, make durable, and return the digest. Raises DigestInvalid, SizeInvalid, DiskFull."""
        if size is not None and size != self.size:
            raise SizeInvalid(f"{self.size} bytes came, {size} were announced", hint="send it again")
        digest = Digest(self._algorithm, self._hasher.hexdigest())
        check_digest(expected, digest)
        with explained(self._blobs.files.root):
            self._blobs.publish(self._part, self._fd, digest, self.size, self._keep(digest))
        return digest

    def _keep(self, digest: Digest) -> Callable[[sqlite3.Connection], None]:
        lease = self._lease
        return (lambda transaction: lease.insert(transaction, (digest,))) if lease else (lambda _: None)


def is_damaged(connection: sqlite3.Connection, digest: Digest) -> bool:
    """Whether scrubbing found it wrong, and nobody has brought it again since."""
    return connection.execute("SELECT 1 FROM damage WHERE digest = ?", (str(digest),)).fetchone() is not None


def check_digest(expected: Digest | None, found: Digest) -> None:
    if expected is not None and expected != found:
        raise DigestInvalid(f"content is {found}, expected {expected}", hint="it was changed or cut on its way; retry")


def unknown_blob(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"no blob {digest}", hint="push or pull the image that it belongs to")


def _upsert(transaction: sqlite3.Connection, digest: Digest, size: int, key: str) -> None:
    now = time.time()
    transaction.execute(
        "INSERT INTO blob (digest, size, storage_key, created, touched, scrubbed) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'live', touched = excluded.touched",
        (str(digest), size, key, now, now, now),
    )
