"""Where the files of an archive lie: in a tar stream that is read once, or in a folder.

A stream is read front to back, so it may come through a pipe. Small files stay in memory, within a budget; large ones
go to the store at once, under a lease.
"""

import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from registry.archive import HARM
from registry.archive.reader import TarReader
from registry.archive.tarformat import Entry, Kind
from registry.archive.unpacking import Limits, unpacked
from registry.client.progress import Progress
from registry.errors import ArchiveError, DigestInvalid, SizeInvalid, printable
from registry.model import Digest
from registry.storage import ContentStore, Ingest, Lease

_SMALL = 1024 * 1024  # bytes; a file up to this size stays in memory
_BUDGET = 64 * 1024 * 1024  # bytes of all such files together
_NAMES_BUDGET = 32 * 1024 * 1024  # characters of all names together
_MEMBER = 300  # bytes that remembering one costs beside its name
_MAX_LINKS = 10  # in a row
_PIECE = 1024 * 1024
_HEAD = 8  # bytes that tell a compression
Pieces = Iterator[bytes] | Iterator[memoryview]
_LIMITS = Limits(size=1 << 40, ratio=200, free=1 << 30, entries=200_000)


class Absent(ArchiveError):
    """The archive lacks a file that it names."""


class Source(Protocol):
    """Files by the names that an archive's own documents give them."""

    def read(self, name: str, limit: int) -> bytes:
        """A small file. Raises Absent, SizeInvalid."""

    def head(self, name: str) -> bytes:
        """Its first bytes. Raises Absent."""

    def keep(self, name: str, algorithm: str) -> tuple[Digest, int]:
        """Have it in the store; its digest and size. Raises Absent."""


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    head: bytes
    content: bytes | None  # None: it is in the store
    digest: Digest | None


class TarSource:
    def __init__(self, store: ContentStore, lease: Lease, stream: BinaryIO, progress: Progress) -> None:
        """Read all of the archive. Raises ArchiveError."""
        self._store = store
        self._lease = lease
        self._progress = progress
        self._files: dict[str, _File] = {}
        self._links: dict[str, str] = {}
        self._budget = _BUDGET
        self._names_budget = _NAMES_BUDGET
        archive = TarReader(unpacked(stream, _LIMITS), _LIMITS)
        for entry in archive.entries():
            self._take(entry, archive)

    def read(self, name: str, limit: int) -> bytes:
        file = self._file(name)
        if file.size > limit:
            raise SizeInvalid(f"{name[:200]} in the archive has {file.size} bytes", hint="it can't be what it claims")
        if file.content is not None:
            return file.content
        assert file.digest is not None
        return self._store.read(file.digest, limit)

    def head(self, name: str) -> bytes:
        return self._file(name).head

    def keep(self, name: str, algorithm: str) -> tuple[Digest, int]:
        file = self._file(name)
        if file.content is not None:
            expected = Digest.of(file.content, algorithm)
            return self._store.put(file.content, expected, self._lease), file.size
        assert file.digest is not None
        return file.digest, file.size

    def _file(self, name: str) -> _File:
        at = _inside(name)
        for _ in range(_MAX_LINKS):
            if at not in self._links:
                break
            at = self._links[at]
        if at not in self._files:
            raise Absent(f"the archive has no {name[:200]}", hint="it is incomplete; make or fetch it again")
        return self._files[at]

    def _take(self, entry: Entry, archive: TarReader) -> None:
        name, link = _inside(os.fsdecode(entry.name)), os.fsdecode(entry.link)
        self._names_budget -= len(name) + len(link) + _MEMBER
        if self._names_budget < 0:
            raise ArchiveError("the archive has too many members", hint="this is no archive of images")
        if entry.kind is Kind.FILE:
            if name in self._files:
                raise ArchiveError(f"the archive has two files {name[:200]}", hint=HARM)
            self._files[name] = self._taken(name, entry.size, archive.pieces())
        elif entry.kind is Kind.SYMLINK:
            self._links[name] = _inside(posixpath.join(posixpath.dirname(name), link))
        elif entry.kind is Kind.HARDLINK:
            self._links[name] = _inside(link)
        elif entry.kind is not Kind.DIRECTORY:
            raise ArchiveError(f"{name[:200]} in the archive is no file", hint="this is no archive of images")

    def _taken(self, name: str, size: int, pieces: Pieces) -> _File:
        if size <= min(_SMALL, self._budget):
            content = b"".join(pieces)
            self._budget -= size
            return _File(size, content[:_HEAD], content, None)
        named = _blob_digest(name)
        if named is not None and _is_there(named, size, self._store, self._lease, self._progress):
            head = bytes(next(pieces)[:_HEAD])
            return _File(size, head, None, named)  # the rest is skipped: those bytes are here, and were verified
        with self._store.ingest(named.algorithm if named else "sha256", self._lease) as blob:
            head = _copied(pieces, blob, size, named.short if named else posixpath.basename(name)[:12], self._progress)
            return _File(size, head, None, blob.commit(named, size))


class FolderSource:
    def __init__(self, store: ContentStore, lease: Lease, folder: Path, progress: Progress) -> None:
        self._store = store
        self._lease = lease
        self._folder = folder
        self._progress = progress

    def read(self, name: str, limit: int) -> bytes:
        with self._opened(name) as (stream, size):
            if size > limit or len(content := stream.read(limit + 1)) > limit:
                raise SizeInvalid(f"{name[:200]} has {size} bytes", hint="it can't be what it claims")
            return content

    def head(self, name: str) -> bytes:
        with self._opened(name) as (stream, _):
            return stream.read(_HEAD)

    def keep(self, name: str, algorithm: str) -> tuple[Digest, int]:
        with self._opened(name) as (stream, size):
            named = _blob_digest(_inside(name))
            if named is not None and _is_there(named, size, self._store, self._lease, self._progress):
                return named, size
            with self._store.ingest(algorithm, self._lease) as blob:
                pieces = iter(lambda: stream.read(_PIECE), b"")
                _copied(pieces, blob, size, posixpath.basename(name)[:12], self._progress)
                return blob.commit(named), blob.size

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """A regular file of the folder; what a link or a device would give is not the folder's content."""
        path = self._folder / _inside(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise Absent(f"the layout has no {name[:200]}", hint="it is incomplete; make or fetch it again") from None
        except OSError as error:
            raise ArchiveError(f"can't read {path}: {error.strerror}", hint="it must be a regular file") from None
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise ArchiveError(f"{path} is no regular file", hint="the layout was tampered with")
            yield stream, found.st_size


def _is_there(digest: Digest, size: int, store: ContentStore, lease: Lease, progress: Progress) -> bool:
    """Whether the store has a blob; it keeps it then."""
    if not store.has(digest) or store.size(digest) != size:
        return False
    lease.hold(digest)
    progress.update(digest.short, "Already exists")
    return True


def _copied(pieces: Pieces, blob: Ingest, size: int, what: str, progress: Progress) -> bytes:
    """Write a file to the store; its first bytes."""
    head = b""
    for piece in pieces:
        head = head or bytes(piece[:_HEAD])
        blob.write(piece)
        progress.update(what, "Loading layer", blob.size, size)
        if blob.size > size:
            raise SizeInvalid(f"{what} grows while it is read", hint="try again")
    progress.update(what, "Loaded", size, size)
    return head


def _inside(name: str) -> str:
    """`name` in its one spelling. Raises ArchiveError for one that leads out of the archive."""
    clean = posixpath.normpath(name)
    if name.startswith("/") or clean == ".." or clean.startswith("../") or "\0" in name:
        raise ArchiveError(f"a name in the archive leads out of it: {printable(name)}", hint=HARM)
    return clean


def _blob_digest(name: str) -> Digest | None:
    """The digest that a layout's blob is named by."""
    match name.split("/"):
        case ["blobs", algorithm, encoded]:
            try:
                return Digest(algorithm, encoded)
            except DigestInvalid:
                return None
    return None
