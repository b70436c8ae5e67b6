"""The build cache's index: opaque records under content keys, and the blobs that each of them needs."""

import time
from collections.abc import Sequence

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.leases import is_live
from registry.storage.values import CacheEntry

TOUCH_SECONDS = 600.0  # a record's time of use is not written more often than this
_AT_ONCE = 500  # keys in one statement: SQLite takes 999 values
_INSERT = "INSERT INTO cache_entry (key, record, created, kind, used) VALUES (?, ?, ?, ?, ?)"


class CacheIndex:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: Digest) -> bytes | None:
        found = self._database.row("SELECT record FROM cache_entry WHERE key = ?", (str(key),))
        return None if found is None else bytes(found[0])

    def put(self, key: Digest, record: bytes, holds: Sequence[Digest], kind: str, *, durable: bool) -> None:
        with self._database.write(durable=durable) as transaction:
            for digest in holds:
                if not is_live(transaction, digest):
                    raise BlobUnknown(f"no blob {digest} for a cache record", hint="build again")
            now = time.time()
            transaction.execute("DELETE FROM cache_entry WHERE key = ?", (str(key),))
            transaction.execute(_INSERT, (str(key), record, now, kind, now))
            transaction.executemany(
                "INSERT INTO cache_hold (key, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(str(key), str(digest)) for digest in holds],
            )
            crash_point("cache-row")

    def touch(self, keys: Sequence[Digest]) -> None:
        """Looks before it writes: what is used every minute is written every ten."""
        before = time.time() - TOUCH_SECONDS
        for start in range(0, len(keys), _AT_ONCE):
            names = [str(key) for key in keys[start : start + _AT_ONCE]]
            marks = ",".join("?" * len(names))
            stale = self._database.rows(
                f"SELECT key FROM cache_entry WHERE used <= ? AND key IN ({marks})",  # noqa: S608 - only ?s
                (before, *names),
            )
            if stale:
                now = time.time()
                with self._database.write(durable=False) as transaction:
                    transaction.executemany(
                        "UPDATE cache_entry SET used = ? WHERE key = ?", [(now, key) for (key,) in stale]
                    )

    def entries(self) -> list[CacheEntry]:
        with self._database.read() as connection:
            holds: dict[str, list[Digest]] = {}
            for key, digest in connection.execute("SELECT key, digest FROM cache_hold ORDER BY digest"):
                holds.setdefault(key, []).append(Digest.parse(digest))
            rows = connection.execute("SELECT key, kind, record, created, used FROM cache_entry ORDER BY used, key")
            return [
                CacheEntry(Digest.parse(key), kind, bytes(record), tuple(holds.get(key, ())), created, used)
                for key, kind, record, created, used in rows
            ]

    def drop(self, keys: Sequence[Digest], used_before: float) -> int:
        with self._database.write() as transaction:
            gone = 0
            for key in keys:
                gone += transaction.execute(
                    "DELETE FROM cache_entry WHERE key = ? AND used <= ?", (str(key), used_before)
                ).rowcount
            crash_point("cache-dropped")
        return gone

    def clear(self) -> None:
        with self._database.write() as transaction:
            transaction.execute("DELETE FROM cache_entry")
            crash_point("cache-cleared")
