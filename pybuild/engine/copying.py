"""Files in and out of containers, whether they run or not: what `cp` is made of.

Takes:    paths as somebody inside would write them; archives that strangers made.
Promises: every path is resolved within the container's root (openat2), whatever links it holds; nothing of the
          container is executed or loaded.
Not here: HTTP, and the file system of the user.

A running container is seen as its processes see it, with all that is mounted. One that does not run has its own file
system and its volumes; a link that leads into a volume from elsewhere is not followed then.
"""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from builder.layers import nodes
from builder.layers.apply import inside
from builder.layers.diff import write_trees
from pybuild.engine.containers import Container, Containers
from pybuild.errors import Conflict, EngineError, NotFound, UsageError
from registry.archive.reader import TarReader
from registry.archive.tarformat import Entry, Kind, encode, padding
from registry.archive.unpacking import Limits, unpacked
from runner.container.state import start_time
from runner.kernel.mounts import overlay_tree
from runner.kernel.paths import mkdir_in_root, open_in_root, open_root

_BLOCK = 256 * 1024
# Go's os.FileMode: what the kernel says in octal has bits of its own there.
_GO_BITS = (
    (stat.S_ISDIR, 1 << 31), (stat.S_ISLNK, 1 << 27), (stat.S_ISBLK, 1 << 26), (stat.S_ISFIFO, 1 << 25),
    (stat.S_ISSOCK, 1 << 24), (stat.S_ISCHR, 1 << 26 | 1 << 21),
)  # fmt: skip
_GO_FLAGS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


@dataclass(frozen=True, slots=True)
class PathStat:
    """What is at a path. `mode` as Go's FileMode has it; `link`: where a link leads, from the root."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A root of the host's to start from, and the path below it; `read_only`: the container may not write there."""

    root: int
    path: str
    read_only: bool


def stat_path(containers: Containers, container: Container, path: str) -> PathStat:
    """Raises NotFound."""
    with _place(containers, container, path) as place, _found(container, path):
        fd = open_in_root(place.root, place.path, os.O_PATH | _follow(path))
        try:
            found = os.fstat(fd)
            target = os.readlink("", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else ""
        finally:
            os.close(fd)
    whole = _clean(path)
    link = posixpath.normpath(posixpath.join(posixpath.dirname(whole), target)) if target else ""
    return PathStat(posixpath.basename(whole) or "/", found.st_size, go_mode(found.st_mode), found.st_mtime_ns, link)


def read_path(containers: Containers, container: Container, path: str, out: BinaryIO) -> None:
    """Write what is at a path as an archive, named by the path's last part. Raises NotFound."""
    with _place(containers, container, path) as place, _found(container, path):
        fd = open_in_root(place.root, place.path, os.O_PATH | _follow(path))
        try:
            found = os.fstat(fd)
            name = _last(path)
            if stat.S_ISDIR(found.st_mode):
                write_trees([(name, fd)], out)
                return
            link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else b""
        finally:
            os.close(fd)
        _write_one(place, os.fsencode(name), found, link, out)


def _write_one(place: _Place, name: bytes, found: os.stat_result, link: bytes, out: BinaryIO) -> None:
    kinds = {
        stat.S_IFREG: Kind.FILE, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHARACTER, stat.S_IFBLK: Kind.BLOCK,
        stat.S_IFIFO: Kind.FIFO,
    }  # fmt: skip
    kind = kinds.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise EngineError("a socket can't be copied")
    entry = Entry(
        name, kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid,
        found.st_size if kind is Kind.FILE else 0, found.st_mtime_ns, link,
        os.major(found.st_rdev), os.minor(found.st_rdev),
    )  # fmt: skip
    if kind is not Kind.FILE:
        out.write(encode(entry) + bytes(1024))
        return
    with open(open_in_root(place.root, place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise EngineError("the file became something else while it was copied")
        out.write(encode(entry))
        left = entry.size
        while left and (block := file.read(min(left, _BLOCK))):
            out.write(block)
            left -= len(block)
        while left:  # it became shorter: what was promised must come
            out.write(bytes(min(left, _BLOCK)))
            left -= min(left, _BLOCK)
    out.write(padding(entry.size) + bytes(1024))


def write_path(
    containers: Containers, container: Container, path: str, stream: BinaryIO, *, keep_kinds: bool = False
) -> None:
    """Unpack an archive into a directory of the container.

    Args:
        containers: where it lives.
        container: which one.
        path: the directory; it must be there.
        stream: the archive, packed or not.
        keep_kinds: no directory gives way to something else, nor the other way round.

    Raises:
        NotFound, UsageError: no such directory.
        ReadOnly: it can't be written to.
        LayerError, ArchiveError: the archive is damaged, or leads out.
    """
    with _place(containers, container, path) as place:
        with _found(container, path):
            fd = open_in_root(place.root, place.path, os.O_PATH)
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            os.close(fd)
        if not is_directory:
            raise UsageError(f"{path} in the container is not a directory", hint="name the directory to unpack into")
        if place.read_only:
            raise ReadOnly("container rootfs is marked read-only")
        limits = Limits()
        reader = TarReader(unpacked(stream, limits), limits)
        times: list[tuple[str, int]] = []
        for entry in reader.entries():
            try:
                _unpack(place, entry, reader, times, keep_kinds=keep_kinds)
            except OSError as error:
                name = entry.name[:200].decode(errors="replace")
                raise EngineError(f"can't unpack {name!r}: {error.strerror}") from error
        for below, moment in reversed(times):
            with contextlib.suppress(OSError):
                fd = open_in_root(place.root, below, os.O_RDONLY | os.O_DIRECTORY)
                os.utime(fd, ns=(moment, moment))
                os.close(fd)


class ReadOnly(EngineError):
    """The place in the container can't be written to."""


def _unpack(place: _Place, entry: Entry, reader: TarReader, times: list[tuple[str, int]], *, keep_kinds: bool) -> None:
    whole = inside(entry.name)
    if not whole:
        return  # the directory itself, which stays as it is
    above, _, name = whole.rpartition(b"/")
    where = f"{place.path}/{os.fsdecode(above)}"
    parent = mkdir_in_root(place.root, where)
    try:
        if keep_kinds:
            _check_kind(entry, name, parent)
        if entry.kind is Kind.DIRECTORY:
            nodes.make_directory(name, parent)
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                nodes.set_directory(entry, directory)
            finally:
                os.close(directory)
            times.append((f"{where}/{os.fsdecode(name)}", entry.mtime_ns))
            return
        nodes.remove(name, parent)
        if entry.kind is Kind.HARDLINK:
            _link(place, entry, name, parent)
        elif entry.kind is Kind.FILE:
            nodes.make_file(entry, name, parent, reader)
        else:
            nodes.make_special(entry, name, parent)
    finally:
        os.close(parent)


def _link(place: _Place, entry: Entry, name: bytes, parent: int) -> None:
    above, _, target = inside(entry.link).rpartition(b"/")
    directory = mkdir_in_root(place.root, f"{place.path}/{os.fsdecode(above)}")
    try:
        os.link(target, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(directory)


def _check_kind(entry: Entry, name: bytes, parent: int) -> None:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode) != (entry.kind is Kind.DIRECTORY):
        shown = entry.name[:200].decode(errors="replace")
        kinds = ("non-directory", "directory") if entry.kind is Kind.DIRECTORY else ("directory", "non-directory")
        raise UsageError(f"cannot overwrite {kinds[0]} {shown!r} with {kinds[1]}")


def go_mode(mode: int) -> int:
    """A file's mode as Go writes it (os.FileMode)."""
    found = stat.S_IMODE(mode) & 0o777
    for test, bit in _GO_BITS:
        if test(mode):
            found |= bit
    for flag, bit in _GO_FLAGS:
        if mode & flag:
            found |= bit
    return found


# --- where a path lies ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _place(containers: Containers, container: Container, path: str) -> Iterator[_Place]:
    if "\0" in path or not path:
        raise UsageError("a path is missing", hint="write an absolute path in the container")
    record = container.record
    whole = _clean(path)
    if container.running:
        root = _live_root(container)
        try:
            yield _Place(root, whole, record.options.read_only and not _is_writable(container, whole))
        finally:
            os.close(root)
        return
    with containers.records.locked(record.id):  # it does not start while we have its file system
        if containers.is_running(record.id):
            raise Conflict(f"container {record.name} has just been started; try again")
        inside_mount = [mount for mount in record.mounts if _is_below(whole, mount.destination)]
        mount = max(inside_mount, key=lambda one: len(one.destination), default=None)
        if mount and mount.type in {"bind", "volume"} and os.path.isdir(mount.source):
            root, rest = open_root(mount.source), whole[len(mount.destination) :] or "/"
            read_only = mount.read_only
        else:
            snapshot = containers.snapshots.get(record.snapshot)
            if snapshot is None:
                raise EngineError(f"the filesystem of container {record.name} is gone")
            root, rest = overlay_tree(snapshot.lower, snapshot.upper, snapshot.work), whole
            read_only = record.options.read_only
        try:
            yield _Place(root, rest, read_only)
        finally:
            os.close(root)


def _live_root(container: Container) -> int:
    try:
        root = os.open(f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise Conflict(f"container {container.record.name} has just ended; try again") from None
    if start_time(container.state.pid) != container.state.start_time:  # another process has its number by now
        os.close(root)
        raise Conflict(f"container {container.record.name} has just ended; try again")
    return root


def _is_writable(container: Container, path: str) -> bool:
    """Whether a path lies in a mount of the container that may be written to."""
    fitting = [mount for mount in container.record.mounts if _is_below(path, mount.destination)]
    return bool(fitting) and not max(fitting, key=lambda mount: len(mount.destination)).read_only


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


@contextlib.contextmanager
def _found(container: Container, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG}:
            raise
        raise NotFound(f"Could not find the file {path} in container {container.record.id}") from error


def _clean(path: str) -> str:
    """From the root, without dots; `..` counts as it is written."""
    return posixpath.normpath(f"/{path}").replace("//", "/")


def _follow(path: str) -> int:
    """`dir/` and `dir/.` mean what a link leads to."""
    return 0 if path.endswith(("/", "/.")) else os.O_NOFOLLOW


def _last(path: str) -> str:
    return "." if path.endswith("/.") else posixpath.basename(_clean(path))
