"""Removing directory trees that somebody else filled."""

import os
import stat
from uuid import uuid4

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 40  # open descriptors at once; what lies deeper is first moved up


def remove_tree(path: str) -> None:
    """Remove `path` and all below it, if it is there. Never follows a link, whatever the tree contains.

    Containers can nest directories deeper than PATH_MAX and than our stack, and several processes may remove the
    same tree at once; both are fine.
    """
    remove_tree_at(os.fsencode(path), None)


def remove_tree_at(name: bytes, directory: int | None) -> None:
    """The same for a name in an open directory."""
    try:
        root = _open_directory(name, directory)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(name, dir_fd=directory)
        return
    try:
        while _empty(root, root, 0):
            pass
    finally:
        os.close(root)
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _empty(directory: int, root: int, depth: int) -> bool:
    """Remove what `directory` holds. True if something was moved up into `root` instead."""
    moved = False
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        try:
            if not is_dir:
                os.unlink(name, dir_fd=directory)
            elif depth == _DEEPEST:
                os.rename(name, f"deep-{uuid4().hex}", src_dir_fd=directory, dst_dir_fd=root)
                moved = True
            else:
                child = _open_directory(name, directory)
                try:
                    moved |= _empty(child, root, depth + 1)
                finally:
                    os.close(child)
                os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            continue  # somebody else removes the same tree
    return moved


def _open_directory(name: str | bytes, parent: int | None) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=parent)
    except PermissionError:  # overlay's work directories have mode 000, which stops all but root
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                os.chmod(f"/proc/self/fd/{handle}", 0o700)
        finally:
            os.close(handle)
        return os.open(name, _OPEN, dir_fd=parent)
