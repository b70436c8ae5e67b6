"""Repositories by name, and the blobs that each may read.

A row in `repo_blob` is the only thing that lets a repository read or mount a blob. Its lease keeps the row while a
client, told that the blob is here, has not sent the manifest yet.
"""

import sqlite3
import time

from registry.errors import BlobUnknown, NameUnknown
from registry.model import Digest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.leases import is_live
from registry.storage.namespaces import namespace_of, within_quota

LINK_SECONDS = 3600.0  # within this time after an upload or a mount, a manifest that needs the blob can't fail for it


class Repositories:
    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self, after: str, limit: int | None) -> list[str]:
        rows = self._database.rows(
            "SELECT name FROM repo WHERE name > ? AND EXISTS (SELECT 1 FROM manifest WHERE repo_id = repo.id) "
            "ORDER BY name LIMIT ?",
            (after, -1 if limit is None else limit),
        )
        return [name for (name,) in rows]

    def exists(self, name: str) -> bool:
        """Whether it holds anything; one that was emptied does not count."""
        return self._database.row(_HOLDING, (name,)) is not None

    def known_id(self, name: str) -> int:
        """Raises NameUnknown."""
        found = self._database.row(_HOLDING, (name,))
        if found is None:
            raise NameUnknown(f"no repository {name[:200]}", hint="`pybuild images` lists what is here")
        return int(found[0])

    def has(self, name: str, digest: Digest) -> bool:
        return self._database.row(_LINKED, (name, str(digest))) is not None

    def link(self, name: str, digests: tuple[Digest, ...]) -> None:
        with self._database.write() as transaction:
            repo = repo_id(transaction, name)
            for digest in digests:
                if not is_live(transaction, digest):
                    raise BlobUnknown(f"no blob {digest} to give to {name}", hint="store the blob first")
                insert_link(transaction, repo, digest)
            crash_point("link-row")

    def extend(self, name: str, digest: Digest) -> bool:
        """Like `has`, and start the link's lease anew when less than half of it is left; for callers who may push."""
        found = self._database.row(
            f"{_LINKED} AND rb.lease_until > ?", (name, str(digest), time.time() + LINK_SECONDS / 2)
        )
        if found is not None:
            return True
        if not self.has(name, digest):
            return False
        with self._database.write() as transaction:
            if transaction.execute(_LINKED, (name, str(digest))).fetchone() is None:
                return False
            insert_link(transaction, repo_id(transaction, name), digest)
        return True

    def unlink(self, name: str, digest: Digest) -> None:
        with self._database.write() as transaction:
            gone = transaction.execute(
                "DELETE FROM repo_blob WHERE digest = ? AND repo_id = (SELECT id FROM repo WHERE name = ?)",
                (str(digest), name),
            )
            if gone.rowcount == 0:
                raise BlobUnknown(f"{name} has no blob {digest}")
            crash_point("unlink-row")

    def mount(self, target: str, digest: Digest, source: str | None) -> bool:
        """Let `target` read what `source` (None: any repository) may; False, and no word why, if that is nothing."""
        if not self._readable(digest, source):
            return False
        with self._database.write() as transaction:
            if not is_live(transaction, digest):
                return False
            repo = repo_id(transaction, target)
            with within_quota(transaction, repo):
                insert_link(transaction, repo, digest)
            crash_point("mount-row")
        return True

    def _readable(self, digest: Digest, source: str | None) -> bool:
        if source is not None:
            return self.has(source, digest)
        found = self._database.row(
            "SELECT 1 FROM repo_blob rb JOIN blob b ON b.digest = rb.digest WHERE rb.digest = ? AND b.state = 'live' "
            "AND b.digest NOT IN (SELECT digest FROM damage) LIMIT 1",
            (str(digest),),
        )
        return found is not None


_HOLDING = (
    "SELECT id FROM repo WHERE name = ? AND (EXISTS (SELECT 1 FROM manifest WHERE repo_id = repo.id) "
    "OR EXISTS (SELECT 1 FROM repo_blob WHERE repo_id = repo.id))"
)
_LINKED = (
    "SELECT 1 FROM repo r JOIN repo_blob rb ON rb.repo_id = r.id JOIN blob b ON b.digest = rb.digest "
    "WHERE r.name = ? AND rb.digest = ? AND b.state = 'live' AND b.digest NOT IN (SELECT digest FROM damage)"
)


def repo_id(transaction: sqlite3.Connection, name: str) -> int:
    """The row of that name, made if absent."""
    found = transaction.execute("SELECT id FROM repo WHERE name = ?", (name,)).fetchone()
    if found is None:
        space = namespace_of(name)
        transaction.execute("INSERT INTO namespace (name) VALUES (?) ON CONFLICT DO NOTHING", (space,))
        found = transaction.execute(
            "INSERT INTO repo (ns_id, name) SELECT id, ? FROM namespace WHERE name = ? RETURNING id", (name, space)
        ).fetchone()
    return int(found[0])


def insert_link(transaction: sqlite3.Connection, repo: int, digest: Digest, seconds: float = LINK_SECONDS) -> None:
    """Authorise reads; a lease that is there already never gets shorter."""
    until = time.time() + seconds if seconds else 0.0
    transaction.execute(
        "INSERT INTO repo_blob (repo_id, digest, lease_until) VALUES (?, ?, ?) ON CONFLICT (repo_id, digest) "
        "DO UPDATE SET lease_until = excluded.lease_until WHERE excluded.lease_until > repo_blob.lease_until",
        (repo, str(digest), until),
    )
