"""The store's files: where a blob lies, and how one comes to lie there whole or not at all.

    root/VERSION                        the layout's version
    root/blobs/<algorithm>/<2 hex>/<hex>  a blob; the name appears only when content of that digest is on disk
    root/uploads/<id>                   bytes of a resumable upload
    root/uploads/part-<owner>-<random>  bytes of an ingest; `owner` tells a later sweep whether its process still lives
    root/uploads/trash-<random>         a blob on its way out

`uploads` lies beside `blobs` on one file system, for rename and link. Paths are text in here: each push asks for many,
and making a Path costs more than the system call that it is for.
"""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry.errors import DigestInvalid
from registry.model import Digest
from registry.storage.crash import crash_point
from registry.storage.processes import Owner

WRITEBACK = 16 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Files:
    root: Path

    @staticmethod
    def key(digest: Digest) -> str:
        """A blob's path below the root."""
        return f"blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}"

    def blob(self, digest: Digest) -> str:
        return f"{self.root}/{self.key(digest)}"

    def upload(self, name: str) -> str:
        return f"{self.root}/uploads/{name}"

    def new_part(self) -> str:
        return self.upload(f"part-{Owner.self()}-{uuid.uuid4().hex}")

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether a file of that size lies under the digest's name."""
        try:
            return os.stat(self.blob(digest)).st_size == size
        except FileNotFoundError:
            return False

    def place(self, part: str, digest: Digest) -> None:
        """Give the finished, synced file `part` its digest's name too, durably. `part` stays, for a second try."""
        target = self.blob(digest)
        shard = os.path.dirname(target)
        try:
            self._link(part, target)
        except FileNotFoundError:
            _make_shard(shard)
            self._link(part, target)
        crash_point("blob-named")
        sync_directory(shard)
        crash_point("blob-name-synced")

    def _link(self, part: str, target: str) -> None:
        try:
            os.link(part, target)
        except FileExistsError:
            # left by a crash, or put by somebody at this moment, or about to be collected: ours is verified, so it wins
            twin = self.new_part()
            os.link(part, twin)
            os.replace(twin, target)
            with suppress(FileNotFoundError):  # rename(2) of two names of one file does nothing
                os.unlink(twin)

    def discard_blob(self, digest: Digest) -> str | None:
        """Take the blob's name away; what is returned is left to unlink, when no lock is held (it may take long)."""
        trash = self.upload(f"trash-{uuid.uuid4().hex}")
        try:
            os.rename(self.blob(digest), trash)
        except FileNotFoundError:
            return None
        return trash

    def leftovers(self) -> Iterator[os.DirEntry[str]]:
        """All files in `uploads`, of the living and of the dead."""
        with os.scandir(self.upload("")) as entries:
            yield from entries

    def blobs(self) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        """All files that bear a digest's name."""
        for shard in sorted(self.root.glob("blobs/*/*")):
            with os.scandir(shard) as entries:
                for entry in entries:
                    with suppress(DigestInvalid):  # whatever else lies there is not ours
                        yield Digest(shard.parent.name, entry.name), entry


def _make_shard(shard: str) -> None:
    algorithm = os.path.dirname(shard)
    if not os.path.exists(algorithm):
        os.makedirs(algorithm, mode=0o700, exist_ok=True)
        sync_directory(os.path.dirname(algorithm))
    os.makedirs(shard, mode=0o700, exist_ok=True)
    sync_directory(algorithm)


def sync_directory(path: str | Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems can't sync a directory, and don't need to
            raise
    finally:
        os.close(fd)


def write_all(fd: int, chunk: bytes | bytearray | memoryview) -> int:
    """Write everything; write(2) may take less, for example just before the disk is full. Returns the length."""
    view = memoryview(chunk).cast("B")
    done = os.write(fd, view)
    while done < len(view):
        done += os.write(fd, view[done:])
    return done


def start_writeback(fd: int, begun: int, size: int) -> int:
    """Have the kernel write to the disk what came since byte `begun`, if that is much; return where it stands now.

    Without it nothing is written before the final fsync, which then takes as long as all the rest. Linux answers this
    advice about dirty pages by starting to write them, does not wait, and keeps them in memory.
    """
    if size - begun < WRITEBACK:
        return begun
    with suppress(OSError):  # it was only advice
        os.posix_fadvise(fd, begun, size - begun, os.POSIX_FADV_DONTNEED)
    return size
