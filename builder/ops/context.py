"""Build contexts: the files of the machine that builds, as COPY and ADD see them.

Gives:    Context.open() for what the command line names; find(), walk() and digest() for what instructions name.
Promises: nothing outside the context is ever looked at, whatever `..` and links say; what .dockerignore leaves out is
          not there; a second digest of unchanged files reads none of them (StatCache).
Not here: copying (copy.py); what a tar may hold (intake.py); which files a Dockerfile wants (builder/plan).
"""

import difflib
import hashlib
import marshal
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from builder.dockerfile.ignore import IgnoreRules
from builder.dockerfile.match import PatternInvalid, go_match
from builder.errors import ContextError
from builder.ops import intake
from builder.ops.intake import Text
from builder.ops.sources import Found, Source, find, wanted_of
from builder.ops.statcache import Content, FileKey, StatCache, is_settled
from registry.model import Digest
from runner.kernel.paths import open_in_root, open_root

if TYPE_CHECKING:
    from builder.cache.filemap import FileMap

_SMALL = 1 << 20
_BATCH = 1000
_CAPABILITY = "security.capability"


class Kind(Enum):
    FILE = stat.S_IFREG
    DIRECTORY = stat.S_IFDIR
    SYMLINK = stat.S_IFLNK
    FIFO = stat.S_IFIFO
    SOCKET = stat.S_IFSOCK
    CHARACTER = stat.S_IFCHR
    BLOCK = stat.S_IFBLK


_KINDS = {kind.value: kind for kind in Kind}
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)


class FileEntry(NamedTuple):
    """One file of the context; `path` counts from its root, which itself is ""."""

    path: str
    kind: Kind
    mode: int  # permission bits, setuid, setgid and sticky included
    size: int
    mtime_ns: int
    link: str  # target of a symbolic link
    device: int
    inode: int
    ctime_ns: int
    links: int  # how many names it has
    rdev: int

    @property
    def key(self) -> FileKey:
        return FileKey(self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns)


Contents = dict[tuple[int, int], Content]  # by device and inode


_NAME = attrgetter("name")
_STAMP = itemgetter(
    *(FileEntry._fields.index(name) for name in FileEntry._fields if name not in ("kind", "links", "rdev"))
)


class Context:
    """An open build context; closing it removes what was unpacked. Used by several threads at once."""

    def __init__(
        self,
        root: Path,
        *,
        title: str = "",
        rules: IgnoreRules | None = None,
        dockerfile: Text | None = None,
        cache: StatCache | None = None,
        to_remove: Path | None = None,
    ) -> None:
        self.root = root
        self.title = title or str(root)
        self.rules = rules or IgnoreRules()
        self.dockerfile = dockerfile
        self._cache = cache
        self._to_remove = to_remove
        self.check: Callable[[], None] = lambda: None  # called while files are read; may raise to end that
        self._fd = open_root(root)

    @classmethod
    def open(
        cls,
        source: str,
        *,
        dockerfile: str | intake.Found | None = None,
        stdin: BinaryIO | None = None,
        cache: StatCache | None = None,
        temporary: Path | None = None,
    ) -> Self:
        """Open what the command line names.

        Args:
            source: a directory, an archive, or "-": an archive or a Dockerfile on standard input.
            dockerfile: the value of -f; "-" reads it from standard input; None looks for the usual names; or itself.
            stdin: standard input.
            cache: what is known about files from earlier builds.
            temporary: the directory in which archives are unpacked; the system's own if None.

        Raises:
            ContextError: there is no such context or Dockerfile, or it can't be read or unpacked.
        """
        if source == "-":
            if dockerfile == "-":
                raise ContextError("standard input can't be both, the context and the Dockerfile")
            return cls._from_stdin(intake.given_input(stdin), dockerfile, cache, temporary)
        if dockerfile == "-":
            dockerfile = intake.given_dockerfile(stdin)
        path = Path(source)
        try:
            found = path.stat()
        except OSError as error:
            raise ContextError(
                f"can't read the build context {source}: {error.strerror}", hint=_near_path(path)
            ) from error
        if stat.S_ISDIR(found.st_mode):
            return cls._from_directory(Path(os.path.realpath(path)), source, dockerfile, cache)
        with path.open("rb") as file:
            start, stream = intake.peek(file)
            if not intake.is_archive(start):
                hint = f"is it a Dockerfile? write: -f {source} {path.parent}"
                raise ContextError(f"the build context {source} is neither a directory nor an archive", hint=hint)
            return cls.archive(stream, source, dockerfile=dockerfile, cache=cache, temporary=temporary)

    @classmethod
    def directory(cls, source: str, *, cache: StatCache | None = None) -> Self:
        """A directory given by --build-context: it has ignore rules of its own, and no Dockerfile."""
        root = Path(os.path.realpath(source))
        if not root.is_dir():
            raise ContextError(f"the build context {source} is no directory", hint=_near_path(Path(source)))
        return cls(root, title=source, rules=_rules(root, None), cache=cache)

    @classmethod
    def _from_directory(cls, root: Path, title: str, asked: str | intake.Found | None, cache: StatCache | None) -> Self:
        found = asked if isinstance(asked, intake.Found) else intake.find_dockerfile(root, asked, machine=True)
        return cls(root, title=title, rules=_rules(root, found), dockerfile=found.text, cache=cache)

    @classmethod
    def _from_stdin(
        cls, stdin: BinaryIO, asked: str | intake.Found | None, cache: StatCache | None, temporary: Path | None
    ) -> Self:
        start, stream = intake.peek(stdin)
        if intake.is_archive(start):
            return cls.archive(stream, "standard input", dockerfile=asked, cache=cache, temporary=temporary)
        if not start:
            raise ContextError("standard input is empty", hint="pipe a Dockerfile or an archive into it")
        if asked is not None:
            raise ContextError(
                "standard input holds a Dockerfile, and -f names another one",
                hint="write: -f - DIRECTORY, or -f FILE DIRECTORY",
            )
        return cls.lone(intake.read_text(stream, "Dockerfile"), "standard input", temporary=temporary)

    @classmethod
    def archive(
        cls,
        stream: BinaryIO,
        title: str,
        *,
        dockerfile: str | intake.Found | None = None,
        named: bool = False,
        cache: StatCache | None = None,
        temporary: Path | None = None,
    ) -> Self:
        """What an archive holds.

        Args:
            stream: the archive.
            title: what messages call it.
            dockerfile: its path in the archive; None looks for the usual names; or itself, if it came another way.
            named: it is one of --build-context, which has neither a Dockerfile nor an ignore file.
            cache: as open()'s.
            temporary: as open()'s.

        Raises:
            ContextError: it is damaged or hostile, or has no Dockerfile.
        """
        root = intake.unpack(stream, temporary, title)
        return cls.unpacked(root, top=root, title=title, dockerfile=dockerfile, named=named, cache=cache)

    @classmethod
    def unpacked(
        cls,
        root: Path,
        *,
        top: Path,
        title: str,
        dockerfile: str | intake.Found | None = None,
        named: bool = False,
        cache: StatCache | None = None,
    ) -> Self:
        """A directory made for this context: `top`, which has it or is it, is removed with it, or if this fails."""
        try:
            if named:
                return cls(root, title=title, cache=cache, to_remove=top)
            if isinstance(dockerfile, intake.Found):
                found = dockerfile
            else:
                found = intake.find_dockerfile(root, dockerfile, machine=False)
            rules = _rules(root, found)
            return cls(root, title=title, rules=rules, dockerfile=found.text, cache=cache, to_remove=top)
        except BaseException:
            intake.remove(top)
            raise

    @classmethod
    def lone(cls, dockerfile: Text, title: str, *, temporary: Path | None = None) -> Self:
        """A Dockerfile without any files."""
        empty = intake.empty_directory(temporary)
        return cls(empty, title=title, dockerfile=dockerfile, to_remove=empty)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._to_remove is not None:
            intake.remove(self._to_remove)
            self._to_remove = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- looking

    def find(self, pattern: str, *, parents: bool = False) -> list[Found]:
        """What a source of COPY or ADD names, links followed, in order of names; `parents` is COPY's (see sources.py).

        Raises:
            ContextError: nothing is there, or .dockerignore leaves it out, or the pattern is broken.
        """
        try:
            for part in pattern.split("/"):
                go_match(part, "")  # broken, it is told even where there is nothing to match
            where = f"the build context ({self.title})"
            return find(Source(self._fd, pattern, self.rules, where=where, parents=parents))
        except PatternInvalid as error:
            raise ContextError(f"broken pattern {pattern!r}: {error}") from error

    def walk(self, found: Found, *excludes: IgnoreRules) -> list[FileEntry]:
        """What was found and, below a directory, all that is kept, each directory before what it holds.

        The same as sources.walk() tells, but all at once and in a third of the time.

        Args:
            found: one of find()'s.
            excludes: rules of --exclude or wanted_of(); their paths count from what was found.
        """
        return _pruned(self._descend(_entry(found.path, found.stat, ""), excludes))

    def entries(self, pattern: str, *excludes: IgnoreRules) -> list[FileEntry]:
        """find() and walk() in one."""
        return [entry for found in self.find(pattern) for entry in self.walk(found, *excludes)]

    def open_file(self, entry: FileEntry) -> int:
        """Open a regular file for reading; the kernel keeps the look-up within the context."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return open_in_root(self._fd, entry.path, flags)

    # -- walking

    def _descend(self, top: FileEntry, excludes: Sequence[IgnoreRules]) -> list[tuple[FileEntry, bool]]:
        """Entries in order, each with whether it is itself left out (a directory that may hold what is kept)."""
        found: list[tuple[FileEntry, bool]] = []
        stack = [(top, False)]  # what was found is there, be it for what it holds
        while stack:
            item = stack.pop()
            found.append(item)
            if item[0].kind is Kind.DIRECTORY:
                stack += self._children(item[0].path, top.path, excludes)
        return found

    def _children(self, directory: str, top: str, excludes: Sequence[IgnoreRules]) -> list[tuple[FileEntry, bool]]:
        """Last one first."""
        found: list[tuple[FileEntry, bool]] = []
        prefix = f"{directory}/" if directory else ""
        cut = len(top) + 1 if top else 0
        every = [(self.rules, 0), *((rules, cut) for rules in excludes)]
        rules = [(rules, start) for rules, start in every if rules.rules]
        try:
            file = open_in_root(self._fd, directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                with os.scandir(file) as scan:
                    items = sorted(scan, key=_NAME, reverse=True)
                for item in items:
                    path = prefix + item.name
                    dropping = [each for each in rules if each[0].excluded(path[each[1] :])] if rules else ()
                    if dropping and not (item.is_dir(follow_symlinks=False) and _may_hold(path, dropping)):
                        continue
                    try:
                        seen = item.stat(follow_symlinks=False)
                        link = os.readlink(item.name, dir_fd=file) if item.is_symlink() else ""
                    except FileNotFoundError:
                        continue  # it went away meanwhile
                    found.append((_entry(path, seen, link), bool(dropping)))
            finally:
                os.close(file)
        except OSError as error:
            raise self._unreadable(directory, error) from error
        return found

    # -- digests

    def digest(self, patterns: Iterable[str], excludes: Sequence[str] = (), *, parents: bool = False) -> Digest:
        """Name the content that these sources of one COPY select: equal content, equal digest.

        In it: names, kinds, modes, link targets, bytes, file capabilities. Not in it: times, owners, the place of a
        directory whose content is copied.

        Raises:
            ContextError: as find(); a file can't be read.
        """
        return self.select(patterns, excludes, parents=parents)[0]

    def select(
        self, patterns: Iterable[str], excludes: Sequence[str] = (), *, parents: bool = False
    ) -> "tuple[Digest, Callable[[], FileMap], bytes]":
        """digest(), and what tells its files one by one, for those who ask why it is another one than before.

        The third is the stamp() from when it was looked at.
        """
        selected = self._selected(patterns, excludes, parents=parents)
        stamp = _fingerprint(selected)
        digest, contents = self._digest(selected, stamp)
        return digest, partial(self._file_map, selected, contents), stamp

    def stamp(self, patterns: Iterable[str], excludes: Sequence[str] = (), *, parents: bool = False) -> bytes:
        """What the stats of a selection say: another one, if a file of it was written to. Reads none."""
        return _fingerprint(self._selected(patterns, excludes, parents=parents))

    def _selected(self, patterns: Iterable[str], excludes: Sequence[str], *, parents: bool) -> "Selected":
        rules = IgnoreRules.of(excludes)
        return [
            (found, self.walk(found, rules, wanted_of(pattern) if parents else IgnoreRules()))
            for pattern in patterns
            for found in self.find(pattern, parents=parents)
        ]

    def _digest(self, selected: "Selected", fingerprint: bytes) -> tuple[Digest, Contents | None]:
        """And the contents, if they had to be looked at."""
        every = [entry for _, entries in selected for entry in entries]
        if self._cache is None:
            contents = self._contents(every)[0]
            return _digest(selected, contents), contents
        if (known := self._cache.tree(fingerprint)) is not None:
            return Digest.parse(known), None
        now = self._cache.clock()
        contents, stable = self._contents(every)
        digest = _digest(selected, contents)
        if stable and all(is_settled(entry.key, now) for entry in every):
            self._cache.remember_tree(fingerprint, str(digest))
        return digest, contents

    def _file_map(self, selected: "Selected", contents: Contents | None) -> "FileMap":
        from builder.cache.filemap import FileMap, FileState, content_of

        every = [entry for _, entries in selected for entry in entries]
        known = self._contents(every)[0] if contents is None else contents
        files: dict[str, FileState] = {}
        for entry in every:
            told = 0
            if entry.kind is Kind.FILE:
                content = known[entry.device, entry.inode]
                whole = content.sha256 if not content.capability else content.sha256 + content.capability
                told = int.from_bytes(whole[:8], "little") if whole is content.sha256 else content_of(whole)
            elif entry.kind is not Kind.DIRECTORY:
                told = content_of(entry.link, entry.rdev)
            files[entry.path or "."] = FileState(told, entry.kind.value | entry.mode)
        return FileMap(files)

    def _contents(self, entries: Sequence[FileEntry]) -> tuple[Contents, bool]:
        """The content of all regular files, and whether each still was what it had been when it was listed."""
        files = {(entry.device, entry.inode): entry for entry in entries if entry.kind is Kind.FILE}
        known: Contents = {}
        if self._cache is not None:
            for some in _batches(list(files.values())):
                known.update(self._cache.files([entry.key for entry in some]))
        unknown = [entry for inode, entry in files.items() if inode not in known]
        del files
        read_ns = 0 if self._cache is None else self._cache.clock()
        stable = True
        for some in _batches([entry for entry in unknown if entry.size <= _SMALL]):
            stable &= self._learn([(entry, self._read(entry)) for entry in some], known, read_ns)
        large = [entry for entry in unknown if entry.size > _SMALL]
        if len(large) > 1:
            from concurrent.futures import ThreadPoolExecutor  # 5 ms, and most contexts have no large files

            with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "hash") as pool:
                stable &= self._learn(list(zip(large, pool.map(self._read, large), strict=True)), known, read_ns)
        else:
            stable &= self._learn([(entry, self._read(entry)) for entry in large], known, read_ns)
        return known, stable

    def _learn(self, read: Sequence[tuple[FileEntry, tuple[Content, bool]]], known: Contents, read_ns: int) -> bool:
        """Note what was read from `read_ns` on; whether all of it still was what it had been when it was listed."""
        if self._cache is not None:
            self._cache.remember(((entry.key, content) for entry, (content, same) in read if same), read_ns)
        known.update(((entry.device, entry.inode), content) for entry, (content, _) in read)
        return all(same for _, (_, same) in read)

    def _read(self, entry: FileEntry) -> tuple[Content, bool]:
        try:
            file = self.open_file(entry)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise ContextError(f"{entry.path} of the build context is no longer a file", hint="build again")
                content = Content(_sha256(file, entry.size, self.check), _capability(file))
                return content, FileKey.of(os.fstat(file)) == entry.key
            finally:
                os.close(file)
        except OSError as error:
            raise self._unreadable(entry.path, error) from error

    # -- what went wrong

    def _unreadable(self, path: str, error: OSError) -> ContextError:
        return ContextError(
            f"can't read {path or '.'} of the build context ({self.title}): {error.strerror}",
            hint=f"leave it out with a line in .dockerignore: {path}" if path else None,
        )


def _entry(path: str, found: os.stat_result, link: str) -> FileEntry:
    mode = found.st_mode
    return FileEntry(
        path,
        _KINDS[mode & 0o170000],
        mode & 0o7777,
        found.st_size,
        found.st_mtime_ns,
        link,
        found.st_dev,
        found.st_ino,
        found.st_ctime_ns,
        found.st_nlink,
        found.st_rdev,
    )


def _may_hold(path: str, rules: Sequence[tuple[IgnoreRules, int]]) -> bool:
    return all(each.may_hold_included(path[start:]) for each, start in rules)


def _pruned(found: Sequence[tuple[FileEntry, bool]]) -> list[FileEntry]:
    """Of the directories that are left out, keep those that hold something that is not."""
    if not any(dropped for _, dropped in found):
        return [entry for entry, _ in found]
    needed: set[str] = set()
    kept: list[FileEntry] = []
    for entry, dropped in reversed(found):
        if not dropped or entry.path in needed:
            kept.append(entry)
            needed.add(posixpath.dirname(entry.path))
    return kept[::-1]


Selected = Sequence[tuple[Found, Sequence[FileEntry]]]


def _fingerprint(selected: Selected) -> bytes:
    """What the stats of a selection say; equal only if nothing was changed. An inode's kind never changes."""
    told = hashlib.sha256()
    for found, entries in selected:
        told.update(marshal.dumps(found.name, 2))  # 2: later formats depend on who shares an object
        for some in _batches(entries):
            told.update(marshal.dumps(list(map(_STAMP, some)), 2))
    return told.digest()


def _digest(selected: Selected, contents: Contents) -> Digest:
    """Records of so many fields, each ended by a zero byte, which no name holds: no two selections collide."""
    told = hashlib.sha256()
    for found, entries in selected:
        cut = len(found.path) + 1 if found.path else 0
        for some in _batches(entries):
            records: list[str] = []
            for entry in some:
                kind = entry.kind
                name = entry.path[cut:] if found.is_dir else found.name
                records.append(f"{kind.name}\0{name}\0{entry.mode:o}\0{entry.link}\0")
                if kind is Kind.FILE:
                    content = contents[entry.device, entry.inode]
                    records.append(f"{content.sha256.hex()}\0{content.capability.hex()}\0")
                elif kind in _DEVICES:
                    records.append(f"{entry.rdev}\0")
            told.update("".join(records).encode("utf-8", "surrogateescape"))
        told.update(b"\0")
    return Digest("sha256", told.hexdigest())


def _batches(entries: Sequence[FileEntry]) -> Iterator[Sequence[FileEntry]]:
    """So many at a time that what is made of them takes little memory."""
    for start in range(0, len(entries), _BATCH):
        yield entries[start : start + _BATCH]


def _sha256(file: int, size: int, check: Callable[[], None]) -> bytes:
    found = hashlib.sha256()
    length = min(size + 1, _SMALL) if size < _SMALL else _SMALL
    while piece := os.read(file, length):
        check()
        found.update(piece)
        if len(piece) < length and len(piece) == size:
            break  # a small file needs no second read to see its end
    return found.digest()


def _capability(file: int) -> bytes:
    try:
        return os.getxattr(file, _CAPABILITY)
    except OSError:  # none, or a file system without extended attributes
        return b""


def _rules(root: Path, found: intake.Found | None) -> IgnoreRules:
    text = intake.find_ignore_file(root, found)
    return (
        IgnoreRules() if text is None else IgnoreRules.parse(text.content.decode("utf-8", "surrogateescape"), text.name)
    )


def _near_path(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / near[0]}?" if near else "name a directory, an archive, or - for standard input"
