"""Which files a step took from a source, small enough to keep: so that a later miss can name the one that changed.

A path keeps 64 bits of its content's digest, its mode and its owner: enough to tell that it changed, useless to tell
what it is. Columns and names are packed apart, which brings 10,000 files to some 150 kB. Of very many files, those
deep down are told as one entry a directory.
"""

import hashlib
import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

_MOST = 50_000  # entries
_FINE = 0xFFFF  # a depth that no path has
_HEADER = struct.Struct("<IH")
_COLUMNS = "QIII"


class FileState(NamedTuple):
    """`content` stands for bytes, link target, device number and capabilities; a mode of 0 is a whole directory."""

    content: int
    mode: int
    uid: int = 0
    gid: int = 0


class FileMap(NamedTuple):
    """Paths from the root of the source. Those of more than `depth` parts are summed up, as `a/b/`."""

    files: Mapping[str, FileState]
    depth: int = _FINE


class Difference(NamedTuple):
    """One path that is not as it was. `how`: added, removed, or what of it changed."""

    path: str
    how: str


def content_of(*parts: object) -> int:
    """64 bits that stand for what a file holds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def pack(found: FileMap, most: int = _MOST) -> bytes:
    while len(found.files) > most and found.depth:
        found = _coarser(found, min(found.depth, _deepest(found)) - 1)
    names = "\0".join(found.files).encode("utf-8", "surrogateescape")
    count = len(found.files)
    columns = zip(*found.files.values(), strict=True) if count else ((),) * len(_COLUMNS)
    packed = [struct.pack(f"<{count}{kind}", *column) for kind, column in zip(_COLUMNS, columns, strict=True)]
    return zlib.compress(_HEADER.pack(count, found.depth) + b"".join(packed) + names, 1)


def unpack(record: bytes) -> FileMap:
    """Raises ValueError: it is not what pack() makes."""
    try:
        body = zlib.decompress(record)
        count, depth = _HEADER.unpack_from(body)
        at = _HEADER.size
        columns = []
        for kind in _COLUMNS:
            column = struct.Struct(f"<{count}{kind}")
            columns.append(column.unpack_from(body, at))
            at += column.size
    except (zlib.error, struct.error) as error:
        raise ValueError(f"not a map of files: {error}") from error
    names = body[at:].decode("utf-8", "surrogateescape").split("\0") if count else []
    states = map(FileState._make, zip(*columns, strict=True))
    return FileMap(dict(zip(names, states, strict=True)), depth)


def differences(before: FileMap, after: FileMap) -> list[Difference]:
    """Changed paths, then added, then removed ones; each in the order of their names."""
    depth = min(before.depth, after.depth)
    old, new = (_coarser(found, depth).files for found in (before, after))
    changed = [Difference(path, _how(old[path], now)) for path, now in new.items() if old.get(path, now) != now]
    added = [Difference(path, "added") for path in new if path not in old]
    removed = [Difference(path, "removed") for path in old if path not in new]
    return [*sorted(changed), *sorted(added), *sorted(removed)]


def _how(before: FileState, now: FileState) -> str:
    if not now.mode or not before.mode:
        return "changed"
    if before.mode & 0o170000 != now.mode & 0o170000:
        return "another kind of file"
    told = ["content changed"] if before.content != now.content else []
    if before.mode != now.mode:
        told.append(f"mode {before.mode & 0o7777:o} → {now.mode & 0o7777:o}")
    if (before.uid, before.gid) != (now.uid, now.gid):
        told.append(f"owner {before.uid}:{before.gid} → {now.uid}:{now.gid}")
    return ", ".join(told)


def _coarser(found: FileMap, depth: int) -> FileMap:
    """With every path below `depth` summed up. Sums of sums are sums: it does not matter in how many goes."""
    if depth >= found.depth:
        return found
    files: dict[str, FileState] = {}
    for path, state in found.files.items():
        parts = path.rstrip("/").split("/")
        if len(parts) <= depth:
            files[path] = state
            continue
        name = "/".join(parts[:depth]) + "/"
        share = state.content if not state.mode else content_of(path, state)
        files[name] = FileState((files[name].content + share if name in files else share) % 2**64, 0)
    return FileMap(files, depth)


def _deepest(found: FileMap) -> int:
    return max(path.rstrip("/").count("/") + 1 for path in found.files)
