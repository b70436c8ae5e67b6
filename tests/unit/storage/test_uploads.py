"""Resumable uploads: any process continues where the bytes end, one at a time."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import ChunkOutOfOrder, DigestInvalid, UploadUnknown
from registry.model import Digest
from registry.storage import ContentStore

HELLO = Digest.of(b"hello")


def test_in_pieces_becomes_a_blob_of_its_repository(store: ContentStore) -> None:
    upload = store.start_upload("app")
    assert upload.size == 0
    assert upload.append(b"hel") == 3
    assert upload.append(b"lo") == 5
    assert upload.finish(HELLO) == HELLO
    assert store.read(HELLO) == b"hello"
    assert store.repo_has("app", HELLO)
    assert not store.repo_has("other", HELLO)
    assert os.listdir(store.root / "uploads") == []
    with pytest.raises(UploadUnknown):
        store.upload("app", upload.id)


def test_of_no_bytes_is_the_empty_blob(store: ContentStore) -> None:
    empty = Digest.of(b"")
    assert store.start_upload("app").finish(empty) == empty
    assert store.read(empty) == b""


def test_continues_in_the_same_process(store: ContentStore) -> None:
    upload = store.start_upload("app")
    upload.append(b"hel")
    upload.flush()
    again = store.upload("app", upload.id)
    assert (again.id, again.repo, again.size) == (upload.id, "app", 3)
    again.append(b"lo")
    again.flush()
    assert store.upload("app", upload.id).finish(HELLO) == HELLO


def test_continues_in_another_process(store: ContentStore) -> None:
    upload = store.start_upload("app")
    upload.append(b"hel")
    upload.flush()
    with ContentStore.open(store.root) as other:
        again = other.upload("app", upload.id)
        assert again.size == 3
        again.append(b"lo")
        again.flush()
    assert store.upload("app", upload.id).finish(HELLO) == HELLO


def test_what_a_killed_writer_left_counts(store: ContentStore) -> None:
    upload = store.start_upload("app")
    with open(store.root / "uploads" / upload.id, "wb") as left:
        left.write(b"hel")
    again = store.upload("app", upload.id)
    assert again.size == 3
    again.append(b"lo")
    assert again.finish(HELLO) == HELLO


def test_only_one_writes_at_a_time(store: ContentStore) -> None:
    first = store.start_upload("app")
    first.append(b"hel")
    with ContentStore.open(store.root) as other:
        second = other.upload("app", first.id)
        with pytest.raises(ChunkOutOfOrder, match="another request"):
            second.append(b"XX")
        first.flush()
        second.append(b"lo")
        second.flush()
    with pytest.raises(ChunkOutOfOrder, match="stands at byte 5"):
        first.append(b"lo")
    assert store.upload("app", first.id).finish(HELLO) == HELLO


def test_the_wrong_digest_ends_it(store: ContentStore) -> None:
    upload = store.start_upload("app")
    upload.append(b"hullo")
    with pytest.raises(DigestInvalid):
        upload.finish(HELLO)
    assert not store.has(HELLO)
    assert os.listdir(store.root / "uploads") == []
    with pytest.raises(UploadUnknown):
        store.upload("app", upload.id)


def test_another_algorithm_may_be_asked_for_at_the_end(store: ContentStore) -> None:
    digest = Digest("sha512", hashlib.sha512(b"hello").hexdigest())
    upload = store.start_upload("app")
    upload.append(b"hello")
    assert upload.finish(digest) == digest
    early = store.start_upload("app", algorithm="sha512")
    early.append(b"hello")
    assert early.finish(digest) == digest


def test_an_unknown_algorithm_is_refused_at_the_start(store: ContentStore) -> None:
    with pytest.raises(DigestInvalid):
        store.start_upload("app", algorithm="md5")


def test_cancel_leaves_nothing(store: ContentStore) -> None:
    upload = store.start_upload("app")
    upload.append(b"hello")
    upload.cancel()
    assert os.listdir(store.root / "uploads") == []
    with pytest.raises(UploadUnknown):
        store.upload("app", upload.id)


@pytest.mark.parametrize("identity", ["", "..", "../meta.db", "0" * 32, "part-1", "0" * 31 + "G"])
def test_an_unknown_id_is_unknown(store: ContentStore, identity: str) -> None:
    with pytest.raises(UploadUnknown):
        store.upload("app", identity)


def test_belongs_to_its_repository(store: ContentStore) -> None:
    upload = store.start_upload("app")
    with pytest.raises(UploadUnknown):
        store.upload("other", upload.id)


def test_of_what_the_store_has_already_ends_the_same(store: ContentStore) -> None:
    store.put(b"hello")
    upload = store.start_upload("app")
    upload.append(b"hello")
    upload.finish(HELLO)
    assert store.repo_has("app", HELLO)
    assert os.listdir(store.root / "uploads") == []


def test_cancelled_by_another_while_it_was_written_is_unknown_and_leaves_nothing(store: ContentStore) -> None:
    upload = store.start_upload("app")
    upload.append(b"hello")
    store.upload("app", upload.id).cancel()
    with pytest.raises(UploadUnknown):
        upload.finish(HELLO)
    assert not store.has(HELLO)


def test_may_be_flushed_while_a_thread_appends(store: ContentStore) -> None:
    content = [bytes([number]) * 10_000 for number in range(100)]
    upload = store.start_upload("app")
    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(lambda: [upload.append(chunk) for chunk in content])
        while not appending.done():
            upload.flush()
        assert appending.result()[-1] == 1_000_000
    whole = b"".join(content)
    assert upload.finish(Digest.of(whole)) == Digest.of(whole)
    assert store.read(Digest.of(whole)) == whole
