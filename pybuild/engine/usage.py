"""What the state root takes on the disk: as du(1) counts, told by what it is for. Reads, changes nothing."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from registry.storage import ContentStore

_BLOCK = 512  # of st_blocks, whatever the file system's own are
_FOR = {
    "cache-mounts": "mounts", "git": "repositories", "uploads": "uploads", "containers": "containers",
    "volumes": "volumes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk. `free`: what `builder prune --all` would give back."""

    what: str
    count: int
    bytes: int
    free: int = 0


@dataclass
class Counter:
    """Adds up files as du does: what the disk gives them, and a file of several names once."""

    device: int
    seen: set[int] = field(default_factory=set)

    def tree(self, path: str) -> int:
        """Of `path` and all below it on this file system. What vanishes meanwhile counts nothing."""
        total = 0
        stack = [path]
        while stack:
            here = stack.pop()
            try:
                found = os.lstat(here)
                if found.st_dev != self.device:
                    continue
                total += self.own(found)
                with os.scandir(here) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        else:
                            total += self.own(entry.stat(follow_symlinks=False))
            except (NotADirectoryError, FileNotFoundError):
                continue
        return total

    def own(self, found: os.stat_result) -> int:
        if found.st_dev != self.device:
            return 0
        if found.st_nlink > 1:
            if found.st_ino in self.seen:
                return 0
            self.seen.add(found.st_ino)
        return found.st_blocks * _BLOCK


def counter(root: Path) -> Counter:
    return Counter(os.lstat(root).st_dev)


def measure(store: ContentStore, root: Path) -> list[Usage]:
    """Every byte below the root, once; the last entry is the whole."""
    from builder.snapshots import Snapshots

    count = counter(root)
    parts = [*_blobs(store, root, count)]
    stored = []
    if (root / "snapshots").is_dir():
        with Snapshots(root) as snapshots:
            stored = snapshots.stored()
    parts.append(Usage("unpacked", len(stored), sum(count.tree(each.directory) for each in stored)))
    for name, what in _FOR.items():
        directory = root / name
        size = count.tree(str(directory)) if directory.is_dir() else 0
        parts.append(Usage(what, _count(directory, what), size))
    whole = counter(root).tree(str(root))
    parts.append(Usage("records", 0, max(whole - sum(part.bytes for part in parts), 0)))
    return [*parts, Usage("total", 0, whole)]


def _blobs(store: ContentStore, root: Path, count: Counter) -> Iterable[Usage]:
    """Blobs that a repository has are an image's, whoever else needs them."""
    found = {"images": [0, 0], "layers": [0, 0], "spare": [0, 0]}
    for blob in store.blobs():
        place = root / "blobs" / blob.digest.algorithm / blob.digest.encoded[:2] / blob.digest.encoded
        try:
            size = count.own(os.lstat(place))
        except FileNotFoundError:
            continue
        kind = found["images" if blob.linked else "layers" if blob.cached else "spare"]
        kind[0] += 1
        kind[1] += size
    return [Usage(kind, *numbers) for kind, numbers in found.items()]


def _count(directory: Path, what: str) -> int:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    if what == "repositories":
        return sum(f"{name}.lock" in names for name in names)
    return sum(not name.endswith((".lock", ".new")) for name in names) if what == "mounts" else len(names)
