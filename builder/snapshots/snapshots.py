"""The index of snapshots (SQLite) and their directories.

    root/snapshots/
      index.db        key or name, parent, committed or not, owner
      empty/          the lower directory of snapshots without a parent: overlayfs wants at least one
      <n>/fs          what this snapshot adds to its parent; the upper directory while it is active
      <n>/work        overlayfs' own

A committed snapshot's files are not flushed to the disk one by one: for 30,000 files that takes longer than unpacking
them. The kernel writes them within its half minute; until well after that the snapshot is `fresh`, and one that was
still fresh when the machine went down is not trusted but unpacked or built again.

Order: the row comes before its directory, a committed one's goes before it, and numbers are never used twice; so a
directory without a row is garbage at any time, and `sweep` may remove it while others work.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from builder.errors import SnapshotError
from builder.snapshots.trees import remove_tree
from registry.storage.crash import crash_point
from registry.storage.processes import Owner, boot_id
from runner.kernel.locks import locked

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshot (id) ON DELETE RESTRICT,
    committed INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL,
    used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS snapshot_parent ON snapshot (parent);
CREATE TABLE IF NOT EXISTS fresh (
    id INTEGER PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
    boot TEXT NOT NULL,
    since REAL NOT NULL
);
"""
_CHAIN = """
WITH RECURSIVE chain (id, depth) AS (
    SELECT id, 0 FROM snapshot WHERE key = ? AND committed
    UNION ALL
    SELECT snapshot.parent, depth + 1 FROM chain JOIN snapshot USING (id) WHERE snapshot.parent IS NOT NULL
)
SELECT id FROM chain ORDER BY depth
"""
_CONTAINER = "container-"  # keys with this prefix outlive every process and are only removed by name
_LOCK_SECONDS = 60
_MOST_LOWER = 499  # OVL_MAX_STACK of the kernel is 500, and the upper directory is one of them
_IN_USE_SECONDS = 3600
_SETTLED_SECONDS = 120  # several times the kernel's dirty_expire_centisecs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A filesystem state: `upper` over `lower` (absolute paths, topmost first, never empty)."""

    key: str  # the name, if it is committed
    parent: str | None
    lower: tuple[str, ...]
    upper: str
    work: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot as listings see it. Its files lie in `directory`."""

    key: str
    parent: str | None
    committed: bool
    used: float  # seconds since 1970
    directory: str


class Snapshots:
    """All snapshots below one state root. Safe for many threads and many processes."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute() / "snapshots"
        self._empty = self.root / "empty"
        self._lock = threading.RLock()
        self._overlay_works = False
        try:
            for directory, mode in ((self.root, 0o700), (self._empty, 0o755)):
                if not directory.is_dir():
                    directory.mkdir(parents=True, exist_ok=True)
                    directory.chmod(mode)
            self._db = sqlite3.connect(
                self.root / "index.db", timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise SnapshotError(
                f"can't open the snapshots in {self.root}: {error}",
                hint="check the rights on it, or choose another --root",
            ) from error
        try:
            self._create()
        except BaseException:
            self._db.close()
            raise

    def _create(self) -> None:
        try:
            with locked(self.root):  # several processes may open a new root at once
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("PRAGMA foreign_keys = ON")
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version in {0, _VERSION}:
                    self._db.executescript(_SCHEMA if version else _SCHEMA + f"PRAGMA user_version = {_VERSION};")
                    self._settle()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if version not in {0, _VERSION}:
            raise SnapshotError(
                f"{self.root} has layout {version}; this version of pybuild knows layout {_VERSION}",
                hint="use the pybuild that made it, or choose another --root",
            )

    def _settle(self) -> None:
        """Trust what has had time to reach the disk; forget what the end of an earlier boot may have cut short."""
        if self._db.execute("SELECT 1 FROM fresh").fetchone() is None:
            return
        with self._transaction() as db:
            before = time.time() - _SETTLED_SECONDS
            db.execute("DELETE FROM fresh WHERE boot = ? AND since < ?", (boot_id(), before))
            # From the top down. What a container stands on stays: its files may be whole, and nothing else has them.
            while db.execute(
                "DELETE FROM snapshot WHERE id IN (SELECT id FROM fresh WHERE boot != ?)"
                " AND id NOT IN (SELECT parent FROM snapshot WHERE parent IS NOT NULL)",
                (boot_id(),),
            ).rowcount:
                pass

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk makes SQLite roll back by itself
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> SnapshotError:
        if self._is_full(getattr(error, "sqlite_errorcode", 0) & 0xFF):
            return SnapshotError(f"no space left for {self.root}/index.db", hint="free some space on that file system")
        return SnapshotError(
            f"the index of snapshots in {self.root} can't be used: {error}", hint="check the disk it is on"
        )

    def _is_full(self, code: int) -> bool:
        """SQLite tells a full disk as an input/output error when it can't even extend its shared-memory file."""
        if code != sqlite3.SQLITE_IOERR:
            return code == sqlite3.SQLITE_FULL
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize < 128 * 1024

    def exists(self, name: str) -> bool:
        """Whether a snapshot is committed under `name`."""
        with self._reading() as db:
            return db.execute("SELECT 1 FROM snapshot WHERE key = ? AND committed", (name,)).fetchone() is not None

    def prepare(self, key: str, parent: str | None) -> Snapshot:
        """Make an active snapshot over a committed one (None: over nothing).

        Raises:
            SnapshotError: the key is taken, the parent is not there or of too many layers, the disk refuses.
        """
        with self._transaction() as db:
            below = self._committed(db, parent) if parent is not None else None
            try:
                number = db.execute(
                    "INSERT INTO snapshot (key, parent, owner, used) VALUES (?, ?, ?, ?)",
                    (key, below, str(Owner.self()), time.time()),
                ).lastrowid
            except sqlite3.IntegrityError:
                raise SnapshotError(f"there is a snapshot {key} already") from None
            if below is not None:
                db.execute("UPDATE snapshot SET used = ? WHERE id = ?", (time.time(), below))
            lower = self._lower(db, parent)
            _check_depth(lower)
            crash_point("snapshot-inserted")
        crash_point("snapshot-row")
        found = self._snapshot(number or 0, key, parent, lower)
        try:
            _make(f"{self.root}/{number}", 0o700)
            _make(found.upper, 0o755)
            _make(found.work, 0o700)
            crash_point("snapshot-directories")
            if parent is not None:
                copy_root_attributes(lower[0], found.upper)
            self._check_overlay(found)
        except OSError as error:
            self.remove(key)
            raise SnapshotError(f"can't make a snapshot in {self.root}: {error}") from error
        except SnapshotError:
            self.remove(key)
            raise
        return found

    def _check_overlay(self, snapshot: Snapshot) -> None:
        """Find out before the first work is done, not after, that this disk or kernel has no overlayfs for us."""
        if self._overlay_works:
            return
        from runner.kernel.mounts import overlay_tree

        try:
            os.close(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work))
        except PermissionError as error:
            raise SnapshotError(
                f"not allowed to mount an overlay: {error}", hint="run as root; in a container, with CAP_SYS_ADMIN"
            ) from error
        except OSError as error:
            raise SnapshotError(
                f"{self.root} can't hold root filesystems, the kernel refuses an overlay there: {error}",
                hint="put --root on ext4, xfs, btrfs or tmpfs; an overlay or network file system will not do",
            ) from error
        self._overlay_works = True

    def get(self, key_or_name: str) -> Snapshot | None:
        with self._reading() as db:
            row = db.execute(
                "SELECT child.id, parent.key FROM snapshot AS child"
                " LEFT JOIN snapshot AS parent ON parent.id = child.parent WHERE child.key = ?",
                (key_or_name,),
            ).fetchone()
            if row is None:
                return None
            return self._snapshot(row[0], key_or_name, row[1], self._lower(db, row[1]))

    def stored(self) -> list[Stored]:
        """All of them, parents before children."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT child.id, child.key, parent.key, child.committed, child.used FROM snapshot AS child"
                " LEFT JOIN snapshot AS parent ON parent.id = child.parent ORDER BY child.id"
            ).fetchall()
        left = {
            key: Stored(key, parent, bool(committed), used, f"{self.root}/{number}")
            for number, key, parent, committed, used in rows
        }
        found: list[Stored] = []
        while left:
            # In the order of making, but for those that were put on a younger one.
            below = [next(iter(left.values()))]
            while (parent := below[-1].parent) in left and parent is not None:
                below.append(left[parent])
            found += reversed(below)
            for each in below:
                del left[each.key]
        return found

    def view(self, name: str | None) -> tuple[str, ...]:
        """Lower directories, topmost first, that show a committed snapshot. Raises SnapshotError if it is not there."""
        if name is None:
            return (str(self._empty),)
        with self._transaction() as db:
            db.execute("UPDATE snapshot SET used = ? WHERE id = ?", (time.time(), self._committed(db, name)))
            return self._lower(db, name)

    def commit(self, key: str, name: str, *, onto: str | None = None) -> None:
        """Make an active snapshot immutable under `name`. If that name exists already, the new one is dropped.

        The caller has unmounted it. With `onto` it is put on that committed snapshot, having stood on nothing so far;
        none of its files is touched. Raises SnapshotError if `key` is not active, or `onto` not there.
        """
        with self._transaction() as db:
            row = db.execute("SELECT id FROM snapshot WHERE key = ? AND NOT committed", (key,)).fetchone()
            if row is None:
                raise SnapshotError(f"there is no active snapshot {key}")
            if onto is not None:
                db.execute("UPDATE snapshot SET parent = ? WHERE id = ?", (self._committed(db, onto), row[0]))
                lower = self._lower(db, onto)
                _check_depth(lower)
                copy_root_attributes(lower[0], f"{self.root}/{row[0]}/fs")
            taken = db.execute("SELECT 1 FROM snapshot WHERE key = ?", (name,)).fetchone() is not None
            if taken:
                db.execute("DELETE FROM snapshot WHERE id = ?", row)
            else:
                now = time.time()
                db.execute("UPDATE snapshot SET key = ?, committed = 1, used = ? WHERE id = ?", (name, now, row[0]))
                db.execute("INSERT INTO fresh (id, boot, since) VALUES (?, ?, ?)", (row[0], boot_id(), now))
            crash_point("snapshot-renamed")
        crash_point("snapshot-committed")
        if taken:
            self._discard(row[0])

    def remove(self, key_or_name: str) -> None:
        """Remove a snapshot, if it is there. Raises SnapshotError if others stand on it."""
        with self._reading() as db:
            row = db.execute("SELECT id, committed FROM snapshot WHERE key = ?", (key_or_name,)).fetchone()
        if row is None:
            return
        number, committed = row
        if not committed:
            # Nobody else uses it, so its files may go first: on a full disk there is no room for a transaction.
            self._discard(number)
            crash_point("snapshot-emptied")
        with self._transaction() as db:
            try:
                db.execute("DELETE FROM snapshot WHERE id = ?", (number,))
            except sqlite3.IntegrityError:
                raise SnapshotError(
                    f"snapshot {key_or_name} is in use", hint="remove the containers and images that stand on it first"
                ) from None
            crash_point("snapshot-deleted")
        crash_point("snapshot-forgotten")
        if committed:
            self._discard(number)

    def _discard(self, number: int | str) -> None:
        try:
            remove_tree(f"{self.root}/{number}")
        except OSError as error:
            raise SnapshotError(
                f"can't remove {self.root}/{number}: {error.strerror}", hint="is something mounted there, or immutable?"
            ) from error

    def sweep(
        self, keep: Callable[[str], bool] = lambda _: True, *, idle_seconds: float = _IN_USE_SECONDS
    ) -> tuple[str, ...]:
        """Remove what nobody will ask for again; others may go on working meanwhile.

        That is: active snapshots whose process is dead, except containers'; committed ones that `keep` does not want,
        that nothing stands on and that nobody used for `idle_seconds`; directories without a row.

        Returns:
            The keys and names that are gone.
        """
        present = [entry for entry in os.listdir(self.root) if entry.isdecimal()]
        gone = self._forget_dead()
        while unwanted := self._forget_unwanted(keep, time.time() - idle_seconds):
            gone += unwanted
        with self._reading() as db:
            known = {str(number) for (number,) in db.execute("SELECT id FROM snapshot")}
        for number in present:
            if number not in known:
                with contextlib.suppress(SnapshotError):  # it stays garbage; the next sweep tries again
                    self._discard(number)
        return tuple(gone)

    def _forget_dead(self) -> list[str]:
        with self._transaction() as db:
            rows = db.execute("SELECT id, key, owner FROM snapshot WHERE NOT committed").fetchall()
            dead = [(number, key) for number, key, owner in rows if not key.startswith(_CONTAINER) and _is_dead(owner)]
            db.executemany("DELETE FROM snapshot WHERE id = ?", [(number,) for number, _ in dead])
        return [key for _, key in dead]

    def _forget_unwanted(self, keep: Callable[[str], bool], idle_since: float) -> list[str]:
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id, key FROM snapshot WHERE committed AND used <= ?"
                " AND id NOT IN (SELECT parent FROM snapshot WHERE parent IS NOT NULL)",
                (idle_since,),
            ).fetchall()
            unwanted = [(number, name) for number, name in rows if not keep(name)]
            db.executemany("DELETE FROM snapshot WHERE id = ?", [(number,) for number, _ in unwanted])
        return [name for _, name in unwanted]

    def _committed(self, db: sqlite3.Connection, name: str) -> int:
        row = db.execute("SELECT id FROM snapshot WHERE key = ? AND committed", (name,)).fetchone()
        if row is None:
            raise SnapshotError(f"there is no snapshot {name}", hint="unpack the image again")
        return int(row[0])

    def _lower(self, db: sqlite3.Connection, name: str | None) -> tuple[str, ...]:
        if name is None:
            return (str(self._empty),)
        return tuple(f"{self.root}/{number}/fs" for (number,) in db.execute(_CHAIN, (name,)))

    def _snapshot(self, number: int, key: str, parent: str | None, lower: tuple[str, ...]) -> Snapshot:
        return Snapshot(key, parent, lower, f"{self.root}/{number}/fs", f"{self.root}/{number}/work")


def _check_depth(lower: tuple[str, ...]) -> None:
    if len(lower) > _MOST_LOWER:
        raise SnapshotError(
            f"{len(lower)} layers are more than overlayfs lays over each other",
            hint=f"join instructions of the Dockerfile: an image can have {_MOST_LOWER} layers",
        )


def _make(path: str, mode: int) -> None:
    """Make a directory of exactly this mode, whatever the umask."""
    os.mkdir(path, mode)
    os.chmod(path, mode)


def copy_root_attributes(source: str, target: str) -> None:
    """Give a new upper directory the mode, owner and times of the directory that it will cover.

    overlayfs shows the topmost directory's attributes, so without this every step would reset those of `/`.
    """
    known = os.stat(source)
    os.chown(target, known.st_uid, known.st_gid)
    os.chmod(target, known.st_mode & 0o7777)
    os.utime(target, ns=(known.st_mtime_ns, known.st_mtime_ns))


def _is_dead(owner: str) -> bool:
    known = Owner.parse(owner)
    return known is None or known.is_dead()
