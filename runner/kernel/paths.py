"""Paths inside a root filesystem: every one is resolved by the kernel within that root, never joined to a host path.

Gives:    open, read, create and make directories below a root descriptor.
Takes:    the root as an open directory (O_PATH will do) and paths as the container would write them; a leading "/",
          a "..", an absolute symbolic link all mean the root itself (openat2, RESOLVE_IN_ROOT).
Promises: nothing outside the root is opened, made or read, whatever links the tree holds or grows meanwhile;
          a device, FIFO or socket is never opened where a regular file was asked for.
"""

import errno
import os
import stat

from runner.kernel import calls

_RESOLVE = calls.RESOLVE_IN_ROOT | calls.RESOLVE_NO_MAGICLINKS
_LINKS = 40  # as many symbolic links as the kernel follows


def open_root(path: str | os.PathLike[str]) -> int:
    """Open a root filesystem of the host to be handed to the functions below."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """openat2(2) below the root; OSError ELOOP: the path leads through a magic link of /proc."""
    return calls.openat2(root_fd, path or "/", flags, mode, _RESOLVE)


def mkdir_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Open the directory `path`, made first with all that is missing above it. Returns an O_PATH descriptor."""
    return _directory(root_fd, path, mode, _LINKS)


def create_file_in_root(root_fd: int, path: str, mode: int = 0o644, directory_mode: int = 0o755) -> int:
    """Make an empty regular file, with missing directories above it, and open it for writing.

    FileExistsError: there is something already, be it a link that leads nowhere.
    """
    above, name = _split(path)
    parent = mkdir_in_root(root_fd, above, directory_mode)
    try:
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
    finally:
        os.close(parent)


def read_file_in_root(root_fd: int, path: str, limit: int = 1 << 20) -> bytes:
    """Read a small regular file; OSError EINVAL when it is something else, EFBIG when it is longer than `limit`."""
    probe = open_in_root(root_fd, path, os.O_PATH)
    try:
        seen = os.fstat(probe)
    finally:
        os.close(probe)
    _must_be_regular(seen, path)
    # O_NONBLOCK: should a FIFO have taken its place meanwhile, opening it must not hang
    fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _must_be_regular(os.fstat(fd), path)
        content = b""
        while len(content) <= limit and (part := os.read(fd, min(limit + 1 - len(content), 1 << 20))):
            content += part
    finally:
        os.close(fd)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"file is larger than {limit} bytes", path)
    return content


def stat_in_root(root_fd: int, path: str, *, follow: bool = True) -> os.stat_result:
    fd = open_in_root(root_fd, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _directory(root_fd: int, path: str, mode: int, links: int) -> int:
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        if links == 0:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
    above, name = _split(path)
    parent = _directory(root_fd, above, mode, links)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            target = _link_target(name, parent)
            if target is not None:  # a link to what is not there yet: make what it names, still within the root
                inside = target if target.startswith("/") else f"{above}/{target}"
                return _directory(root_fd, inside, mode, links - 1)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _split(path: str) -> tuple[str, str]:
    above, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "no name to make at the end of the path", path)
    return above, name


def _link_target(name: str, parent: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _must_be_regular(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
