"""Collection of what nothing refers to, while pushes, pulls and builds go on.

Candidates are found by plain reads; each is looked at again inside the short write transaction that takes it, so
whoever linked, leased or pushed it in between keeps it. A blob goes in steps, and a crash between two leaves work for
the next run: its row says `deleting` (from now on nobody finds it), its name goes away and the row with it, its bytes
are freed.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from registry.model import Digest
from registry.storage import leases
from registry.storage.crash import crash_point
from registry.storage.database import Database, Row
from registry.storage.failures import explained
from registry.storage.files import Files
from registry.storage.namespaces import Namespaces
from registry.storage.processes import Owner
from registry.storage.uploads import EXPIRES
from registry.storage.values import Collected

_BATCH = 200  # rows a transaction: other writers wait for that long, about 10 ms

_SPARE_MANIFESTS = "SELECT id FROM spare_manifest WHERE pushed_at <= ? AND lease_until <= ?"
# Each asks again, inside the transaction that takes the row, what the view said before it.
_DROP_MANIFEST = (
    "DELETE FROM manifest WHERE id = ? AND EXISTS "
    "(SELECT 1 FROM spare_manifest s WHERE s.id = manifest.id AND s.pushed_at <= ? AND s.lease_until <= ?)"
)
_DROP_LINK = (
    "DELETE FROM repo_blob WHERE repo_id = ? AND digest = ? AND EXISTS (SELECT 1 FROM spare_link s "
    "WHERE s.repo_id = repo_blob.repo_id AND s.digest = repo_blob.digest AND s.lease_until <= ?)"
)
_MARK_BLOB = (
    "UPDATE blob SET state = 'deleting' WHERE digest = ? "
    "AND EXISTS (SELECT 1 FROM spare_blob s WHERE s.digest = blob.digest AND s.touched <= ?)"
)


@dataclass(frozen=True)
class Collector:
    database: Database
    files: Files

    def run(self, grace: float, untagged: float | None) -> Collected:
        now = time.time()
        with self.database.write(durable=False) as transaction:
            leases.drop_dead(transaction)
            transaction.execute("DELETE FROM deleted_manifest WHERE keep_until <= ?", (now,))
            crash_point("collect-forgotten")
        manifests = self._drop_untagged(now - untagged, now) if untagged is not None else 0
        self._drop_links(now)
        self._mark(now - grace)
        blobs, size = self._delete()
        self._drop_empty_repositories()
        Namespaces(self.database).fold()
        with explained(self.files.root):
            leftovers = self._sweep(now, grace)
        return Collected(blobs, size, manifests, leftovers)

    def preview(self, grace: float, untagged: float | None) -> Collected:
        """What `run` would free now, by doing the same to rows that are then put back."""
        now = time.time()
        found = Collected()
        with suppress(_Undo), self.database.write() as transaction:
            leases.drop_dead(transaction)
            manifests = 0
            drop = f"DELETE FROM manifest WHERE id IN ({_SPARE_MANIFESTS})"  # noqa: S608 - both parts stand here
            while untagged is not None and (gone := transaction.execute(drop, (now - untagged, now)).rowcount):
                manifests += gone
            transaction.execute(
                "DELETE FROM repo_blob WHERE (repo_id, digest) IN "
                "(SELECT repo_id, digest FROM spare_link WHERE lease_until <= ?)",
                (now,),
            )
            count, size = transaction.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE state = 'deleting' "
                "OR digest IN (SELECT digest FROM spare_blob WHERE touched <= ?)",
                (now - grace,),
            ).fetchone()
            found = Collected(count, size, manifests)
            raise _Undo
        return found

    def _drop_untagged(self, before: float, now: float) -> int:
        """Again and again: an index that goes leaves its images untagged."""
        dropped = 0
        while rows := self.database.rows(_SPARE_MANIFESTS, (before, now)):
            for batch in _batches(rows):
                with self.database.write() as transaction:
                    for row in batch:
                        dropped += transaction.execute(_DROP_MANIFEST, (*row, before, now)).rowcount
                    crash_point("collect-manifests")
        return dropped

    def _drop_links(self, now: float) -> None:
        rows = self.database.rows("SELECT repo_id, digest FROM spare_link WHERE lease_until <= ?", (now,))
        for batch in _batches(rows):
            with self.database.write() as transaction:
                transaction.executemany(_DROP_LINK, [(*row, now) for row in batch])
                crash_point("collect-links")

    def _mark(self, before: float) -> None:
        rows = self.database.rows("SELECT digest FROM spare_blob WHERE touched <= ?", (before,))
        for batch in _batches(rows):
            with self.database.write() as transaction:
                transaction.executemany(_MARK_BLOB, [(*row, before) for row in batch])
                crash_point("collect-marked")
            crash_point("collect-mark-committed")

    def _delete(self) -> tuple[int, int]:
        """Free the blobs marked here and by runs that crashed; return their number and bytes."""
        count = size = 0
        for batch in _batches(self.database.rows("SELECT digest FROM blob WHERE state = 'deleting'")):
            trash = []
            with self.database.write() as transaction:
                for row in batch:
                    found = transaction.execute(
                        "DELETE FROM blob WHERE digest = ? AND state = 'deleting' RETURNING size", row
                    ).fetchone()
                    if found is None:
                        continue  # stored again since, or taken by another collector
                    trash.append(self.files.discard_blob(Digest.parse(row[0])))
                    transaction.execute("DELETE FROM damage WHERE digest = ?", row)
                    crash_point("collect-discarded")
                    count, size = count + 1, size + int(found[0])
            crash_point("collect-deleted")
            for path in trash:
                if path is not None:
                    with explained(self.files.root), suppress(FileNotFoundError):
                        os.unlink(path)
            crash_point("collect-unlinked")
        return count, size

    def _drop_empty_repositories(self) -> None:
        with self.database.write(durable=False) as transaction:
            transaction.execute(
                "DELETE FROM repo WHERE NOT EXISTS (SELECT 1 FROM manifest WHERE repo_id = repo.id) "
                "AND NOT EXISTS (SELECT 1 FROM repo_blob WHERE repo_id = repo.id) "
                "AND NOT EXISTS (SELECT 1 FROM deleted_manifest WHERE repo_id = repo.id) "
                "AND NOT EXISTS (SELECT 1 FROM upload WHERE repo_id = repo.id) "
                "AND NOT EXISTS (SELECT 1 FROM tag_event WHERE repo_id = repo.id)"
            )

    def _sweep(self, now: float, grace: float) -> int:
        """Remove files that a crash or a client left behind, and the rows of uploads that nobody continues."""
        swept = 0
        for entry in self.files.leftovers():
            with suppress(FileNotFoundError):
                if self._is_garbage(entry, now):
                    os.unlink(entry.path)
                    crash_point("sweep-unlinked")
                    swept += 1
        self._forget_uploads(now)
        return swept + self._sweep_nameless(now, grace)

    def _is_garbage(self, entry: os.DirEntry[str], now: float) -> bool:
        if entry.name.startswith("trash-"):
            return True
        if entry.name.startswith("part-"):
            owner = Owner.parse(entry.name.split("-")[1])
            return owner is None or owner.is_dead() or entry.stat().st_mtime < now - EXPIRES
        if entry.stat().st_mtime < now - EXPIRES:
            return True
        return self.database.row("SELECT 1 FROM upload WHERE id = ?", (entry.name,)) is None

    def _forget_uploads(self, now: float) -> None:
        rows = self.database.rows("SELECT id FROM upload WHERE expires <= ?", (now,))
        stale = [(identity,) for (identity,) in rows if not os.path.exists(self.files.upload(identity))]
        if stale:
            with self.database.write() as transaction:
                transaction.executemany("DELETE FROM upload WHERE id = ?", stale)

    def _sweep_nameless(self, now: float, grace: float) -> int:
        """Remove blob files without a row: a crash came between. Young ones may be about to get theirs."""
        swept = 0
        for digest, entry in self.files.blobs():
            known = "SELECT 1 FROM blob WHERE digest = ?"
            with suppress(FileNotFoundError):
                if entry.stat().st_ctime > now - grace or self.database.row(known, (str(digest),)):
                    continue
                with self.database.write() as transaction:
                    if transaction.execute(known, (str(digest),)).fetchone():
                        continue
                    trash = self.files.discard_blob(digest)
                if trash is not None:
                    os.unlink(trash)
                    swept += 1
        return swept


class _Undo(Exception):
    """Leaves a transaction that was only a question."""


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
