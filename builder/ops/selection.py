"""The content that a step selects from a file system, told by one digest (reference §1.10).

In it: names, kinds, modes, owners, link targets, device numbers, bytes, file capabilities. Not in it: times, and where
in the file system the selection lies. A context's own digest (context.py) leaves out owners too: its files have none.
"""

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Callable, Sequence

from builder.cache.filemap import FileState, content_of
from builder.dockerfile.ignore import IgnoreRules
from builder.ops.sources import Item, Source, find, walk
from registry.model import Digest

_READ = 1 << 20
_CAPABILITY = "security.capability"


def selection_digest(
    sources: Sequence[Source],
    excludes: Sequence[str] = (),
    into: dict[str, FileState] | None = None,
    *,
    check: Callable[[], None] = lambda: None,
) -> Digest:
    """Equal for sources that select equal content, in order. Raises ContextError: a plain path is not there.

    Args:
        sources: what is selected.
        excludes: rules of --exclude.
        into: gets each file that counts, by its path from the root of its source.
        check: called with each file; may raise to end it.
    """
    rules = IgnoreRules.of(excludes)
    whole = hashlib.sha256()
    for source in sources:
        for found in find(source):
            # A directory is copied by its content, so its own name does not matter.
            whole.update(_framed(["found", "" if found.is_dir else found.name]))
            for item in walk(source, found, rules):
                check()
                if item.path or not found.is_dir:
                    described = _description(item)
                    whole.update(_framed(described))
                    if into is not None:
                        into[posixpath.join(found.path, item.path) if item.path else found.path] = _state(described)
    return Digest("sha256", whole.hexdigest())


def _state(described: list[object]) -> FileState:
    _, mode, uid, gid, *content = described
    assert isinstance(mode, int), "a description begins with a path, a mode and an owner"
    assert isinstance(uid, int), "the same"
    assert isinstance(gid, int), "the same"
    return FileState(content_of(*content) if content else 0, mode, uid, gid)


def _description(item: Item) -> list[object]:
    found = item.stat
    kind = stat.S_IFMT(found.st_mode)
    described: list[object] = [item.path, found.st_mode, found.st_uid, found.st_gid]
    if kind == stat.S_IFLNK:
        described.append(os.readlink(item.name, dir_fd=item.directory))
    elif kind == stat.S_IFREG:
        described += [found.st_size, *_content(item)]
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        described.append(found.st_rdev)
    return described


def _content(item: Item) -> list[str]:
    file = os.open(item.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=item.directory)
    try:
        hasher = hashlib.sha256()
        while data := os.read(file, _READ):
            hasher.update(data)
        capability = os.getxattr(file, _CAPABILITY).hex() if _CAPABILITY in os.listxattr(file) else ""
        return [hasher.hexdigest(), capability]
    finally:
        os.close(file)


def _framed(parts: list[object]) -> bytes:
    """JSON frames what it holds; surrogates stand for bytes that are no UTF-8."""
    return json.dumps(parts).encode() + b"\n"
