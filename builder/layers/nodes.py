"""Making one file, directory, link or device in an open directory, with all that an archive says about it.

The names here have no slash: whoever calls has found the directory safely, and nothing here follows a link.
"""

import errno
import os
import stat
from typing import Protocol

from builder.errors import LayerError
from builder.layers.diff import is_portable
from builder.snapshots.trees import remove_tree_at
from registry.archive.tarformat import Entry, Kind

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


class Content(Protocol):
    """Something that can write a file's bytes."""

    def write_to(self, file: int) -> None: ...


def make_directory(name: bytes, parent: int) -> bool:
    """Make it, unless it is there already; whether something else had to give way to it."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        return True
    return False


def remove(name: bytes, directory: int) -> bool:
    """Remove what is there, if anything; whether it was a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        remove_tree_at(name, directory)
        return True
    return False


def make_file(entry: Entry, name: bytes, directory: int, content: Content) -> None:
    """FileExistsError if the name is taken."""
    file = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        if entry.size:
            content.write_to(file)
        os.fchown(file, entry.uid, entry.gid)
        os.fchmod(file, entry.mode)
        set_xattrs(file, entry)  # after chown, which clears capabilities
        os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(file)


def make_special(entry: Entry, name: bytes, directory: int) -> None:
    """A symbolic link, device or FIFO. FileExistsError if the name is taken."""
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.link, name, dir_fd=directory)
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    else:
        device = os.makedev(entry.major, entry.minor)
        if entry.kind is Kind.CHARACTER and device == 0:
            raise LayerError("a character device 0:0 is overlayfs' mark of a deleted file, and no device")
        os.mknod(name, _DEVICES[entry.kind] | 0o600, device, dir_fd=directory)
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=directory)  # just made by us and no link
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)


def set_directory(entry: Entry, directory: int) -> None:
    """Mode, owner and attributes; the time must wait until all is in it."""
    os.fchown(directory, entry.uid, entry.gid)
    os.fchmod(directory, entry.mode)
    set_xattrs(directory, entry)


def set_xattrs(file: int, entry: Entry) -> None:
    """Only those that belong to the file itself: an archive must not forge overlayfs' marks or security labels."""
    for raw, value in entry.xattrs.items():
        name = os.fsdecode(raw)
        if is_portable(name):
            try:
                os.setxattr(file, name, value)
            except OSError as error:
                if error.errno not in {errno.ENOTSUP, errno.EPERM}:  # this file system has none, as docker takes it
                    raise
