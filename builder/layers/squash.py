"""Several layers as one: the directories of their snapshots laid over each other into a new one.

A whiteout stays only where the layers below have something to hide, and a directory that hides what is below says so.
Files are hard links: nothing is copied, and nobody writes to a snapshot that is committed.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from builder.errors import SnapshotError
from builder.layers.diff import is_portable
from builder.layers.entries import Member, entries
from builder.snapshots.trees import remove_tree_at
from runner.kernel.calls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_OPAQUE = "trusted.overlay.opaque"


def merge_layers(layers: Sequence[str], into: str, below: int, when_ns: int) -> None:
    """Lay the changes of several layers over each other.

    Args:
        layers: the upper directories of their snapshots, undermost first.
        into: the upper directory of a new snapshot, empty.
        below: the file system that all of them stand on, open.
        when_ns: the time that whiteouts get.

    Raises:
        SnapshotError: a directory can't be read or written.
    """
    try:
        target = os.open(into, _DIRECTORY)
        try:
            merge = _Merge(target, below, when_ns)
            for layer in layers:
                merge.add(layer)
            merge.finish()
        finally:
            os.close(target)
    except OSError as error:
        raise SnapshotError(f"can't squash layers: {error.strerror}: {error.filename or into}") from error


class _Merge:
    def __init__(self, target: int, below: int, when_ns: int) -> None:
        self._target = target
        self._below = below
        self._when = (when_ns, when_ns)
        self._hides: set[str] = set()  # directories that show nothing of what is below
        self._times: dict[str, int] = {}  # of directories, for the end: they change until then

    def add(self, layer: str) -> None:
        source = os.open(layer, _DIRECTORY)
        try:
            for member in entries(source):
                with self._directory(os.path.dirname(member.path)) as directory:
                    if member.is_dir:
                        self._add_directory(member, directory)
                    else:
                        self._add_file(member, directory)
        finally:
            os.close(source)

    def finish(self) -> None:
        for path, mtime in self._times.items():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._directory(path) as directory:
                os.utime(directory, ns=(mtime, mtime))

    def _add_file(self, member: Member, directory: int) -> None:
        self._remove(member, directory)
        if not _is_whiteout(member.stat):
            os.link(member.name, member.name, src_dir_fd=member.parent, dst_dir_fd=directory, follow_symlinks=False)
        elif self._shows(member.path):
            os.mknod(member.name, stat.S_IFCHR, 0, dir_fd=directory)
            os.utime(member.name, ns=self._when, dir_fd=directory)

    def _add_directory(self, member: Member, directory: int) -> None:
        source = os.open(member.name, _DIRECTORY, dir_fd=member.parent)
        try:
            opaque = _attribute(source, _OPAQUE) == b"y"
            found = _stat(member.name, directory)
            if opaque or found is None or not stat.S_ISDIR(found.st_mode):
                self._remove(member, directory)
                os.mkdir(member.name, 0o700, dir_fd=directory)
            made = os.open(member.name, _DIRECTORY, dir_fd=directory)
            try:
                _dress(made, source, member.stat)
                if (opaque or (found is not None and not stat.S_ISDIR(found.st_mode))) and self._shows(member.path):
                    os.setxattr(made, _OPAQUE, b"y")
                    self._hides.add(member.path)
            finally:
                os.close(made)
            self._times[member.path] = member.stat.st_mtime_ns
        finally:
            os.close(source)

    def _remove(self, member: Member, directory: int) -> None:
        try:
            os.unlink(member.name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            remove_tree_at(os.fsencode(member.name), directory)
            gone = f"{member.path}/"
            self._hides = {path for path in self._hides if not f"{path}/".startswith(gone)}

    def _shows(self, path: str) -> bool:
        """Whether what is below shows through under this path, as long as nothing of ours is there."""
        above = os.path.dirname(path)
        while above:
            if above in self._hides:
                return False
            above = os.path.dirname(above)
        try:
            os.close(openat2(self._below, os.fsencode(path), _LOOK, 0, _PLAIN))
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        directory = openat2(self._target, os.fsencode(path) or b".", _DIRECTORY, 0, _PLAIN)
        try:
            yield directory
        finally:
            os.close(directory)


def _stat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _attribute(file: int, name: str) -> bytes:
    try:
        return os.getxattr(file, name)
    except OSError:
        return b""


def _dress(made: int, source: int, found: os.stat_result) -> None:
    os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    for name in filter(is_portable, os.listxattr(source)):
        os.setxattr(made, name, os.getxattr(source, name))


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
