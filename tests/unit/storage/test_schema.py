"""Migrations: each store is brought to the newest schema, whole or not at all; nothing is lost on the way."""

import sqlite3
from pathlib import Path

import pytest

from registry.errors import StoreError
from registry.model import Digest
from registry.storage import ContentStore, schema

NOW = len(schema.MIGRATIONS)


def version(root: Path) -> int:
    database = sqlite3.connect(root / "meta.db")
    found = schema.schema_version(database).expanded
    database.close()
    return found


def with_next(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """As the next release will have it."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))


def test_an_older_store_is_brought_up_and_keeps_its_content(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ContentStore.open(root) as store:
        digest = store.put(b"hello")
    with_next(
        monkeypatch, "ALTER TABLE blob ADD COLUMN note TEXT; -- a remark; with a semicolon\nCREATE TABLE x (y TEXT);"
    )
    with ContentStore.open(root) as store:
        assert store.read(digest) == b"hello"
    assert version(root) == NOW + 1


def test_a_migration_that_fails_leaves_the_old_version_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ContentStore.open(root) as store:
        digest = store.put(b"hello")
    with monkeypatch.context() as broken:
        with_next(broken, "CREATE TABLE x (y TEXT); CREATE TABLE blob (z TEXT);")
        with pytest.raises(StoreError, match="blob already exists"):
            ContentStore.open(root)
    assert version(root) == NOW
    with ContentStore.open(root) as store:
        assert store.read(digest) == b"hello"


@pytest.mark.parametrize(
    "table",
    [
        "namespace", "repo", "blob", "repo_blob", "manifest", "manifest_ref", "tag", "tag_event", "upload", "gc_queue",
        "gc_object", "ns_blob", "usage_ledger", "outbox", "audit", "lease", "lease_blob", "cache_entry", "cache_hold",
    ],
)  # fmt: skip
def test_the_tables_of_the_plan_are_there_from_the_first_day(root: Path, table: str) -> None:
    ContentStore.open(root).close()
    database = sqlite3.connect(root / "meta.db")
    columns = database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    database.close()
    assert columns


def test_a_store_of_the_first_version_keeps_its_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Digest.of(b"RUN make")
    with monkeypatch.context() as past:
        past.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        ContentStore.open(root).close()
    database = sqlite3.connect(root / "meta.db")
    with database:
        database.execute("INSERT INTO cache_entry VALUES (?, ?, ?)", (str(key), b"record", 1.5))
    database.close()
    with ContentStore.open(root) as store:
        assert store.cache_get(key) == b"record"
        assert [(entry.kind, entry.used) for entry in store.cache_entries()] == [("step", 1.5)]
