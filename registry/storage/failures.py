"""What the operating system or SQLite says about the store's own disk, in words the user can act on."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import DiskFull, StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_MISPLACED = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_SQLITE_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_SQLITE_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn an OSError or sqlite3.Error inside into a StoreError about `root`."""
    try:
        yield
    except OSError as error:
        raise from_os_error(root, error) from error
    except sqlite3.Error as error:
        raise from_sqlite_error(root, error) from error


def from_os_error(root: Path, error: OSError) -> StoreError:
    what = f"{error.filename or root}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in _FULL:
        return DiskFull(f"no space left for the content store at {root} ({what})", hint=_full_hint(root))
    if error.errno in _REFUSED:
        return StoreError(f"the content store needs to read and write {what}", hint=_refused_hint(root))
    if error.errno in _MISPLACED:
        return StoreError(f"there can't be a content store at {root} ({what})", hint="choose another --root")
    return StoreError(f"the content store failed: {what}", hint="see the kernel's log for errors of that disk")


def from_sqlite_error(root: Path, error: sqlite3.Error) -> StoreError:
    database = root / "meta.db"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code, the rest details it
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"no space left for {database}", hint=_full_hint(root))
    if code in _SQLITE_REFUSED:
        return StoreError(f"the content store needs to read and write {database}: {error}", hint=_refused_hint(root))
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(f"{database} stayed locked by another process", hint="end the process that holds it")
    if code in _SQLITE_BROKEN:
        return StoreError(f"{database} is damaged: {error}", hint="restore it from a backup, or choose another --root")
    if code == sqlite3.SQLITE_IOERR and _is_full(root):
        return DiskFull(f"no space left for {database}", hint=_full_hint(root))  # the shared-memory file could not grow
    return StoreError(f"{database}: {error}", hint="this should not happen; keep a copy of the file and report it")


def _is_full(root: Path) -> bool:
    try:
        room = os.statvfs(root)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 128 * 1024


def _full_hint(root: Path) -> str:
    return (
        f"make room on the file system of {root} (`pybuild image prune` frees unused images), or choose another --root"
    )


def _refused_hint(root: Path) -> str:
    return f"run as the owner of {root} on a writable file system, or choose another --root"
