"""COPY and ADD: files from contexts, stages, heredocs and downloads into a root filesystem (reference/builder §1.7).

    copied = copy_into(rootfs, CopyRequest(sources, "/app/", chown="app", chmod="u=rwX,go=rX"))

Gives:    copy_into() and what it takes: Source (a path or pattern in a tree), Inline (a heredoc), Fetched (a download).
Takes:    the root filesystem as a directory descriptor, such as overlay_tree()'s; nobody else changes it meanwhile.
Promises: nothing outside the root filesystem is written and nothing outside a source's root is read, whatever links
          either has; what is copied depends on neither umask nor user.
Not here: downloading, cache keys, and the layer that comes of it. Times of what a copy makes on its own (directories
          on the way) are left to write_layer's clamp.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from typing import Self

from builder.dockerfile.ignore import IgnoreRules
from builder.errors import BuilderError, layer_errors
from builder.layers import nodes
from builder.layers.ahead import Ahead
from builder.layers.apply import explained, inside
from builder.layers.borrowed import LEAST, Borrowed
from builder.layers.content import copy_content
from builder.layers.diff import is_portable
from builder.layers.directories import OpenDirectories
from builder.ops.modes import Change, find_owner, parse_chmod
from builder.ops.sources import Found, Item, Source, find, resolve, walk
from registry.archive.reader import TarReader, starts_archive
from registry.archive.tarformat import Entry, Kind
from registry.archive.unpacking import Limits, unpacked
from runner.kernel.calls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from runner.kernel.paths import open_in_root

__all__ = ["Copied", "CopyError", "CopyRequest", "Fetched", "Inline", "Source", "copy_into"]

_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 128 * 1024


class CopyError(BuilderError):
    """The sources don't fit what is in the root filesystem already."""


@dataclass(frozen=True, slots=True)
class Inline:
    """A heredoc: a file of this name, mode 0644."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file of this machine, mode 0600; `unpack` is ADD --unpack=true."""

    name: str
    path: str
    mtime_ns: int = 0
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD, all words expanded."""

    sources: tuple[Source | Inline | Fetched, ...]
    destination: str  # absolute; with a "/" at the end it is a directory
    chown: str = ""
    chmod: str = ""
    excludes: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)  # of archives that are unpacked
    check: Callable[[], None] = lambda: None  # called with each file; may raise to end the copy
    borrowed: Borrowed | None = None  # takes the contents of large files, if only the layer of this copy is wanted


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did. `newest_ns`: the latest change of anything that was copied, 0 if nothing was."""

    files: int
    newest_ns: int
    overwrote: bool = False  # several files came to one name, and the last one stays, as with BuildKit


def copy_into(rootfs: int, request: CopyRequest) -> Copied:
    """Copy all sources of a request, in order.

    Raises:
        ContextError: a source is not there. CopyError: it does not fit the destination. LayerError: an archive of ADD
        is damaged or hostile. BuilderError: --chown or --chmod make no sense.
    """
    with _Copy(rootfs, request) as copy:
        matches = [(source, copy.found(source)) for source in request.sources]
        for source, found in matches:
            copy.take(source, found)
        copy.finish()
        return Copied(copy.files, copy.newest_ns, copy.overwrote)


class _Copy:
    def __init__(self, rootfs: int, request: CopyRequest) -> None:
        self._rootfs = rootfs
        self._request = request
        self._owner = find_owner(rootfs, request.chown) if request.chown else None
        self._chmod: Change | None = None
        self._made_mode = 0o755
        if request.chmod:
            self._chmod, fixed = parse_chmod(request.chmod)
            # Made directories get none of the special bits: BuildKit's MkdirAll loses them (fsutil mkdir.go).
            self._made_mode = self._made_mode if fixed is None else fixed & 0o777
        self._excludes = IgnoreRules.of(request.excludes)
        self._target, found = self._resolved(request.destination)
        self._is_directory = request.destination.endswith("/") or (found is not None and stat.S_ISDIR(found.st_mode))
        self._open = OpenDirectories[str]()
        self._links: dict[tuple[int, int], tuple[str, str]] = {}
        self._times: dict[str, int] = {}
        self.files = 0
        self.newest_ns = 0
        self.overwrote = False
        self._file_came = False  # to the destination's own name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def found(self, source: Source | Inline | Fetched) -> list[Found]:
        return find(source) if isinstance(source, Source) else []

    def take(self, source: Source | Inline | Fetched, found: list[Found]) -> None:
        if isinstance(source, Inline):
            with self._explained(source.name):
                self._inline(source)
        elif isinstance(source, Fetched):
            with self._explained(source.name):
                self._fetched(source)
        else:
            for match in found:
                self._links.clear()  # what one match made, the next may have overwritten
                with self._explained(f"/{match.path}"):
                    if match.is_dir:
                        self._tree(source, match)
                    else:
                        self._file(source, match)

    def finish(self) -> None:
        """Directories of archives get their times last: until now things were made in them."""
        for path, mtime in self._times.items():
            with suppress(FileNotFoundError, NotADirectoryError), self._temporary(path) as directory:
                os.utime(directory, ns=(mtime, mtime))

    # what there is to take

    def _inline(self, source: Inline) -> None:
        above, name = self._place_for(source.name)
        directory = self._directory(above)
        file = self._created(name, directory)
        try:
            content = memoryview(source.content)
            while content:
                content = content[os.write(file, content) :]
            self._dress(file, stat.S_IFREG | 0o644, self._owner or (0, 0))
        finally:
            os.close(file)
        self.files += 1

    def _fetched(self, source: Fetched) -> None:
        if source.unpack and is_archive(source.path):
            self._archive(os.open(source.path, _READ))
            return
        above, name = self._place_for(source.name)
        directory = self._directory(above)
        given = os.open(source.path, _READ)
        try:
            file = self._created(name, directory)
            try:
                copy_content(given, file, os.fstat(given).st_size)
                self._dress(file, stat.S_IFREG | 0o600, self._owner or (0, 0))
                os.utime(file, ns=(source.mtime_ns, source.mtime_ns))
            finally:
                os.close(file)
        finally:
            os.close(given)
        self._count(source.mtime_ns)

    def _file(self, source: Source, match: Found) -> None:
        for item in walk(source, match, self._excludes):
            if source.unpack and stat.S_ISREG(item.stat.st_mode):
                given = os.open(item.name, _READ, dir_fd=item.directory)
                if starts_archive(FileIO(given, closefd=False)):
                    os.lseek(given, 0, os.SEEK_SET)
                    self._archive(given)
                    return
                os.close(given)
            above, name = self._place_for(match.name)
            self._put(item, above, name, self._directory(above), self._owner_of(source, item.stat))

    def _tree(self, source: Source, match: Found) -> None:
        """The content of a directory. An existing destination stays as it is, save for what comes into it and its time.

        That is the directory's, as with BuildKit; a context's own root has none that means anything.
        """
        top = os.dup(self._directory(self._target))
        self._is_directory = True  # now, for the sources that follow
        levels: list[tuple[str, int, Item | None]] = [("", top, None)]
        try:
            for item in walk(source, match, self._excludes):
                if not item.path:
                    continue
                above, _, name = item.path.rpartition("/")
                while levels[-1][0] != above:
                    _leave(levels.pop())
                place = posixpath.join(self._target, above)
                owner = self._owner_of(source, item.stat)
                if stat.S_ISDIR(item.stat.st_mode):
                    below = self._subdirectory(item, name, levels[-1][1], owner)
                    levels.append((item.path, below, item))
                    self._count(item.stat.st_mtime_ns)
                else:
                    self._put(item, place, name, levels[-1][1], owner)
            while len(levels) > 1:
                _leave(levels.pop())
            if match.path:
                mtime = match.stat.st_mtime_ns
                os.utime(levels[0][1], ns=(mtime, mtime))
                self.newest_ns = max(self.newest_ns, mtime)
            _leave(levels.pop())
        finally:
            for _, handle, _ in levels:
                os.close(handle)

    # what becomes of it

    def _put(self, item: Item, above: str, name: str, directory: int, owner: tuple[int, int]) -> None:
        """Make one file, link or device called `name` in `directory`, which is `above` in the root filesystem."""
        found = item.stat
        if self._request.borrowed is not None:
            self._request.borrowed.forget(os.fsencode(posixpath.join(above, name).lstrip("/")))
        if not (found.st_nlink > 1 and self._linked(found, above, name, directory)):
            if stat.S_ISREG(found.st_mode):
                self._regular(item, above, name, directory, owner)
            else:
                self._special(item, name, directory, owner)
        self._count(found.st_mtime_ns)

    def _linked(self, found: os.stat_result, above: str, name: str, directory: int) -> bool:
        """Whether the file came already under another name, and is now a link to that."""
        first = self._links.setdefault((found.st_dev, found.st_ino), (above, name))
        if first == (above, name):
            return False
        self._make_room(name, directory)
        with self._temporary(first[0]) as source:
            os.link(first[1], name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        return True

    def _regular(self, item: Item, above: str, name: str, directory: int, owner: tuple[int, int]) -> None:
        given = os.open(item.name, _READ, dir_fd=item.directory)
        try:
            file = self._created(name, directory)
            try:
                size = item.stat.st_size
                if size > _SMALL and self._lent(item.stat, posixpath.join(above, name), given):
                    os.ftruncate(file, size)
                elif size > _SMALL:
                    copy_content(given, file, os.fstat(given).st_size)
                elif size:
                    os.write(file, os.read(given, size))
                self._dress(file, item.stat.st_mode, owner)
                _copy_xattrs(given, file)
                os.utime(file, ns=(item.stat.st_mtime_ns, item.stat.st_mtime_ns))
            finally:
                os.close(file)
        finally:
            os.close(given)

    def _lent(self, found: os.stat_result, path: str, given: int) -> bool:
        """Whether the content stays where it is. A file of several names is one in the layer, wherever that begins."""
        borrowed = self._request.borrowed
        return (
            borrowed is not None
            and found.st_size >= LEAST
            and found.st_nlink == 1
            and borrowed.lend(os.fsencode(path.lstrip("/")), given)
        )

    def _special(self, item: Item, name: str, directory: int, owner: tuple[int, int]) -> None:
        mode = item.stat.st_mode
        self._make_room(name, directory)
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(item.name, dir_fd=item.directory), name, dir_fd=directory)
        else:
            os.mknod(name, stat.S_IFMT(mode) | 0o600, item.stat.st_rdev, dir_fd=directory)
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(name, self._mode(mode), dir_fd=directory)
        times = (item.stat.st_mtime_ns, item.stat.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _subdirectory(self, item: Item, name: str, parent: int, owner: tuple[int, int]) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise CopyError(
                    f"cannot copy to non-directory: {posixpath.join('/', self._target, item.path)}",
                    hint="the sources have a directory where the image has a file or a link",
                ) from None
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self._dress(directory, item.stat.st_mode, owner)
            source = os.open(item.name, _DIRECTORY, dir_fd=item.directory)
            try:
                _copy_xattrs(source, directory)
            finally:
                os.close(source)
        except BaseException:
            os.close(directory)
            raise
        return directory

    def _created(self, name: str, directory: int) -> int:
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=directory)
        except FileExistsError:
            self._make_room(name, directory)
            return os.open(name, _CREATE, 0o600, dir_fd=directory)

    def _make_room(self, name: str, directory: int) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise CopyError(
                f"cannot replace the directory {name} by a file", hint="remove it first, or copy to another name"
            ) from None

    def _dress(self, file: int, mode: int, owner: tuple[int, int]) -> None:
        """Owner, then mode: a change of owner clears the set-id bits."""
        os.fchown(file, *owner)
        os.fchmod(file, self._mode(mode))

    def _mode(self, mode: int) -> int:
        return self._chmod(mode) if self._chmod else mode & 0o7777

    def _owner_of(self, source: Source, found: os.stat_result) -> tuple[int, int]:
        if self._owner is not None:
            return self._owner
        return (found.st_uid, found.st_gid) if source.keep_owner else (0, 0)

    def _count(self, mtime_ns: int) -> None:
        self._request.check()
        self.files += 1
        self.newest_ns = max(self.newest_ns, mtime_ns)

    # where it goes

    def _resolved(self, path: str) -> tuple[str, os.stat_result | None]:
        if "\0" in path:
            raise CopyError(f"can't copy to {path!r}: no path has a zero byte")
        try:
            return resolve(self._rootfs, path, may_miss=True)
        except OSError as error:
            raise CopyError(
                f"can't copy to {path}: {error.strerror}", hint="something on the way is not a directory"
            ) from error

    def _place_for(self, name: str) -> tuple[str, str]:
        """The directory that a file goes to, and its name there."""
        if self._is_directory:
            return self._target, name
        self.overwrote |= self._file_came
        self._file_came = True
        return posixpath.dirname(self._target), posixpath.basename(self._target)

    def _directory(self, path: str, *, implied: bool = False, mode: int | None = None) -> int:
        """The directory at a true path, made with all that is missing above it. The descriptor stays ours.

        What an archive only implies belongs to root whatever --chown says, as with BuildKit.
        """
        owner = (0, 0) if implied else self._owner
        mode = 0o755 if implied else mode or self._made_mode
        missing: list[str] = []
        here = path
        while (handle := self._existing(here)) is None:
            missing.append(here)
            here = posixpath.dirname(here)
        for step in reversed(missing):
            handle = self._open.keep(step, self._made(posixpath.basename(step), handle, owner, mode))
        return handle

    def _existing(self, path: str) -> int | None:
        if (known := self._open.get(path)) is not None:
            return known
        try:
            return self._open.keep(path, open_in_root(self._rootfs, path, _DIRECTORY))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise CopyError(f"cannot copy to non-directory: /{path}") from None

    def _made(self, name: str, parent: int, owner: tuple[int, int] | None, mode: int) -> int:
        os.mkdir(name, 0o700, dir_fd=parent)
        handle = os.open(name, _DIRECTORY, dir_fd=parent)
        inherited = os.fstat(handle).st_mode & stat.S_ISGID  # from the directory above, and then its group too
        if owner is not None:
            os.fchown(handle, *owner)
        os.fchmod(handle, mode | inherited)
        return handle

    @contextmanager
    def _temporary(self, path: str) -> Iterator[int]:
        directory = open_in_root(self._rootfs, path, _DIRECTORY)
        try:
            yield directory
        finally:
            os.close(directory)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "free some space" if error.errno == errno.ENOSPC else None
            raise CopyError(f"can't copy {path} to {self._request.destination}: {error.strerror}", hint=hint) from error

    # archives of ADD

    @layer_errors()
    def _archive(self, given: int) -> None:
        """Unpack an archive into the destination directory. Takes the descriptor."""
        self._is_directory = True
        with FileIO(given) as file, Ahead(unpacked(file, self._request.limits)) as chunks:
            reader = TarReader(iter(chunks), self._request.limits)
            self._directory(self._target, mode=0o755)  # --chmod does not reach what archives make
            for entry in reader.entries():
                try:
                    self._member(entry, reader)
                except OSError as error:
                    raise explained(entry, error) from error

    def _member(self, entry: Entry, reader: TarReader) -> None:
        path = os.fsdecode(inside(entry.name))
        if not path:
            return  # the archive's root says nothing about a directory that others look after
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        above, name = posixpath.split(path)
        place = self._member_directory(above)
        directory = self._directory(place, implied=True)
        raw = os.fsencode(name)
        if entry.kind is Kind.DIRECTORY:
            nodes.make_directory(raw, directory)
            nodes.set_directory(entry, self._directory(posixpath.join(place, name)))
            self._times[posixpath.join(place, name)] = entry.mtime_ns
        elif entry.kind is Kind.HARDLINK:
            self._member_is_link(entry, place, raw, directory)
        else:
            self._forget(posixpath.join(place, name), raw, directory)
            if entry.kind is Kind.FILE:
                nodes.make_file(entry, raw, directory, reader)
            else:
                nodes.make_special(entry, raw, directory)
        self._count(entry.mtime_ns)

    def _member_directory(self, path: str) -> str:
        """Where a directory of the archive lies in the root filesystem, links followed."""
        known = posixpath.join(self._target, path) if path else self._target
        if self._open.get(known) is None:
            try:
                self._open.keep(known, openat2(self._rootfs, known or ".", _DIRECTORY, 0, _PLAIN))
            except OSError:  # not there yet, or a link is on the way
                return self._resolved(known)[0]
        return known

    def _member_is_link(self, entry: Entry, place: str, name: bytes, directory: int) -> None:
        above, target = posixpath.split(os.fsdecode(inside(entry.link)))
        with self._temporary(self._member_directory(above)) as source:
            if os.stat(target, dir_fd=source, follow_symlinks=False).st_ino != _inode(name, directory):
                self._forget(posixpath.join(place, os.fsdecode(name)), name, directory)
                os.link(target, os.fsdecode(name), src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _forget(self, path: str, name: bytes, directory: int) -> None:
        """Make room for a member; what it replaces may be a directory that we know."""
        if nodes.remove(name, directory):
            self._open.forget(path)


def is_archive(path: str) -> bool:
    """Whether a file is a tar archive, plain or packed, by its content."""
    with open(path, "rb", buffering=0) as file:
        return starts_archive(file)


def _leave(level: tuple[str, int, Item | None]) -> None:
    """All is in: now the directory's time stays what it is set to."""
    _, directory, item = level
    if item is not None:
        os.utime(directory, ns=(item.stat.st_mtime_ns, item.stat.st_mtime_ns))
    os.close(directory)


def _copy_xattrs(source: int, target: int) -> None:
    """As BuildKit: what the target can't hold is left out."""
    for name in os.listxattr(source):
        if is_portable(name):
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def _inode(name: bytes, directory: int) -> int | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    return None
