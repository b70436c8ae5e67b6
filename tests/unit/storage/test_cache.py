"""The build cache's index."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage import ContentStore

KEY = Digest.of(b"RUN make")
OTHER = Digest.of(b"RUN make test")


def test_a_record_comes_back_and_is_replaced(store: ContentStore) -> None:
    assert store.cache_get(KEY) is None
    store.cache_put(KEY, b"one")
    store.cache_put(KEY, b"two")
    assert store.cache_get(KEY) == b"two"


def test_held_content_survives_collection_until_the_cache_is_cleared(store: ContentStore) -> None:
    layer, other = store.put(b"layer"), store.put(b"other")
    store.cache_put(KEY, b"record", [layer, layer])
    store.collect(grace_seconds=0)
    assert store.has(layer)
    assert not store.has(other)
    store.cache_clear()
    assert store.cache_get(KEY) is None
    store.collect(grace_seconds=0)
    assert not store.has(layer)


def test_replacing_a_record_lets_go_of_what_the_old_one_held(store: ContentStore) -> None:
    layer, other = store.put(b"layer"), store.put(b"other")
    store.cache_put(KEY, b"one", [layer])
    store.cache_put(KEY, b"two", [other])
    store.collect(grace_seconds=0)
    assert (store.has(layer), store.has(other)) == (False, True)


def test_a_record_about_lost_content_is_refused(store: ContentStore) -> None:
    store.cache_put(KEY, b"one")
    with pytest.raises(BlobUnknown):
        store.cache_put(KEY, b"two", [Digest.of(b"absent")])
    assert store.cache_get(KEY) == b"one"


class TestUse:
    def test_entries_come_longest_unused_first_with_what_they_hold(self, store: ContentStore, old: "Age") -> None:
        layer = store.put(b"layer")
        store.cache_put(KEY, b"one", [layer])
        store.cache_put(OTHER, b"two", kind="files")
        old(OTHER, 3600)
        assert [(entry.key, entry.kind, entry.record, entry.holds) for entry in store.cache_entries()] == [
            (OTHER, "files", b"two", ()),
            (KEY, "step", b"one", (layer,)),
        ]

    def test_a_touch_makes_an_old_entry_young(self, store: ContentStore, old: "Age") -> None:
        store.cache_put(KEY, b"one")
        old(KEY, 3600)
        store.cache_touch([KEY, OTHER])
        assert time.time() - store.cache_entries()[0].used < 60

    def test_a_touch_of_a_young_entry_writes_nothing(self, store: ContentStore, old: "Age") -> None:
        store.cache_put(KEY, b"one")
        old(KEY, 60)
        before = store.cache_entries()
        store.cache_touch([KEY])
        assert store.cache_entries() == before

    def test_what_was_of_use_meanwhile_is_not_dropped(self, store: ContentStore, old: "Age") -> None:
        store.cache_put(KEY, b"one")
        store.cache_put(OTHER, b"two")
        old(OTHER, 3600)
        assert store.cache_drop([KEY, OTHER], used_before=time.time() - 60) == 1
        assert [entry.key for entry in store.cache_entries()] == [KEY]


Age = Callable[[Digest, float], None]


@pytest.fixture
def old(store: ContentStore, root: Path) -> Age:
    """Makes an entry look unused for so many seconds."""

    def age(key: Digest, seconds: float) -> None:
        with closing(sqlite3.connect(root / "meta.db")) as database, database:
            database.execute("UPDATE cache_entry SET used = ? WHERE key = ?", (time.time() - seconds, str(key)))

    return age
