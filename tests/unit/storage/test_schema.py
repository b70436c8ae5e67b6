"""Migrations: each store is brought to the newest schema, whole or not at all; nothing is lost on the way."""

import sqlite3
from pathlib import Path

import pytest

from registry.errors import StoreError
from registry.storage import ContentStore, schema


def version(root: Path) -> int:
    database = sqlite3.connect(root / "meta.db")
    found = schema.schema_version(database)
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
    assert version(root) == 2


def test_a_migration_that_fails_leaves_the_old_version_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ContentStore.open(root) as store:
        digest = store.put(b"hello")
    with monkeypatch.context() as broken:
        with_next(broken, "CREATE TABLE x (y TEXT); CREATE TABLE blob (z TEXT);")
        with pytest.raises(StoreError, match="blob already exists"):
            ContentStore.open(root)
    assert version(root) == 1
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
