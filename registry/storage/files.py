"""The store's files: where a blob lies, and how one comes to lie there whole or not at all.

    root/VERSION                        the layout's version
    root/blobs/<algorithm>/<2 hex>/<hex>  a blob; the name appears only when content of that digest is on disk
    root/uploads/<id>                   bytes of a resumable upload
    root/uploads/part-<owner>-<random>  bytes of an ingest; `owner` tells a later sweep whether its process still lives
    root/uploads/trash-<random>         a blob on its way out

`uploads` lies beside `blobs` on one file system, for rename and link.
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

    def blob(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm / digest.encoded[:2] / digest.encoded

    def upload(self, upload_id: str) -> Path:
        return self.root / "uploads" / upload_id

    def new_part(self) -> Path:
        return self.root / "uploads" / f"part-{Owner.self()}-{uuid.uuid4().hex}"

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether a file of that size lies under the digest's name."""
        encoded = digest.encoded
        try:  # the path as text: this is asked for every blob of every push, and Path costs more than stat(2)
            return os.stat(f"{self.root}/blobs/{digest.algorithm}/{encoded[:2]}/{encoded}").st_size == size
        except FileNotFoundError:
            return False

    def place(self, part: Path, digest: Digest) -> None:
        """Give the finished, synced file `part` its digest's name too, durably. `part` stays, for a second try."""
        target = self.blob(digest)
        try:
            self._link(part, target)
        except FileNotFoundError:
            self._make_shard(target.parent)
            self._link(part, target)
        crash_point("blob-named")
        sync_directory(target.parent)
        crash_point("blob-name-synced")

    def _link(self, part: Path, target: Path) -> None:
        try:
            os.link(part, target)
        except FileExistsError:
            # left by a crash, or put by somebody at this moment, or about to be collected: ours is verified, so it wins
            twin = self.new_part()
            os.link(part, twin)
            os.replace(twin, target)
            with suppress(FileNotFoundError):  # rename(2) of two names of one file does nothing
                os.unlink(twin)

    def discard_blob(self, digest: Digest) -> Path | None:
        """Take the blob's name away; what is returned is left to unlink, when no lock is held (it may take long)."""
        trash = self.root / "uploads" / f"trash-{uuid.uuid4().hex}"
        try:
            os.rename(self.blob(digest), trash)
        except FileNotFoundError:
            return None
        return trash

    def leftovers(self) -> Iterator[os.DirEntry[str]]:
        """All files in `uploads`, of the living and of the dead."""
        with os.scandir(self.root / "uploads") as entries:
            yield from entries

    def blobs(self) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
        """All files that bear a digest's name."""
        for shard in sorted(self.root.glob("blobs/*/*")):
            with os.scandir(shard) as entries:
                for entry in entries:
                    with suppress(DigestInvalid):  # whatever else lies there is not ours
                        yield Digest(shard.parent.name, entry.name), entry

    def _make_shard(self, shard: Path) -> None:
        if not shard.parent.exists():  # the first of its algorithm
            os.makedirs(shard.parent, mode=0o700, exist_ok=True)
            sync_directory(shard.parent.parent)
        os.makedirs(shard, mode=0o700, exist_ok=True)
        sync_directory(shard.parent)


def sync_directory(path: Path) -> None:
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
