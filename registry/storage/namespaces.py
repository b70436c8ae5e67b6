"""Namespaces: what the first component of a repository's name may hold, and whether it may change.

A blob counts once for a namespace, however many of its repositories have it; every manifest counts. Triggers
(schema.py) write each change to a ledger, which `fold` sums up from time to time: no push waits for another's row.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import NameInvalid, QuotaExceeded, ReadOnly
from registry.model.reference import check_repository
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.values import StoredNamespace

EVERYTHING = "*"  # the whole registry
_USED = "n.used_bytes_cached + (SELECT coalesce(sum(l.delta), 0) FROM usage_ledger l WHERE l.ns_id = n.id)"  # bytes

_MAKE_ROOM = "delete what is not needed, and wait for the next collection; or ask for a larger quota"


class Namespaces:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[StoredNamespace]:
        """Every namespace that there is or that something was decided about, the whole registry first."""
        rows = self._database.rows(
            f"SELECT n.name, n.quota_bytes, {_USED}, n.read_only FROM namespace n ORDER BY n.name <> '*', n.name"  # noqa: S608 - a constant
        )
        return [StoredNamespace(name, quota, used, bool(frozen)) for name, quota, used, frozen in rows]

    def of(self, repo: str) -> StoredNamespace:
        """The namespace of a repository; read-only also when the whole registry is."""
        name = namespace_of(repo)
        found = self._database.row(
            f"SELECT n.quota_bytes, {_USED}, n.read_only FROM namespace n WHERE n.name = ?",  # noqa: S608 - a constant
            (name,),
        )
        quota, used, frozen = found or (None, 0, 0)
        return StoredNamespace(name, quota, used, bool(frozen) or self._is_frozen(EVERYTHING))

    def limited(self, repo: str) -> StoredNamespace | None:
        """The namespace of a repository if it has a quota; then only is the ledger summed up."""
        found = self._database.row("SELECT quota_bytes FROM namespace WHERE name = ?", (namespace_of(repo),))
        return self.of(repo) if found and found[0] is not None else None

    def set_quota(self, name: str, quota: int | None) -> None:
        """In bytes; None lifts it. What is there already stays, however much it is. Raises NameInvalid."""
        with self._database.write() as transaction:
            row = _row(transaction, name)
            transaction.execute("UPDATE namespace SET quota_bytes = ? WHERE id = ?", (quota, row))
            crash_point("quota-row")

    def set_read_only(self, name: str, on: bool) -> None:
        """Of one namespace, or of EVERYTHING; every server of this store heeds it at once. Raises NameInvalid."""
        with self._database.write() as transaction:
            row = _row(transaction, name)
            transaction.execute("UPDATE namespace SET read_only = ? WHERE id = ?", (int(on), row))
            crash_point("read-only-row")

    def check_writable(self, repo: str) -> None:
        """Raises ReadOnly."""
        for name, what in ((EVERYTHING, "this registry"), (namespace_of(repo), f"{repo[:200]}")):
            if self._is_frozen(name):
                raise ReadOnly(f"{what} is read-only for now", hint="pulls go on; ask its operator when pushes will")

    def room(self, repo: str) -> int | None:
        """Bytes that may still come to the repository's namespace; None without a quota."""
        found = self._database.row(
            f"SELECT n.quota_bytes - {_USED} FROM namespace n WHERE n.name = ? AND n.quota_bytes IS NOT NULL",  # noqa: S608 - a constant
            (namespace_of(repo),),
        )
        return None if found is None else max(int(found[0]), 0)

    def fold(self) -> None:
        """Sum the ledger up, so that asking for what is used stays cheap."""
        if self._database.row("SELECT 1 FROM usage_ledger LIMIT 1") is None:
            return
        with self._database.write(durable=False) as transaction:
            transaction.execute(
                f"UPDATE namespace AS n SET used_bytes_cached = {_USED} "  # noqa: S608 - a constant
                "WHERE EXISTS (SELECT 1 FROM usage_ledger l WHERE l.ns_id = n.id)"
            )
            transaction.execute("DELETE FROM usage_ledger")
            crash_point("ledger-folded")

    def _is_frozen(self, name: str) -> bool:
        found = self._database.row("SELECT read_only FROM namespace WHERE name = ?", (name,))
        return bool(found and found[0])


def namespace_of(repo: str) -> str:
    """The first of several components; empty for a repository at the top."""
    return repo.partition("/")[0] if "/" in repo else ""


@contextmanager
def within_quota(transaction: sqlite3.Connection, repo: int) -> Iterator[None]:
    """What is done inside must not bring the namespace of this repository (its row) over its quota.

    Raises:
        QuotaExceeded: it would; the caller's transaction is to be undone.
    """
    name, quota, before = _usage(transaction, repo)
    yield
    if quota is None:
        return
    _, _, after = _usage(transaction, repo)
    if after > before and after > quota:
        raise QuotaExceeded(f"{_called(name)} may hold {quota} bytes, this would make it {after}", hint=_MAKE_ROOM)


def no_room(repo: str, room: int) -> QuotaExceeded:
    """For an upload that is larger than what was left when it began."""
    return QuotaExceeded(f"{_called(namespace_of(repo))} has room for {room} bytes, this is more", hint=_MAKE_ROOM)


def _called(name: str) -> str:
    return f"namespace {name}" if name else "the namespace of names without a slash"


def _usage(transaction: sqlite3.Connection, repo: int) -> tuple[str, int | None, int]:
    found: tuple[str, int | None, int] = transaction.execute(
        f"SELECT n.name, n.quota_bytes, CASE WHEN n.quota_bytes IS NULL THEN 0 ELSE {_USED} END "  # noqa: S608 - a constant
        "FROM repo r JOIN namespace n ON n.id = r.ns_id WHERE r.id = ?",
        (repo,),
    ).fetchone()
    return found


def _row(transaction: sqlite3.Connection, name: str) -> int:
    """The namespace's row, made if absent."""
    if name not in ("", EVERYTHING):
        check_repository(name)
        if "/" in name:
            raise NameInvalid(f"not a namespace: {name[:100]!r}", hint="it is the first component of repository names")
    transaction.execute("INSERT INTO namespace (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    (row,) = transaction.execute("SELECT id FROM namespace WHERE name = ?", (name,)).fetchone()
    return int(row)
