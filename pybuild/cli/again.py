"""A build that would change nothing, known as such before anything heavy is imported.

A build that found every step in the cache leaves a memo: its command line and surroundings, a listing of its context,
and what the content store said. As long as all of it still is so, the same command line has the same answer, given at
the price of a walk over the context. Anything else, or any doubt, and the build takes its usual way.

Gives:    unchanged(), for main(); the rest for remember.py, which leaves the memos.
Promises: a file is taken for unchanged only if its inode, size, mtime and ctime are; nobody can set ctime, and no memo
          is left while a file is so young that a later write might not show in it.
Not here: what a build is. Nothing is imported that takes a millisecond, but for SQLite when there is a memo.
"""

import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    # name, device, inode, size, mtime and ctime in ns
    Stamp = tuple[str, int, int, int, int, int]
    # an SQL statement, its values, the row that it gave
    Fact = tuple[str, tuple[str, ...], tuple[object, ...] | None]

MOST = 400_000  # names in a context; a memo of more would cost more than it is worth
# What differs between two shells, or two lines of one, and means nothing to a build.
_NOISE = frozenset({"_", "OLDPWD", "SHLVL", "WINDOWID", "COLUMNS", "LINES"})
_MAGIC = b"pybuild, a build that changed nothing, 1\n"
_SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGES = ("builder", "pybuild", "registry")


class Memo:
    """What was so when a build had nothing to do. Made of what marshal can write."""

    def __init__(
        self,
        *,
        key: str,
        until: float,
        context: str,
        pruned: "Sequence[str]",
        files: bytes,
        watched: "Sequence[tuple[str, Stamp | None]]",
        blobs: "Sequence[tuple[str, int]]",
        facts: "Sequence[Fact]",
        report: "Stamp | None",
        output: tuple[str, str],
    ) -> None:
        self.key = key
        self.until = until  # seconds since 1970: then the records of the cache are due to be marked as used
        self.context = context
        self.pruned = pruned  # directories, from the context's root, that .dockerignore leaves out as a whole
        self.files = files  # the listing, as bytes
        self.watched = watched  # files that are looked at by name, links followed
        self.blobs = blobs  # paths and sizes
        self.facts = facts  # what the content store said
        self.report = report  # of the file that `pybuild why` reads
        self.output = output  # what it wrote to stdout and to stderr

    def to_bytes(self) -> bytes:
        content = marshal.dumps(self.__dict__)
        return _MAGIC + b"%d\n" % len(content) + content

    @classmethod
    def parse(cls, content: bytes) -> "Memo | None":
        """None for another version's, or what a power cut left of one."""
        magic, rest = content[: len(_MAGIC)], content[len(_MAGIC) :]
        length, _, body = rest.partition(b"\n")
        if magic != _MAGIC or not length.isdigit() or int(length) != len(body):
            return None
        try:
            return cls(**marshal.loads(body))  # noqa: S302 - from our own state root, whole and of our version
        except (ValueError, EOFError, TypeError):
            return None


def unchanged(words: "Sequence[str]") -> int | None:
    """Answer a build command that would change nothing: the exit code. None if it may be otherwise."""
    root = state_root(words)
    try:
        with open(place(root, words), "rb") as file:
            memo = Memo.parse(file.read())
        if memo is None or time.time() >= memo.until or memo.key != key(words) or not _holds(memo, root):
            return None
    except (OSError, ValueError):
        return None
    stdout, stderr = memo.output
    sys.stderr.write(stderr)
    sys.stdout.write(stdout)
    return 0


def _holds(memo: Memo, root: str) -> bool:
    """Cheap questions first."""
    return (
        all(stamp(path) == found for path, found in memo.watched)
        and all(os.stat(path).st_size == size for path, size in memo.blobs)
        and packed(listing(memo.context, frozenset(memo.pruned))) == memo.files
        and _said(root, memo.facts)
        and _made_last(f"{root}/builds", memo.report)
    )


def _made_last(builds: str, wanted: "Stamp | None") -> bool:
    """Make the report of that build the newest again, as `pybuild why` tells of the last build. False: it is gone."""
    names = sorted(os.listdir(builds), reverse=True)
    for name in names:
        if stamp(f"{builds}/{name}/steps.json") == wanted is not None:
            if name != names[0]:
                seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
                now = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
                os.rename(f"{builds}/{name}", f"{builds}/{now}.{fraction:09d}-{name.rpartition('-')[2]}")
            return True
    return False


def _said(root: str, facts: "Sequence[Fact]") -> bool:
    """Whether the content store still says so."""
    import sqlite3

    try:
        store = sqlite3.connect(f"file:{_quoted(root)}/meta.db?mode=rw", uri=True, isolation_level=None)
        try:
            return all(store.execute(statement, values).fetchone() == row for statement, values, row in facts)
        finally:
            store.close()
    except sqlite3.Error:
        return False


def _quoted(path: str) -> str:
    """For a URI (sqlite.org/uri.html)."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def state_root(words: "Sequence[str]") -> str:
    """As the command line and engine.roots.default_root() have it, whose imports take longer than all of this."""
    if words[0] == "--root" and len(words) > 1:
        return os.path.abspath(words[1])
    if words[0].startswith("--root="):
        return os.path.abspath(words[0].removeprefix("--root="))
    if given := os.environ.get("PYBUILD_ROOT"):
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "pybuild")


def place(root: str, words: "Sequence[str]") -> str:
    """Where the memo of a command line lies."""
    return f"{root}/again/{_digest((os.getcwd(), tuple(words)))}"


def _digest(value: object) -> str:
    """Stands for a value that is not to be on disk: words and variables may hold secrets."""
    try:
        from _blake2 import blake2b  # hashlib brings OpenSSL along: 3 ms
    except ImportError:
        from hashlib import blake2b
    content = marshal.dumps(value, 2)  # type: ignore[arg-type]  # it is made of tuples, text and numbers
    return blake2b(content, digest_size=32).hexdigest()


def key(words: "Sequence[str]") -> str:
    """Stands for all that a build takes from elsewhere than from files and from the store."""
    environment = [item for item in sorted(os.environ.items()) if item[0] not in _NOISE]
    machine = os.uname()
    return _digest((
        tuple(words), os.getcwd(), environment, os.geteuid(), sys.stderr.isatty(), machine.machine, machine.release,
        sys.version, list(_sources()),
    ))  # fmt: skip


def _sources() -> "Iterator[tuple[str, int, int]]":
    """What tells this very pybuild from another version of it."""
    todo = [os.path.join(_SOURCES, name) for name in _PACKAGES]
    while todo:
        with os.scandir(todo.pop()) as scan:
            for entry in scan:
                if entry.name.endswith((".py", ".lark", ".tables")):
                    found = entry.stat()
                    yield entry.name, found.st_size, found.st_mtime_ns
                elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
                    todo.append(entry.path)


def stamp(path: str) -> "Stamp | None":
    """Of what a path leads to; None if there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return ("", found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def listing(context: str, pruned: "Collection[str]" = ()) -> "list[Stamp] | None":
    """All names below a directory, the `pruned` directories' own ones included but nothing in them. None: too many."""
    found = [stamp(context) or ("", 0, 0, 0, 0, 0)]
    todo = [""]
    while todo:
        above = todo.pop()
        with os.scandir(f"{context}/{above}") as scan:
            for entry in scan:
                at = entry.stat(follow_symlinks=False)
                name = entry.name
                found.append((name, at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
                if entry.is_dir(follow_symlinks=False) and (below := f"{above}{name}") not in pruned:
                    todo.append(f"{below}/")
        if len(found) > MOST:
            return None
    return found


def packed(found: "list[Stamp] | None") -> bytes:
    """To be compared; equal only for equal listings."""
    return marshal.dumps(found, 2)  # 2: later formats depend on who shares an object
