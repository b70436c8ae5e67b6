"""The digest that BuildKit gives to what a step takes of its input (cache/contenthash), so that caches agree.

A file is the header of an archive entry, told in Docker's "tarsum" way without its time, and its bytes. A directory is
its own header and what is in it, by name. A selection by patterns is a list of the files and directories that it hits.
"""

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from builder.cache.llb import Wanted
from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.match import go_match, has_wildcard
from builder.errors import BuilderError
from builder.ops.sources import Found, Item, Source, resolve, walk
from registry.model import Digest
from runner.kernel.paths import open_in_root, stat_in_root

_READ = 1 << 20
_TYPES = {
    stat.S_IFREG: "0", stat.S_IFLNK: "2", stat.S_IFCHR: "3", stat.S_IFBLK: "4", stat.S_IFDIR: "5", stat.S_IFIFO: "6",
}  # fmt: skip
EMPTY = str(Digest.of(b""))


@dataclass(frozen=True, slots=True)
class Files:
    """A tree by its open root directory. Files of a context (`local`) have no owner, and its root has no header."""

    root: int
    local: bool = False
    rules: IgnoreRules = field(default_factory=IgnoreRules)


class _Entry(NamedTuple):
    """A file, or a directory's header. `path` is as it was asked for, from the root, which itself is ""."""

    path: str
    digest: str


def content_digest(files: Files, wanted: Sequence[Wanted]) -> str | None:
    """Of all the parts, or of everything if there are none; None if one is not there or can't be read."""
    try:
        every = [_part(files, part) for part in wanted or (Wanted("/", follow=False),)]
    except (OSError, BuilderError):
        return None
    return str(Digest.of(b"\0".join(part.encode() for part in every)))


def file_digest(mode: int, size: int, file: BinaryIO) -> str:
    """Of a lone file that belongs to root, as content_digest() tells it."""
    whole = hashlib.sha256(_spelled(mode=mode, size=size, typeflag=_TYPES[stat.S_IFREG]))
    while piece := file.read(_READ):
        whole.update(piece)
    return str(Digest.of(f"sha256:{whole.hexdigest()}".encode()))


def _part(files: Files, wanted: Wanted) -> str:
    if not (wanted.wildcard or wanted.include or wanted.exclude):
        return _whole(files, wanted.path, follow=wanted.follow)
    prefix, entries = _selected(files, wanted)
    if not entries:
        return EMPTY
    if len(entries) == 1 and posixpath.basename(wanted.path) == posixpath.basename(entries[0].path):
        return entries[0].digest
    whole = hashlib.sha256()
    for entry in entries:
        whole.update(_key(entry.path.removeprefix(prefix)) or b"\0")
        whole.update(entry.digest.encode())
    return f"sha256:{whole.hexdigest()}"


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


# -- a file, or a directory with all that is in it


def _whole(files: Files, path: str, *, follow: bool) -> str:
    found = _found(files, path, follow=follow)
    source = Source(files.root, found.path, files.rules)
    inside = _Directories()
    for item in walk(source, found, IgnoreRules()):
        if not found.is_dir:
            return _file(files, item)
        inside.leave(item.path)
        digest = EMPTY if files.local and not found.path and not item.path else _file(files, item)
        if stat.S_ISDIR(item.stat.st_mode):
            inside.enter(item, digest)
        else:
            inside.add(item.name, digest)
    return inside.end()


class _Directories:
    """Those that the walk is in, outermost first: path, name, and all that was told of it."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str, list[bytes]]] = []

    def enter(self, item: Item, header: str) -> None:
        self._open.append((item.path, item.name, [b"\0", header.encode()]))

    def add(self, name: str, digest: str) -> None:
        self._open[-1][2].append(_key(f"/{name}") + digest.encode())

    def leave(self, path: str) -> None:
        """Close those that do not hold `path`."""
        while self._open and self._open[-1][0] and not path.startswith(f"{self._open[-1][0]}/"):
            self._close()

    def end(self) -> str:
        while len(self._open) > 1:
            self._close()
        return str(Digest.of(b"".join(self._open[0][2])))

    def _close(self) -> None:
        _, name, told = self._open.pop()
        self.add(name, str(Digest.of(b"".join(told))))


def _found(files: Files, path: str, *, follow: bool) -> Found:
    """Raises OSError: it is not there."""
    if follow or path == "/":
        true, seen = resolve(files.root, path)
    else:
        above, name = posixpath.split(path)
        true = posixpath.join(resolve(files.root, above)[0], name)
        seen = stat_in_root(files.root, true, follow=False)
    if seen is None or (true and files.rules.rules and files.rules.excluded(true)):
        raise FileNotFoundError(path)
    return Found(true, posixpath.basename(true), seen)


# -- a selection by patterns


def _selected(files: Files, wanted: Wanted) -> tuple[str, list[_Entry]]:
    """The path that all of them begin with, and what is hit, in order."""
    path = "" if wanted.path == "/" else wanted.path
    prefix = _fixed(path) if wanted.wildcard else path
    try:
        base = _found(files, prefix or "/", follow=wanted.wildcard and has_wildcard(path))
    except FileNotFoundError:
        return prefix, []
    include = IgnoreRules.of(wanted.include) if wanted.include else None
    exclude = IgnoreRules.of(wanted.exclude) if wanted.exclude else None
    chosen: list[_Entry] = []
    above: list[tuple[_Entry, list[bool]]] = []  # headers of the directories that we are in, and whether they are told
    matched = ""
    for name, item in _named(files, base, prefix):
        while above and not name.startswith(f"{above[-1][0].path}/"):
            above.pop()
        if wanted.wildcard:
            if not matched or not name.startswith(f"{matched}/"):
                if not go_match(path, name):
                    continue
                matched = name
            inner = name[len(matched) + 1 :]
        else:
            inner = name[len(path) + 1 :]
        is_dir = stat.S_ISDIR(item.stat.st_mode)
        if is_dir and name == path and wanted.path == "/":
            continue
        taken = (include is None or include.excluded(inner)) and not (exclude is not None and exclude.excluded(inner))
        if not taken and not is_dir:
            continue
        digest = _file(files, item) if taken or is_dir else ""
        if stat.S_ISLNK(item.stat.st_mode) and wanted.follow and not above:
            digest = _whole(files, name, follow=True)
        entry = _Entry(name, digest)
        if taken:
            for header, told in above:
                if not told[0]:
                    chosen.append(header)
                    told[0] = True
            chosen.append(entry)
        if is_dir:
            above.append((entry, [taken]))
    return prefix, chosen


def _named(files: Files, base: Found, prefix: str) -> Iterator[tuple[str, Item]]:
    source = Source(files.root, base.path, files.rules)
    for item in walk(source, base, IgnoreRules()):
        yield (f"{prefix}/{item.path}" if item.path else prefix), item


def _fixed(pattern: str) -> str:
    """The directories in front of the first part with a wildcard."""
    parts = pattern.split("/")
    return "/".join(parts[: next(at for at, part in enumerate(parts) if has_wildcard(part))])


# -- one file


def _file(files: Files, item: Item) -> str:
    hasher = hashlib.sha256(_header(files, item))
    if stat.S_ISREG(item.stat.st_mode) and item.stat.st_size:
        file = open_in_root(item.directory, item.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while piece := os.read(file, _READ):
                hasher.update(piece)
        finally:
            os.close(file)
    return f"sha256:{hasher.hexdigest()}"


def _header(files: Files, item: Item) -> bytes:
    seen = item.stat
    kind = stat.S_IFMT(seen.st_mode)
    if kind not in _TYPES:
        raise BuilderError(f"{item.path} is a socket")
    is_link, is_device = kind == stat.S_IFLNK, kind in {stat.S_IFCHR, stat.S_IFBLK}
    header = _spelled(
        mode=0o777 if is_link else seen.st_mode & 0o7777,
        uid=0 if files.local else seen.st_uid,
        gid=0 if files.local else seen.st_gid,
        size=seen.st_size if kind == stat.S_IFREG else 0,
        typeflag=_TYPES[kind],
        linkname=os.readlink(item.name, dir_fd=item.directory) if is_link else "",
        devmajor=os.major(seen.st_rdev) if is_device else 0,
        devminor=os.minor(seen.st_rdev) if is_device else 0,
    )
    return header + _attributes(f"/proc/self/fd/{item.directory}/{item.name}")


_FIELDS: dict[str, object] = {
    "name": "", "mode": 0, "uid": 0, "gid": 0, "size": 0, "typeflag": "", "linkname": "", "uname": "", "gname": "",
    "devmajor": 0, "devminor": 0,
}  # fmt: skip


def _spelled(**fields: object) -> bytes:
    text = "".join(f"{name}{value}" for name, value in (_FIELDS | fields).items())
    return text.encode("utf-8", "surrogateescape")


def _attributes(path: str) -> bytes:
    """Those that BuildKit looks at, sorted."""
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:  # a file system without
        return b""
    return b"".join(
        name.encode() + os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if name == "security.capability" or not name.startswith(("security.", "system."))
    )
