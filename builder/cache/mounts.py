"""The directories of `RUN --mount=type=cache`, as those who list, prune, export and import them see them.

    root/cache-mounts/
      <name>         what the cache with this id holds; <name> is a part of the id's digest
      <name>.<n>     another one of the same id, made while the first was in use (sharing=private)
      <name>.lock    locked by steps that use it; says the id, and by its mtime, when it was used last
      <name>.new     while it is made

Whoever holds the lock alone may do with a directory what they want. Lock files stay: one that vanished while somebody
waits for it would be two locks.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.snapshots.trees import remove_tree

_LONGEST_ID = 4096


@dataclass(frozen=True, slots=True)
class CacheMount:
    path: Path
    id: str  # empty if no step that used it has said so
    used: float  # seconds since 1970


def mounts_directory(root: Path) -> Path:
    return root / "cache-mounts"


def mount_name(mount_id: str) -> str:
    return hashlib.sha256(mount_id.encode()).hexdigest()[:32]


def note_use(lock: int, mount_id: str) -> None:
    """Say in the lock file whose it is, and by its time, that it is used now."""
    os.pwrite(lock, mount_id.encode()[:_LONGEST_ID], 0)


def cache_mounts(root: Path) -> list[CacheMount]:
    """All there are, the longest unused first."""
    base = mounts_directory(root)
    found: list[CacheMount] = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(base):
            path = base / name
            if name.endswith((".lock", ".new")) or not path.is_dir():
                continue
            lock = base / f"{name}.lock"
            with contextlib.suppress(FileNotFoundError):
                used = (lock if lock.exists() else path).stat().st_mtime
                found.append(CacheMount(path, _id_in(lock), used))
    return sorted(found, key=lambda mount: (mount.used, mount.path))


def is_used(mount: CacheMount) -> bool:
    with held(mount.path, wait=False) as taken:
        return not taken


def remove(mount: CacheMount) -> bool:
    """False if a step uses it."""
    with held(mount.path, wait=False) as taken:
        if taken:
            gone = mount.path.with_name(f"{mount.path.name}.new")
            remove_tree(str(gone))
            with contextlib.suppress(FileNotFoundError):
                mount.path.rename(gone)  # at once: half a cache is worse than none
            remove_tree(str(gone))
        return taken


@contextlib.contextmanager
def held(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Keep steps from using it, or with `shared` from using it alone. False (and nothing held) if it is in use."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(lock, kind)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def _id_in(lock: Path) -> str:
    try:
        with lock.open("rb") as file:
            return file.read(_LONGEST_ID).decode(errors="replace")
    except FileNotFoundError:
        return ""
