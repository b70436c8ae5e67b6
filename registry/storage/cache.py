"""The build cache's index: opaque records under content keys, and the blobs that each of them needs."""

import time
from collections.abc import Sequence

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage.crash import crash_point
from registry.storage.database import Database
from registry.storage.leases import is_live


class CacheIndex:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: Digest) -> bytes | None:
        found = self._database.row("SELECT record FROM cache_entry WHERE key = ?", (str(key),))
        return None if found is None else bytes(found[0])

    def put(self, key: Digest, record: bytes, holds: Sequence[Digest]) -> None:
        with self._database.write() as transaction:
            for digest in holds:
                if not is_live(transaction, digest):
                    raise BlobUnknown(f"no blob {digest} for a cache record", hint="build again")
            transaction.execute("DELETE FROM cache_entry WHERE key = ?", (str(key),))
            transaction.execute("INSERT INTO cache_entry VALUES (?, ?, ?)", (str(key), record, time.time()))
            transaction.executemany(
                "INSERT INTO cache_hold (key, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(str(key), str(digest)) for digest in holds],
            )
            crash_point("cache-row")

    def clear(self) -> None:
        with self._database.write() as transaction:
            transaction.execute("DELETE FROM cache_entry")
            crash_point("cache-cleared")
