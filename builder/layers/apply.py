"""A layer archive, from anybody, into a snapshot's upper directory.

The archive is hostile until proven otherwise. Every directory is reached from the upper's own descriptor, one name at a
time, without following links; links that the image itself has on the way (/lib to usr/lib) are resolved here, within
the image. What an entry needs of the layers below is looked up in their directories, so nothing has to be mounted.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Self

from builder.errors import LayerError, layer_errors
from builder.layers import nodes
from builder.layers.ahead import Ahead
from builder.layers.content import FileContent
from builder.layers.diff import OPAQUE, WHITEOUT, is_portable
from builder.layers.directories import OpenDirectories
from builder.snapshots import Snapshot
from registry.archive.reader import TarReader
from registry.archive.tarformat import Entry, Kind
from registry.archive.unpacking import Limits, unpacked
from registry.model.digest import Digest
from runner.kernel.calls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESERVED = b".wh..wh."
_LINKS = 40  # as many as the kernel follows
_STACKS_KEPT = 4096
_SAFE_LENGTH = 4000  # below PATH_MAX
_OPAQUE_XATTR = "trusted.overlay.opaque"


@layer_errors()
def apply_layer(
    stream: BinaryIO, into: Snapshot, *, expected: Digest | None = None, limits: Limits | None = None
) -> Digest:
    """Unpack a layer, however it is packed, into an active snapshot that is still empty.

    Returns:
        The diff ID: the digest of the archive without its packing.

    Raises:
        LayerError: it is damaged, breaks a limit, leads out of the image, or is not the `expected` one. The snapshot is
            then of no use; the caller removes it.
    """
    limits = limits or Limits()
    with Ahead(unpacked(stream, limits)) as chunks:
        with _Upper(into) as upper:
            reader = TarReader(iter(chunks), limits)
            for entry in reader.entries():
                try:
                    _apply(entry, upper, reader)
                except OSError as error:
                    raise explained(entry, error) from error
            upper.finish()
        diff_id = chunks.digest()
    if expected is not None and diff_id != expected:
        raise LayerError(f"the layer unpacks to {diff_id}, but the image says {expected}", hint="pull the image again")
    return diff_id


def explained(entry: Entry, error: OSError) -> LayerError:
    """What kept an entry from being unpacked."""
    hint = "free some space" if error.errno == errno.ENOSPC else None
    return LayerError(f"can't unpack {shown(entry.name)}: {error.strerror}", hint=hint)


def shown(name: bytes) -> str:
    """A name as messages show it."""
    return repr(name[:200].decode(errors="replace"))


def inside(name: bytes) -> bytes:
    """A member's name below the root: no slash at either end, no dots; empty for the root itself.

    As docker does, an absolute name counts from the root of the image. Raises LayerError if it leads out.
    """
    if not (name.startswith((b"/", b".")) or b"/." in name or b"//" in name or name.endswith(b"/")):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise LayerError(f"the archive leads out of its root: {shown(name)}")
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    return b"/".join(parts)


def _apply(entry: Entry, upper: "_Upper", reader: TarReader) -> None:
    path = inside(entry.name)
    above, _, name = path.rpartition(b"/")
    if not path:
        if entry.kind is not Kind.DIRECTORY:
            raise LayerError("the archive has an entry for the root that is no directory")
        upper.set_root(entry)
    elif path.startswith(_RESERVED) and path != OPAQUE:
        return  # aufs' own files have names that begin so; docker skips them, too
    elif name.startswith(WHITEOUT):
        _whiteout(name, above, entry, upper)
    elif entry.kind is Kind.DIRECTORY:
        upper.make_directory(above, name, entry)
    elif entry.kind is Kind.HARDLINK:
        upper.link(inside(entry.link), above, name, entry)
    elif entry.kind is Kind.FILE:
        upper.place(above, name, entry, lambda directory: nodes.make_file(entry, name, directory, reader))
    else:
        upper.place(above, name, entry, lambda directory: nodes.make_special(entry, name, directory))


def _whiteout(name: bytes, above: bytes, entry: Entry, upper: "_Upper") -> None:
    if name == OPAQUE:
        upper.make_opaque(above, entry)
    elif not name.startswith(_RESERVED):
        hidden = name.removeprefix(WHITEOUT)
        if hidden in {b"", b".", b".."}:
            raise LayerError(f"the archive has a whiteout of {hidden.decode()!r}, which is no name")
        upper.hide(above, hidden, entry)


class _Upper:
    """The upper directory, and what of the lower ones shows through. We are the only one who writes to it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._top = os.open(snapshot.upper, _DIRECTORY)
        self._layers = tuple(os.fsencode(directory) for directory in snapshot.lower)
        self._open = OpenDirectories[bytes]()
        self._times: dict[bytes, int] = {}  # directories change until the last entry, so theirs come last
        self._opaque: set[bytes] = set()
        self._has_whiteouts = False
        self._lost_directories = False  # some that `_times` knows may be something else by now
        self._stacks: dict[bytes, list[bytes]] = {}
        self._forget_stacks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        os.close(self._top)

    def finish(self) -> None:
        for path, mtime in self._times.items():
            if not self._lost_directories and len(path) < _SAFE_LENGTH:
                os.utime(path or b".", ns=(mtime, mtime), dir_fd=self._top, follow_symlinks=False)
                continue
            with suppress(FileNotFoundError, NotADirectoryError):
                os.utime(self._reopened(path), ns=(mtime, mtime))

    def set_root(self, entry: Entry) -> None:
        nodes.set_directory(entry, self._top)
        self._times[b""] = entry.mtime_ns

    def place(self, above: bytes, name: bytes, entry: Entry, make: Callable[[int], None]) -> None:
        """Make something other than a directory; what has its name goes away first."""
        parent, directory = self._resolve(above, entry)
        try:
            make(directory)
        except FileExistsError:
            self._clear(_join(parent, name), name, directory)
            make(directory)

    def make_directory(self, above: bytes, name: bytes, entry: Entry) -> None:
        parent, directory = self._resolve(above, entry)
        path = _join(parent, name)
        if nodes.make_directory(name, directory):
            self._mark_opaque(path, name, directory)  # what it replaced had hidden all below already
        nodes.set_directory(entry, self._opened(path, name, directory))
        self._times[path] = entry.mtime_ns

    def link(self, target: bytes, above: bytes, name: bytes, entry: Entry) -> None:
        """A hard link; its target may lie in a lower layer and is then copied up, as overlayfs would."""
        target_above, _, target_name = target.rpartition(b"/")
        target_parent, source = self._resolve(target_above, entry)
        if not target_name or not self._bring_up(target_parent, target_name, source):
            raise LayerError(f"{shown(entry.name)} links to {shown(target)}, which is not there")
        source = os.dup(source)  # _resolve may close what it opened before
        try:
            parent, directory = self._resolve(above, entry)
            if (parent, name) != (target_parent, target_name):
                if self._found(name, directory) is not None:
                    self._clear(_join(parent, name), name, directory)
                os.link(target_name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source)

    def hide(self, above: bytes, name: bytes, entry: Entry) -> None:
        """Hide what lower layers have under a name, but nothing that this layer put there (image-spec, "Whiteouts")."""
        parent, directory = self._resolve(above, entry)
        found = self._found(name, directory)
        if found is None:
            if self._below(parent, name) is not None:  # needless whiteouts would show up in listings
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
                self._has_whiteouts = True
        elif stat.S_ISDIR(found.st_mode):
            self._mark_opaque(_join(parent, name), name, directory)

    def make_opaque(self, path: bytes, entry: Entry) -> None:
        """Hide all that lower layers have in a directory."""
        canonical, directory = self._resolve(path, entry)
        if canonical in self._opaque:
            return
        if canonical:
            self._set_opaque(canonical, directory)
        else:  # overlayfs has no mark for the root itself
            for name in {name for layer in self._layers for name in os.listdir(layer)}:
                self.hide(b"", name, entry)
            self._opaque.add(b"")
            self._forget_stacks()

    def _mark_opaque(self, path: bytes, name: bytes, parent: int) -> None:
        if path not in self._opaque:
            self._set_opaque(path, self._opened(path, name, parent))

    def _set_opaque(self, path: bytes, directory: int) -> None:
        os.setxattr(directory, _OPAQUE_XATTR, b"y")
        self._opaque.add(path)
        self._forget_stacks()
        if self._has_whiteouts:
            self._drop_whiteouts(path)

    def _drop_whiteouts(self, top: bytes) -> None:
        """An opaque directory is not merged with others, so overlayfs would list the whiteouts in it as devices."""
        todo = [top]
        while todo:
            path = todo.pop()
            directory = openat2(self._top, path, _DIRECTORY, 0, _PLAIN)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(path + b"/" + os.fsencode(entry.name))
                        elif _is_whiteout(os.stat(entry.name, dir_fd=directory, follow_symlinks=False)):
                            os.unlink(entry.name, dir_fd=directory)
            finally:
                os.close(directory)

    def _found(self, name: bytes, directory: int) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _clear(self, path: bytes, name: bytes, directory: int) -> None:
        """Remove a name from the upper, and what we know of it."""
        if not nodes.remove(name, directory):
            return
        # What is below it may stay in `_opaque`: a directory that replaces what replaced this one will be opaque, too.
        self._opaque.discard(path)
        self._lost_directories = True
        self._forget_stacks()
        self._open.forget(path)

    def _resolve(self, path: bytes, entry: Entry) -> tuple[bytes, int]:
        """The directory at `path` of the image, brought into the upper if need be: its true path and a descriptor.

        The descriptor stays ours and is good until the next call.
        """
        if not path:
            return b"", self._top
        if (known := self._open.get(path)) is not None:
            return path, known
        with suppress(OSError):  # not there yet, or a link is on the way
            return path, self._open.keep(path, openat2(self._top, path, _DIRECTORY, 0, _PLAIN))
        here, directory = b"", self._top
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                here = here.rpartition(b"/")[0]
                directory = self._reopened(here)
                continue
            step = _join(here, name)
            target = self._enter(step, name, here, directory, entry)
            if isinstance(target, int):
                here, directory = step, target
                continue
            links += 1
            if links > _LINKS:
                raise LayerError(f"too many symbolic links on the way to {shown(path)}")
            todo += target.split(b"/")[::-1]
            if target.startswith(b"/"):
                here, directory = b"", self._top
        return here, directory

    def _enter(self, path: bytes, name: bytes, parent: bytes, directory: int, entry: Entry) -> int | bytes:
        """A descriptor of one directory in another; or, if it is a link in the image, where that leads."""
        if (known := self._open.get(path)) is not None:
            return known
        found = self._found(name, directory)
        if found is None:
            return self._enter_lower(path, name, parent, directory, entry)
        if stat.S_ISDIR(found.st_mode):
            return self._opened(path, name, directory)
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(name, dir_fd=directory)
        if _is_whiteout(found):
            os.unlink(name, dir_fd=directory)
            self._implied(path, name, directory, entry)
            self._mark_opaque(path, name, directory)
            return self._opened(path, name, directory)
        raise LayerError(f"{shown(path)} is no directory, but the archive has files below it")

    def _enter_lower(self, path: bytes, name: bytes, parent: bytes, directory: int, entry: Entry) -> int | bytes:
        lower = self._below(parent, name)
        if lower is None:
            self._implied(path, name, directory, entry)
            return self._opened(path, name, directory)
        found = os.lstat(lower)
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(lower)
        if not stat.S_ISDIR(found.st_mode):
            raise LayerError(f"{shown(path)} is no directory, but the archive has files below it")
        os.mkdir(name, 0o700, dir_fd=directory)
        made = self._opened(path, name, directory)
        nodes.set_directory(_described(path, Kind.DIRECTORY, found, lower), made)
        self._times[path] = found.st_mtime_ns
        return made

    def _implied(self, path: bytes, name: bytes, directory: int, entry: Entry) -> None:
        """A directory that the archive takes for granted."""
        if name.startswith(WHITEOUT):
            raise LayerError(f"{shown(path)} is a whiteout, but the archive has files below it")
        os.mkdir(name, 0o700, dir_fd=directory)
        os.chmod(name, 0o755, dir_fd=directory)
        self._times[path] = entry.mtime_ns

    def _opened(self, path: bytes, name: bytes, directory: int) -> int:
        if (known := self._open.get(path)) is not None:
            return known
        return self._open.keep(path, os.open(name, _DIRECTORY, dir_fd=directory))

    def _reopened(self, path: bytes) -> int:
        """A directory whose true path is known, from the top."""
        directory, here = self._top, b""
        for name in path.split(b"/") if path else ():
            here = _join(here, name)
            directory = self._opened(here, name, directory)
        return directory

    def _stack(self, path: bytes) -> list[bytes]:
        """The lower directories that show through at a true path, topmost first."""
        if len(self._stacks) > _STACKS_KEPT:
            self._forget_stacks()
        here, steps = path, []
        while here not in self._stacks:
            steps.append(here)
            here = here.rpartition(b"/")[0]
        for step in reversed(steps):
            above, _, name = step.rpartition(b"/")
            self._stacks[step] = [] if step in self._opaque else _merged(self._stacks[above], name)
        return self._stacks[path]

    def _forget_stacks(self) -> None:
        self._stacks = {b"": [] if b"" in self._opaque else list(self._layers)}

    def _below(self, parent: bytes, name: bytes) -> bytes | None:
        """What the lower layers show as `name` in a directory: its path on this machine; None if nothing."""
        for directory in self._stack(parent):
            candidate = directory + b"/" + name
            try:
                found = os.lstat(candidate)
            except FileNotFoundError:
                continue
            return None if _is_whiteout(found) else candidate
        return None

    def _bring_up(self, parent: bytes, name: bytes, directory: int) -> bool:
        """See that a link's target is in the upper. False if the image has no such file."""
        found = self._found(name, directory)
        if found is not None:
            return not _is_whiteout(found) and not stat.S_ISDIR(found.st_mode)
        lower = self._below(parent, name)
        if lower is None:
            return False
        found = os.lstat(lower)
        if stat.S_ISLNK(found.st_mode):
            nodes.make_special(_described(name, Kind.SYMLINK, found, lower), name, directory)
            return True
        if not stat.S_ISREG(found.st_mode):
            return False
        with open(lower, "rb") as source:
            entry = _described(name, Kind.FILE, found, lower)
            nodes.make_file(entry, name, directory, FileContent(source.fileno(), entry.size))
        return True


def _described(path: bytes, kind: Kind, found: os.stat_result, lower: bytes) -> Entry:
    xattrs = {}
    if kind is not Kind.SYMLINK:
        names = [name for name in os.listxattr(lower, follow_symlinks=False) if is_portable(name)]
        xattrs = {os.fsencode(name): os.getxattr(lower, name, follow_symlinks=False) for name in names}
    return Entry(
        path,
        kind,
        found.st_mode & 0o7777,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        os.readlink(lower) if kind is Kind.SYMLINK else b"",
        xattrs=xattrs,
    )


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _merged(stack: list[bytes], name: bytes) -> list[bytes]:
    """Of directories one over the other, what overlayfs merges under a name."""
    merged: list[bytes] = []
    for directory in stack:
        candidate = directory + b"/" + name
        try:
            found = os.lstat(candidate)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode):
            break
        merged.append(candidate)
        if _is_opaque(candidate):
            break
    return merged


def _is_opaque(directory: bytes) -> bool:
    with suppress(OSError):
        return os.getxattr(directory, _OPAQUE_XATTR) == b"y"
    return False


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
