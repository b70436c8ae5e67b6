"""A snapshot's own changes as a layer: one walk, one archive, hashed, packed and stored as it is made.

The same tree gives the same bytes on any day and on any number of cores: entries are sorted, times are cut to seconds,
owners are numbers only, and nothing of the machine gets in. As docker and BuildKit do, the root directory itself is no
entry, and directories that were merely copied up are.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol

from builder.errors import LayerError, SnapshotError
from builder.layers.borrowed import Borrowed
from builder.layers.compression import Compression, Packer
from builder.snapshots import Snapshot
from registry.archive.tarformat import END, Entry, Kind, encode, padding
from registry.model.digest import Digest
from registry.model.manifest import Descriptor

if TYPE_CHECKING:
    from registry.storage import ContentStore, Lease

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

_READ = 1 << 20
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Clamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer. `newest_ns`: the latest change of a file in it, 0 if it has none. `files`: its entries."""

    descriptor: Descriptor
    diff_id: Digest
    newest_ns: int
    files: int


def write_layer(
    snapshot: Snapshot,
    store: "ContentStore",
    compression: Compression,
    *,
    clamp: Clamp | None = None,
    lease: "Lease | None" = None,
    check: Callable[[], None] = lambda: None,
    borrowed: Borrowed | None = None,
) -> Layer:
    """Store what `snapshot` adds to its parent. Nothing else may change it meanwhile.

    `check` is called with each packed block of the archive, and may raise to end it.

    `clamp` is (since, epoch) in ns: times from `since` on, which this very step made, become `epoch`, in the archive
    and in the snapshot, so that the next step sees what the layer says. `borrowed` has contents that it lacks.

    Raises:
        LayerError: a name that a layer can't express. SnapshotError: overlay features that a layer can't express.
    """
    with store.ingest(lease=lease) as blob:

        def write(block: bytes | memoryview) -> int:
            check()
            return blob.write(block)

        with Packer(compression, write) as packer:
            walk = _Walk(packer, clamp, overlay=True)
            walk.borrowed = borrowed or Borrowed()
            walk.tree(snapshot.upper)
            walk.finish()
            diff_id = packer.finish()
        digest = blob.commit()
        size = blob.size
    return Layer(Descriptor(compression.media_type, digest, size), diff_id, walk.newest_ns, walk.files)


def write_tree(directory: str | int, out: BinaryIO) -> int:
    """Write all below a directory, such as a mounted snapshot, as a plain archive; the number of its entries."""
    walk = _Walk(_Plain(out), None, overlay=False)
    walk.tree(directory)
    walk.finish()
    return walk.files


def write_trees(trees: Sequence[tuple[str, int]], out: BinaryIO, *, seconds: int | None = None) -> None:
    """Write several trees as one plain archive.

    Args:
        trees: the directory of the archive that each goes to (empty: the root), and its root.
        out: gets the archive.
        seconds: the time of every entry; None: its own.
    """
    walk = _Walk(_Plain(out), None, overlay=False)
    walk.fixed_ns = None if seconds is None else seconds * 1_000_000_000
    for name, root in trees:
        walk.tree(root, os.fsencode(name))
    walk.finish()


class _Archive(Protocol):
    """What an archive is written to."""

    def write(self, piece: bytes, /) -> object: ...

    def copy_from(self, file: int, size: int, /) -> int:
        """Write so many bytes from where an open file stands; the number of those that there were."""


class _Plain:
    """A stream."""

    def __init__(self, out: BinaryIO) -> None:
        self.write = out.write

    def copy_from(self, file: int, size: int) -> int:
        done = 0
        while done < size and (data := os.read(file, min(size - done, _READ))):
            self.write(data)
            done += len(data)
        return done


class _Level:
    """A directory on the way down: open, with the names that are still to come, last first."""

    def __init__(self, handle: int, prefix: bytes, found: os.stat_result) -> None:
        self.handle = handle
        self.prefix = prefix
        self.stat = found
        self.names = sorted(map(os.fsencode, os.listdir(handle)), reverse=True)


class _Walk:
    def __init__(self, archive: _Archive, clamp: Clamp | None, *, overlay: bool) -> None:
        self._write = archive.write
        self._copy_from = archive.copy_from
        self._since: int | None = clamp[0] if clamp else None
        self._epoch = clamp[1] if clamp else 0
        self._overlay = overlay  # understand overlayfs' marks; otherwise the tree is what it looks like
        self._links: dict[tuple[int, int], bytes] = {}
        self.fixed_ns: int | None = None  # the time of everything
        self.borrowed = Borrowed()
        self.newest_ns = 0
        self.files = 0

    def tree(self, top: str | int, place: bytes = b"") -> None:
        """All that a directory has; in the archive it is a directory called `place`, or the root."""
        root = os.open(top, _DIRECTORY) if isinstance(top, str) else os.open(".", _DIRECTORY, dir_fd=top)
        self._links.clear()
        levels = [_Level(root, place + b"/" if place else b"", os.fstat(root))]
        try:
            if place:
                self._put(Entry(place, Kind.DIRECTORY), place, levels[0].stat)
            while levels:
                level = levels[-1]
                if level.names:
                    below = self._explained(level, level.names.pop())
                    if below is not None:
                        levels.append(below)
                else:
                    self._clamped(level.stat, partial(_set_times, level.handle))
                    os.close(levels.pop().handle)
        finally:
            for level in levels:
                os.close(level.handle)

    def finish(self) -> None:
        self._write(END)

    def _explained(self, level: "_Level", name: bytes) -> "_Level | None":
        path = level.prefix + name
        try:
            return self._entry(level.handle, name, path)
        except OSError as error:
            if error.errno in {errno.EPIPE, errno.ENOSPC}:
                raise  # of what we write to: no file read gives these
            raise SnapshotError(f"can't read /{_shown(path)} for its layer: {error.strerror}") from error

    def _entry(self, directory: int, name: bytes, path: bytes) -> "_Level | None":
        """Write one entry; if it is a directory, what is in it comes next."""
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        mode = found.st_mode
        if self._overlay and stat.S_ISCHR(mode) and found.st_rdev == 0:
            self._whiteout(path, WHITEOUT + name, found)
        elif stat.S_ISDIR(mode):
            return self._subdirectory(directory, name, path, found)
        elif stat.S_ISREG(mode):
            self._file(directory, name, path, found)
        elif not stat.S_ISSOCK(mode):  # a socket is nothing without its process
            self._special(directory, name, path, found)
        return None

    def _subdirectory(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> "_Level":
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            xattrs, marks = self._xattrs(directory, path)
            self._put(Entry(path, Kind.DIRECTORY, xattrs=xattrs), name, found)
            if marks.get("opaque") == b"y":
                self._whiteout(path + b"/" + OPAQUE, OPAQUE, found)
            return _Level(directory, path + b"/", found)
        except BaseException:
            os.close(directory)
            raise

    def _file(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first is not path:
                self._put(Entry(path, Kind.HARDLINK, link=first), name, found)
                return
        file = os.open(name, _FILE, dir_fd=parent)
        try:
            xattrs, marks = self._xattrs(file, path)
            if "whiteout" in marks:
                self._whiteout(path, WHITEOUT + name, found)
                return
            self._put(Entry(path, Kind.FILE, size=found.st_size, xattrs=xattrs), name, found)
            if found.st_size:
                lent = self.borrowed.get(path)
                self._content(file if lent is None else lent, found.st_size, path)
            self._clamped(found, partial(_set_times, file))
        finally:
            os.close(file)

    def _special(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> None:
        mode = found.st_mode
        if stat.S_ISLNK(mode):
            entry = Entry(path, Kind.SYMLINK, link=os.readlink(name, dir_fd=parent))
        elif stat.S_ISFIFO(mode):
            entry = Entry(path, Kind.FIFO)
        else:
            kind = Kind.CHARACTER if stat.S_ISCHR(mode) else Kind.BLOCK
            entry = Entry(path, kind, major=os.major(found.st_rdev), minor=os.minor(found.st_rdev))
        self._put(entry, name, found)
        self._clamped(found, lambda ns: os.utime(name, ns=ns, dir_fd=parent, follow_symlinks=False))

    def _put(self, entry: Entry, name: bytes, found: os.stat_result) -> None:
        if self._overlay and name.startswith(WHITEOUT):
            raise LayerError(
                f"/{_shown(entry.name)} can't be stored in a layer: names that begin with .wh. mean a deleted file",
                hint="rename it, name it in .dockerignore, or remove it in the step that makes it",
            )
        entry.mode = found.st_mode & 0o7777
        entry.uid = found.st_uid
        entry.gid = found.st_gid
        entry.mtime_ns = self._time(found)
        self.newest_ns = max(self.newest_ns, entry.mtime_ns)
        self.files += 1
        self._write(encode(entry))

    def _content(self, file: int, size: int, path: bytes) -> None:
        if self._copy_from(file, size) != size:
            raise SnapshotError(f"/{_shown(path)} became shorter while its layer was written")
        if fill := padding(size):
            self._write(fill)

    def _whiteout(self, path: bytes, name: bytes, found: os.stat_result) -> None:
        above = path.rpartition(b"/")[0]
        full = above + b"/" + name if above else name
        self.files += 1
        self._write(encode(Entry(full, Kind.FILE, mtime_ns=self._time(found))))

    def _time(self, found: os.stat_result) -> int:
        if self.fixed_ns is not None:
            return self.fixed_ns
        return self._epoch if self._since is not None and found.st_mtime_ns >= self._since else found.st_mtime_ns

    def _clamped(self, found: os.stat_result, set_times: Callable[[tuple[int, int]], None]) -> None:
        if self._since is not None and found.st_mtime_ns >= self._since:
            set_times((self._epoch, self._epoch))

    def _xattrs(self, file: int, path: bytes) -> tuple[dict[bytes, bytes], dict[str, bytes]]:
        """Attributes that belong to the file, and overlayfs' marks on it."""
        names = os.listxattr(file)
        if not names:
            return {}, {}
        own: dict[bytes, bytes] = {}
        marks: dict[str, bytes] = {}
        for name in names:
            if name.startswith(_OVERLAY):
                marks[name.rpartition("overlay.")[2]] = os.getxattr(file, name)
            elif is_portable(name):
                own[os.fsencode(name)] = os.getxattr(file, name)
        if self._overlay and marks.keys() & {"redirect", "metacopy"}:
            raise SnapshotError(
                f"/{_shown(path)} has overlay marks that no layer can express",
                hint="the overlay must be mounted with redirect_dir=off,metacopy=off",
            )
        return own, marks if self._overlay else {}


def _set_times(file: int, ns: tuple[int, int]) -> None:
    os.utime(file, ns=ns)


def is_portable(xattr: str) -> bool:
    """Whether an extended attribute means the same elsewhere: file capabilities and users' own; no labels, no marks."""
    return xattr == "security.capability" or (xattr.startswith("user.") and not xattr.startswith(_OVERLAY))


def _shown(path: bytes) -> str:
    return path.decode(errors="replace")
