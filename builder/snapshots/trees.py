"""Removing directory trees that somebody else filled."""

import errno
import os
import stat
from uuid import uuid4

from runner.kernel.calls import AT_FDCWD, RESOLVE_NO_XDEV, openat2

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 40  # open descriptors at once; what lies deeper is first moved up
_TRIES = 1000  # times 40 is deeper than anybody can nest directories


def remove_tree(path: str) -> None:
    """Remove `path` and all below it, if it is there. Never follows a link, whatever the tree contains.

    Containers can nest directories deeper than PATH_MAX and than our stack, and several processes may remove the
    same tree at once; both are fine. Raises OSError: something is mounted in it, or its files are immutable.
    """
    remove_tree_at(os.fsencode(path), None)


def remove_tree_at(name: bytes, directory: int | None) -> None:
    """The same for a name in an open directory."""
    for _ in range(_TRIES):
        try:
            root = _open_directory(name, directory)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            os.unlink(name, dir_fd=directory)
            return
        try:
            _empty(root, root, 0)
        finally:
            os.close(root)
        if _removed(name, directory):
            return
    raise OSError(errno.ENOTEMPTY, "somebody keeps writing to it", os.fsdecode(name))


def _empty(directory: int, root: int, depth: int) -> None:
    """Remove what `directory` holds, or move it up into `root` for the next round."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        try:
            if not is_dir:
                os.unlink(name, dir_fd=directory)
            elif depth == _DEEPEST:
                os.rename(name, f"deep-{uuid4().hex}", src_dir_fd=directory, dst_dir_fd=root)
            else:
                child = _open_directory(name, directory)
                try:
                    _empty(child, root, depth + 1)
                finally:
                    os.close(child)
                _removed(name, directory)
        except FileNotFoundError:
            continue  # somebody else removes the same tree


def _removed(name: str | bytes, directory: int | None) -> bool:
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _open_directory(name: str | bytes, parent: int | None) -> int:
    """Never one that something is mounted on (EXDEV): what is there is not ours to remove."""
    here = AT_FDCWD if parent is None else parent
    resolve = 0 if parent is None else RESOLVE_NO_XDEV
    try:
        return openat2(here, name, _OPEN, 0, resolve)
    except PermissionError:  # overlay's work directories have mode 000, which stops all but root
        handle = openat2(here, name, os.O_PATH | os.O_NOFOLLOW, 0, resolve)
        try:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                os.chmod(f"/proc/self/fd/{handle}", 0o700)
        finally:
            os.close(handle)
        return openat2(here, name, _OPEN, 0, resolve)
