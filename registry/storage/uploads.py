"""Resumable uploads: a row that gives the right to continue, and a file whose length is the progress.

The length needs no transaction for each chunk, and after a crash it is what really arrived; the digest is checked at
the end in any case. While one request writes, it holds a lock on the file; a second one is told to come back (416).
"""

import fcntl
import os
import re
import sqlite3
import threading
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from functools import partial

from registry.errors import ChunkOutOfOrder, UploadUnknown
from registry.model import Digest
from registry.model.digest import Hasher, new_hasher
from registry.storage.blobs import Blobs, check_digest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.failures import explained
from registry.storage.files import start_writeback, write_all
from registry.storage.namespaces import Namespaces, no_room, within_quota
from registry.storage.repositories import insert_link, repo_id

EXPIRES = 7 * 24 * 3600.0  # seconds after the last byte
_REMEMBERED = 1024  # hash states of paused uploads kept in memory
_BLOCK = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{32}")


class Uploads:
    def __init__(self, database: Database, blobs: Blobs, namespaces: Namespaces) -> None:
        self.database = database
        self.namespaces = namespaces
        self.blobs = blobs
        self._states: OrderedDict[str, tuple[int, Hasher]] = OrderedDict()

    def start(self, repo: str, algorithm: str) -> "Upload":
        new_hasher(algorithm)  # refuses an unknown one
        identity = uuid.uuid4().hex
        with self.database.write(durable=False) as transaction:  # lost in a power cut, it is begun again
            transaction.execute(
                "INSERT INTO upload (id, repo_id, algo, storage_key, expires) VALUES (?, ?, ?, ?, ?)",
                (identity, repo_id(transaction, repo), algorithm, f"uploads/{identity}", time.time() + EXPIRES),
            )
            crash_point("upload-row")
        return Upload(self, repo, identity, algorithm, 0)

    def find(self, repo: str, identity: str) -> "Upload":
        found = _ID.fullmatch(identity) and self.database.row(
            "SELECT u.algo FROM upload u JOIN repo r ON r.id = u.repo_id WHERE u.id = ? AND r.name = ?",
            (identity, repo),
        )
        if not found:
            raise unknown_upload(identity)
        try:
            size = os.stat(self.blobs.files.upload(identity)).st_size
        except FileNotFoundError:
            size = 0
        return Upload(self, repo, identity, found[0], size)

    def remember(self, identity: str, size: int, hasher: Hasher) -> None:
        """Keep the hash of what came so far, so that whoever continues in this process need not read it again."""
        self._states[identity] = (size, hasher)
        while len(self._states) > _REMEMBERED:
            self._states.popitem(last=False)

    def recall(self, identity: str, size: int) -> Hasher | None:
        state = self._states.pop(identity, None)
        return state[1] if state and state[0] == size else None


class Upload:
    """One request's hold on an upload. End with `flush` (to be continued), `finish` or `cancel`."""

    def __init__(self, uploads: Uploads, repo: str, identity: str, algorithm: str, size: int) -> None:
        self.id = identity
        self.repo = repo
        self.algorithm = algorithm
        self.size = size  # bytes that arrived
        self._uploads = uploads
        self._path = uploads.blobs.files.upload(identity)
        self._root = uploads.blobs.files.root
        self._fd = -1
        self._hasher: Hasher | None = None
        self._flushing = size
        self._room = uploads.namespaces.room(repo)
        # a request that is cancelled flushes while its thread may still append: not to a descriptor just closed
        self._guard = threading.RLock()

    def append(self, chunk: bytes | bytearray | memoryview) -> int:
        """Take the next bytes; return the new size. Raises ChunkOutOfOrder (somebody else is writing), DiskFull,
        QuotaExceeded (more than the namespace had room for when this request began).
        """
        with self._guard, explained(self._root):
            if self._room is not None and self.size + len(chunk) > self._room:
                raise no_room(self.repo, self._room)
            hasher = self._begin()
            try:
                self.size += write_all(self._fd, chunk)
            except OSError:  # disk full in the middle of a chunk: back to where the hash stands
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
                raise
            hasher.update(chunk)
            self._flushing = start_writeback(self._fd, self._flushing, self.size)
            crash_point("upload-written")
            return self.size

    def flush(self) -> None:
        """Record the progress and let another request, maybe of another process, continue."""
        with self._guard:
            if self._hasher is not None:
                self._uploads.remember(self.id, self.size, self._hasher)
            self._close()

    def finish(self, expected: Digest) -> Digest:
        """Make it a blob of its repository. Raises DigestInvalid (then the upload is gone), DiskFull (it is kept)."""
        with self._guard, explained(self._root):
            hasher = self._begin()
            if expected.algorithm != self.algorithm:
                hasher = _hash_prefix(self._path, self.size, new_hasher(expected.algorithm))
            digest = Digest(expected.algorithm, hasher.hexdigest())
            if digest != expected:
                self.cancel()
            check_digest(expected, digest)
            try:
                self._uploads.blobs.publish(self._path, self._fd, digest, self.size, partial(self._keep, digest))
            except FileNotFoundError:  # somebody cancelled it
                raise unknown_upload(self.id) from None
            finally:
                self._close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        crash_point("upload-finished")
        return digest

    def cancel(self) -> None:
        """The file goes first: on a full disk, that makes room for the transaction that forgets the upload."""
        with self._guard, explained(self._root):
            self._close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            crash_point("upload-cancel-unlinked")
            with self._uploads.database.write(durable=False) as transaction:
                transaction.execute("DELETE FROM upload WHERE id = ?", (self.id,))
                crash_point("upload-cancel-row")

    def _begin(self) -> Hasher:
        """Open and lock the file, and have the hash of what is in it."""
        if self._hasher is not None:
            return self._hasher
        if self._fd < 0:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stands_at = os.fstat(fd).st_size
                if stands_at != self.size or os.fstat(fd).st_nlink == 0:
                    raise ChunkOutOfOrder(f"upload stands at byte {stands_at}", hint="ask where it stands, then go on")
                os.lseek(fd, self.size, os.SEEK_SET)
            except BlockingIOError:
                os.close(fd)
                raise ChunkOutOfOrder("another request is writing this upload", hint="ask where it stands") from None
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd
        recalled = self._uploads.recall(self.id, self.size)
        self._hasher = recalled or _hash_prefix(self._path, self.size, new_hasher(self.algorithm))
        return self._hasher

    def _keep(self, digest: Digest, transaction: sqlite3.Connection) -> None:
        gone = transaction.execute("DELETE FROM upload WHERE id = ?", (self.id,))
        if gone.rowcount == 0:  # cancelled or finished by somebody else meanwhile
            raise unknown_upload(self.id)
        repo = repo_id(transaction, self.repo)
        with within_quota(transaction, repo):
            insert_link(transaction, repo, digest)

    def _close(self) -> None:
        self._hasher = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def unknown_upload(identity: str) -> UploadUnknown:
    return UploadUnknown(f"no upload {identity[:64]}", hint="start the upload again")


def _hash_prefix(path: str, size: int, hasher: Hasher) -> Hasher:
    """Read what came before: the price of continuing in another process."""
    if size:
        buffer = memoryview(bytearray(_BLOCK))
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hasher.update(buffer[:count])
    return hasher
