"""The build cache's index."""

import pytest

from registry.errors import BlobUnknown
from registry.model import Digest
from registry.storage import ContentStore

KEY = Digest.of(b"RUN make")


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
