"""Small blobs in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import BlobUnknown, StoreError
from registry.model import Digest
from registry.server.local import SmallBlobs
from registry.storage import ContentStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    with ContentStore.open(tmp_path / "root") as found:
        yield found


class TestSmallBlobs:
    def test_are_read_from_disk_once(self, store: ContentStore) -> None:
        small = SmallBlobs(store, 10_000)
        digest = store.put(b"content")
        assert small.read(digest) == b"content"
        store.path(digest).unlink()
        assert small.read(digest) == b"content"

    def test_never_take_more_memory_than_given_and_keep_what_was_used_last(self, store: ContentStore) -> None:
        small = SmallBlobs(store, 2500)
        digests = [store.put(bytes([number]) * 600) for number in range(3)]
        for number in (0, 1, 0, 2):  # 1 is used least recently when 2 needs its place
            small.read(digests[number])
        for digest in digests:
            store.path(digest).unlink()
        assert small.read(digests[0]) == b"\0" * 600
        assert small.read(digests[2]) == b"\2" * 600
        with pytest.raises(BlobUnknown):
            small.read(digests[1])

    def test_that_are_damaged_on_disk_are_the_servers_fault(self, store: ContentStore) -> None:
        digest = store.put(b"content")
        store.path(digest).chmod(0o600)
        store.path(digest).write_bytes(b"CONTENT")
        with pytest.raises(StoreError, match="damaged"):
            SmallBlobs(store, 1000).read(digest)

    def test_that_nobody_knows_are_unknown(self, store: ContentStore) -> None:
        with pytest.raises(BlobUnknown):
            SmallBlobs(store, 1000).read(Digest.of(b"never"))
