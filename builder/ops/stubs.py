"""Mount points that a step needs and its layer must not show (reference §1.6).

They are made before the container starts, in the step's own tree, and removed when it has ended; the times of the
directories they lie in are put back both times, so that a step that does nothing leaves a layer of nothing.
"""

import os
import posixpath
import stat
from dataclasses import dataclass

from runner.kernel.paths import open_in_root

_LINKS = 40


@dataclass(frozen=True, slots=True)
class Stub:
    """One name that was not there before."""

    parent: str
    name: str


class Stubs:
    """The stubs of one step. `root` is the step's tree, writable."""

    def __init__(self) -> None:
        self._made: list[Stub] = []

    def make(self, root: int, path: str, *, directory: bool, links: int = _LINKS) -> None:
        """Make `path` and what is missing above it. What is there already, of whatever kind, is left alone."""
        missing: list[str] = []
        path = posixpath.normpath(path)
        while not _exists(root, path):
            missing.append(path)
            path = posixpath.dirname(path)
        for place in reversed(missing):
            self._make_one(root, place, directory=directory or place is not missing[0], links=links)

    def _make_one(self, root: int, path: str, *, directory: bool, links: int) -> None:
        above, name = posixpath.split(path)
        try:
            parent = open_in_root(root, above, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return  # something that is no directory is in the way; the runner says so in its own words
        try:
            if (target := _link(name, parent)) is not None:
                if links:
                    self.make(root, posixpath.join(above, target), directory=directory, links=links - 1)
                return
            before = os.fstat(parent)
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
            self._made.append(Stub(above, name))
            _put_back(parent, before)
        finally:
            os.close(parent)

    def remove(self, root: int) -> None:
        """Remove those that are still empty; the step may have put something into them."""
        for stub in reversed(self._made):
            try:
                parent = open_in_root(root, stub.parent, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # removed, or replaced, by the step
            try:
                before = os.fstat(parent)
                if _remove_empty(parent, stub.name):
                    _put_back(parent, before)
            finally:
                os.close(parent)
        self._made.clear()


def _exists(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, os.O_PATH))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _link(name: str, parent: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _remove_empty(parent: int, name: str) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(name, dir_fd=parent)
        else:
            return False
    except OSError:
        return False
    return True


def _put_back(directory: int, before: os.stat_result) -> None:
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
