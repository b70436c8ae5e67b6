"""Where a build context comes from: a directory, an archive, standard input; and the Dockerfile that goes with it.

An archive is hostile: it is unpacked below an open directory, by names the kernel resolves within it, without devices,
and within limits.
"""

import io
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.errors import ContextError, LayerError
from registry.errors import ArchiveError
from runner.kernel.paths import mkdir_in_root, open_in_root, open_root, read_file_in_root

if TYPE_CHECKING:
    from registry.archive.reader import TarReader
    from registry.archive.tarformat import Entry

MAX_TEXT = 16 << 20  # of a Dockerfile or an ignore file
_NAMES = ("Dockerfile", "dockerfile", "Containerfile")
_PEEK = 512


class Text(NamedTuple):
    """A Dockerfile or an ignore file: its bytes, and its name as messages show it."""

    content: bytes
    name: str


def is_archive(start: bytes) -> bool:
    """Whether data that begins so is a tar, or packed: no Dockerfile begins like that."""
    from registry.archive.reader import is_header
    from registry.archive.unpacking import sniff

    return sniff(start) != "uncompressed" or is_header(start)


def peek(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first bytes, and a stream that still begins with them."""
    start = b""
    while len(start) < _PEEK and (piece := stream.read(_PEEK - len(start))):
        start += piece
    return start, io.BufferedReader(_Joined(start, stream), 256 * 1024)


class _Joined(io.RawIOBase):
    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no slices
        data = self._start[: len(buffer)] if self._start else self._rest.read(len(buffer))
        self._start = self._start[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def read_text(stream: BinaryIO, name: str) -> Text:
    """All of a small text. Raises ContextError when it is not small."""
    content = stream.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise ContextError(f"{name} has more than {MAX_TEXT >> 20} MiB", hint="is it a Dockerfile?")
    return Text(content, name)


def unpack(stream: BinaryIO, above: Path | None, title: str) -> Path:
    """Unpack an archive into a new private directory. Raises ContextError, and leaves nothing then."""
    where = Path(tempfile.mkdtemp(prefix="pybuild-context-", dir=above))
    try:
        _unpack_into(stream, where)
    except (LayerError, ArchiveError) as error:
        remove(where)
        raise ContextError(f"the build context ({title}) can't be unpacked: {error}", hint=error.hint) from error
    except OSError as error:
        remove(where)
        raise ContextError(f"the build context ({title}) can't be unpacked: {error.strerror}") from error
    except BaseException:
        remove(where)
        raise
    return where


def remove(where: Path) -> None:
    """Remove an unpacked context, directories without permissions included."""
    for directory, names, _ in os.walk(where):
        for name in names:
            with suppress(OSError):
                path = os.path.join(directory, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    shutil.rmtree(where, ignore_errors=True)


def _unpack_into(stream: BinaryIO, where: Path) -> None:
    from builder.layers.apply import inside
    from registry.archive.reader import TarReader
    from registry.archive.tarformat import Kind
    from registry.archive.unpacking import Limits, unpacked

    limits = Limits()
    reader = TarReader(unpacked(stream, limits), limits)
    root = open_root(where)
    directories: dict[str, tuple[int, int]] = {}  # mode and time come last: they may forbid or spoil what goes in
    try:
        for entry in reader.entries():
            name = os.fsdecode(inside(entry.name))
            if entry.kind is not Kind.DIRECTORY:
                _place(root, name, entry, reader)
            elif name:
                os.close(mkdir_in_root(root, name))
                directories[name] = (entry.mode, entry.mtime_ns)
        for name, (mode, mtime_ns) in reversed(directories.items()):
            with suppress(FileNotFoundError, NotADirectoryError):  # a later entry took its place
                _set_directory(root, name, mode, mtime_ns)
    finally:
        os.close(root)


def _place(root: int, name: str, entry: "Entry", reader: "TarReader") -> None:
    """Anything but a directory."""
    from registry.archive.tarformat import Kind

    if not name:
        raise LayerError("the archive's root is not a directory")
    above, _, last = name.rpartition("/")
    parent = mkdir_in_root(root, above or "/")
    try:
        _make_way(last, parent)
        if entry.kind is Kind.FILE:
            _write(parent, last, entry, reader)
        elif entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, last, dir_fd=parent)
        elif entry.kind is Kind.HARDLINK:
            _link(root, entry, last, parent)
        else:
            raise LayerError(f"{name!r} is a device or FIFO", hint="leave it out of the archive")
    finally:
        os.close(parent)


def _write(parent: int, name: str, entry: "Entry", reader: "TarReader") -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        reader.write_to(file)
        os.fchmod(file, entry.mode)
        os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(file)


def _make_way(name: str, parent: int) -> None:
    """A later entry of the same name wins, unless it would have to take a whole directory away."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError) as error:
        raise LayerError(f"{name!r} is there twice, as a directory and as something else") from error


def _link(root: int, entry: "Entry", name: str, parent: int) -> None:
    from builder.layers.apply import inside

    target = os.fsdecode(inside(entry.link))
    above, _, last = target.rpartition("/")
    try:
        source = open_in_root(root, above or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)
    except OSError as error:
        raise LayerError(f"{name!r} is a hard link to {target!r}: {error.strerror}") from error


def _set_directory(root: int, name: str, mode: int, mtime_ns: int) -> None:
    file = open_in_root(root, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchmod(file, mode & 0o7777)
        os.utime(file, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Found:
    """A Dockerfile, and where it lies: at a path of the context, or outside of it; neither when it came by a pipe."""

    text: Text
    inside: str | None = None
    outside: Path | None = None


def find_dockerfile(root: Path, asked: str | None, *, machine: bool) -> Found:
    """Look for the Dockerfile.

    Args:
        root: of the context.
        asked: what -f said; None looks for the usual names.
        machine: whether -f may name a file of this machine: not so when the context came as an archive.

    Raises:
        ContextError: there is none, or it can't be read.
    """
    if asked is None:
        for name in _NAMES:
            if (content := read_inside(root, name)) is not None:
                return Found(Text(content, name), name)
        raise ContextError(
            "the build context has no Dockerfile", hint="name it with -f FILE, or build another directory"
        )
    if machine and os.path.lexists(asked):
        inner = _within(root, asked)
        if inner is None:
            return Found(_read_outside(Path(asked), asked), outside=Path(asked))
        # A file of the context is read as one: through no link that leads out of it.
        if (content := read_inside(root, inner)) is not None:
            return Found(Text(content, asked), inner)
    if (content := read_inside(root, asked)) is not None:
        return Found(Text(content, asked), asked)
    raise ContextError(
        f"there is no Dockerfile {asked}",
        hint="-f counts from the current directory, then from the build context"
        if machine
        else "-f counts from the root of the archive",
    )


def _within(root: Path, path: str) -> str | None:
    """The path below `root` of a file of this machine; None when it lies elsewhere."""
    try:
        return str((Path(os.path.realpath(os.path.dirname(path))) / os.path.basename(path)).relative_to(root))
    except ValueError:
        return None


def _read_outside(path: Path, shown: str) -> Text:
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise ContextError(f"{shown} is a directory", hint="name the Dockerfile with -f FILE")
        with path.open("rb") as file:
            return read_text(file, shown)
    except OSError as error:
        raise ContextError(f"can't read {shown}: {error.strerror}") from error


def read_inside(root: Path, name: str) -> bytes | None:
    """A small file of the context; None if there is none. Raises ContextError when it can't be read."""
    try:
        base = open_root(root)
    except OSError as error:
        raise ContextError(f"can't read the build context {root}: {error.strerror}") from error
    try:
        return read_file_in_root(base, name, MAX_TEXT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ContextError(f"can't read {name} of the build context: {error.strerror}") from error
    finally:
        os.close(base)


def given_input(stdin: BinaryIO | None) -> BinaryIO:
    if stdin is None:
        raise ContextError("there is no standard input to read")
    return stdin


def given_dockerfile(stdin: BinaryIO | None) -> Found:
    """What `-f -` means."""
    return Found(read_text(given_input(stdin), "Dockerfile"))


def find_ignore_file(root: Path, dockerfile: Found | None) -> Text | None:
    """`<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` of the context."""
    if dockerfile is not None and dockerfile.outside is not None:
        beside = dockerfile.outside.with_name(f"{dockerfile.outside.name}.dockerignore")
        if beside.is_file():
            return _read_outside(beside, str(beside))
    names = [".dockerignore", ".containerignore"]
    if dockerfile is not None and dockerfile.inside is not None:
        names.insert(0, f"{dockerfile.inside}.dockerignore")
    for name in names:
        if (content := read_inside(root, name)) is not None:
            return Text(content, name)
    return None


def one_file(stream: BinaryIO, name: str, modified: int, above: Path | None) -> Path:
    """A new private directory with one file, as ADD of a URL makes it."""
    where = empty_directory(above)
    try:
        with open(where / name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        os.utime(where / name, (modified, modified))
    except BaseException:
        remove(where)
        raise
    return where


def empty_directory(above: Path | None) -> Path:
    """The context of a Dockerfile that came alone."""
    return Path(tempfile.mkdtemp(prefix="pybuild-context-", dir=above))
