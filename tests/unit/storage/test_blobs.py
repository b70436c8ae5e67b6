"""Blobs: verified on the way in, whole or absent, the same for every thread and process."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.errors import BlobUnknown, DigestInvalid, SizeInvalid, StoreError
from registry.model import Digest
from registry.storage import ContentStore

HELLO = Digest.of(b"hello")


def uploads(store: ContentStore) -> list[str]:
    return sorted(os.listdir(store.root / "uploads"))


class TestIngest:
    def test_a_blob_put_in_pieces_comes_back_whole(self, store: ContentStore) -> None:
        with store.ingest() as blob:
            blob.write(b"hel")
            blob.write(memoryview(b"lo"))
            assert blob.size == 5
            assert blob.commit(HELLO, 5) == HELLO
        assert store.read(HELLO) == b"hello"
        assert store.size(HELLO) == 5
        assert store.has(HELLO)

    def test_it_lies_under_its_digest_and_only_its_owner_may_read_it(self, store: ContentStore) -> None:
        store.put(b"hello")
        path = store.root / "blobs" / "sha256" / HELLO.encoded[:2] / HELLO.encoded
        assert store.path(HELLO) == path
        assert path.read_bytes() == b"hello"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_leaving_without_commit_discards(self, store: ContentStore) -> None:
        with store.ingest() as blob:
            blob.write(b"hello")
        assert not store.has(HELLO)
        assert uploads(store) == []

    def test_content_of_another_digest_is_refused(self, store: ContentStore) -> None:
        with store.ingest() as blob:
            blob.write(b"hullo")
            with pytest.raises(DigestInvalid, match="expected sha256:2cf24"):
                blob.commit(HELLO)
        assert not store.has(HELLO)
        assert uploads(store) == []

    def test_content_of_another_size_is_refused(self, store: ContentStore) -> None:
        with store.ingest() as blob:
            blob.write(b"hello")
            with pytest.raises(SizeInvalid, match="5 bytes came, 6 were announced"):
                blob.commit(HELLO, 6)
        assert not store.has(HELLO)

    def test_sha512_is_an_algorithm_too(self, store: ContentStore) -> None:
        digest = Digest("sha512", hashlib.sha512(b"hello").hexdigest())
        assert store.put(b"hello", expected=digest) == digest
        assert store.read(digest) == b"hello"
        assert not store.has(HELLO)

    def test_other_algorithms_are_refused_before_a_byte_is_taken(self, store: ContentStore) -> None:
        with pytest.raises(DigestInvalid):
            store.ingest("md5")

    def test_the_empty_blob_is_a_blob(self, store: ContentStore) -> None:
        assert store.read(store.put(b"")) == b""

    def test_putting_twice_keeps_one(self, store: ContentStore) -> None:
        store.put(b"hello")
        before = store.path(HELLO).stat().st_ino
        store.put(b"hello")
        assert store.path(HELLO).stat().st_ino == before
        assert uploads(store) == []

    def test_many_threads_put_the_same_and_other_content(self, store: ContentStore) -> None:
        def work(number: int) -> None:
            for turn in range(10):
                store.put(b"shared %d" % turn)
                store.put(b"%d %d" % (number, turn))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert all(store.has(Digest.of(b"shared %d" % turn)) for turn in range(10))
        assert all(store.has(Digest.of(b"%d %d" % (number, turn))) for number in range(8) for turn in range(10))
        assert uploads(store) == []


class TestReading:
    def test_what_is_not_there_is_unknown(self, store: ContentStore) -> None:
        assert not store.has(HELLO)
        for ask in (store.size, store.path, store.open_blob, store.read):
            with pytest.raises(BlobUnknown, match=HELLO.encoded):
                ask(HELLO)

    def test_open_gives_the_file(self, store: ContentStore) -> None:
        store.put(b"hello")
        with store.open_blob(HELLO) as file:
            assert file.read() == b"hello"

    def test_read_takes_no_more_into_memory_than_asked(self, store: ContentStore) -> None:
        store.put(b"hello")
        with pytest.raises(SizeInvalid, match="larger than 4 bytes"):
            store.read(HELLO, limit=4)

    def test_read_does_not_believe_a_damaged_file(self, store: ContentStore) -> None:
        store.put(b"hello")
        store.path(HELLO).write_bytes(b"hullo")
        with pytest.raises(DigestInvalid, match="damaged"):
            store.read(HELLO)


class TestHealing:
    """A file without a row, or a row without its file, is what a crash or a hand leaves."""

    def test_a_file_without_a_row_is_no_blob_until_its_content_comes_again(self, store: ContentStore) -> None:
        path = store.root / "blobs" / "sha256" / HELLO.encoded[:2] / HELLO.encoded
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        assert not store.has(HELLO)
        store.put(b"hello")
        assert store.read(HELLO) == b"hello"
        assert uploads(store) == []

    def test_a_row_without_its_file_is_made_good(self, store: ContentStore) -> None:
        store.put(b"hello")
        store.path(HELLO).unlink()
        assert not store.has(HELLO)
        with pytest.raises(BlobUnknown):
            store.open_blob(HELLO)
        store.put(b"hello")
        assert store.read(HELLO) == b"hello"

    def test_a_truncated_file_is_made_good(self, store: ContentStore) -> None:
        store.put(b"hello")
        os.truncate(store.path(HELLO), 2)
        assert not store.has(HELLO)
        store.put(b"hello")
        assert store.read(HELLO) == b"hello"


def test_a_closed_store_says_so(root: Path) -> None:
    store = ContentStore.open(root)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.has(HELLO)


def test_all_blobs_are_listed_with_who_needs_them(store: ContentStore) -> None:
    linked, cached, leased, spare = (store.put(name) for name in (b"linked", b"cached", b"leased", b"spare"))
    store.link_blob("app", linked)
    store.cache_put(Digest.of(b"key"), b"record", [cached])
    with store.lease() as lease:
        lease.hold(leased)
        found = {blob.digest: (blob.size, blob.linked, blob.cached, blob.leased) for blob in store.blobs()}
    assert found == {
        linked: (6, True, False, False),
        cached: (6, False, True, False),
        leased: (6, False, False, True),
        spare: (5, False, False, False),
    }
