"""Which repository may read which blob."""

import pytest

from registry.errors import BlobUnknown, NameUnknown
from registry.model import Digest
from registry.storage import ContentStore
from tests.unit.storage.conftest import Images

ABSENT = Digest.of(b"absent")


class TestLinks:
    def test_a_stored_blob_belongs_to_nobody_until_it_is_linked(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        assert not store.repo_has("app", digest)
        store.link_blob("app", digest)
        assert store.repo_has("app", digest)
        assert not store.repo_has("other", digest)

    def test_what_is_not_stored_cannot_be_linked_and_then_nothing_is(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        with pytest.raises(BlobUnknown):
            store.link_blob("app", digest, ABSENT)
        assert not store.repo_has("app", digest)

    def test_unlinking_takes_it_from_that_repository_only(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        store.link_blob("app", digest)
        store.link_blob("other", digest)
        store.unlink_blob("app", digest)
        assert not store.repo_has("app", digest)
        assert store.repo_has("other", digest)
        with pytest.raises(BlobUnknown):
            store.unlink_blob("app", digest)
        with pytest.raises(BlobUnknown):
            store.unlink_blob("never/seen", digest)

    def test_asking_with_extend_answers_the_same(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        assert not store.repo_has("app", digest, extend=True)
        store.link_blob("app", digest)
        assert store.repo_has("app", digest, extend=True)


class TestMount:
    def test_from_a_repository_that_has_it(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        store.link_blob("source", digest)
        assert store.mount("target", digest, "source")
        assert store.repo_has("target", digest)

    @pytest.mark.parametrize("source", ["target", "elsewhere", "never/seen"])
    def test_not_from_one_that_has_it_not_though_the_store_does(self, store: ContentStore, source: str) -> None:
        digest = store.put(b"hello")
        store.link_blob("third", digest)
        assert not store.mount("target", digest, source)
        assert not store.repo_has("target", digest)

    def test_from_anywhere(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        assert not store.mount("target", digest, None), "in no repository: nobody may read it"
        store.link_blob("source", digest)
        assert store.mount("target", digest, None)

    def test_what_is_nowhere(self, store: ContentStore) -> None:
        assert not store.mount("target", ABSENT, "source")
        assert not store.mount("target", ABSENT, None)


class TestNames:
    def test_repositories_with_an_image_in_bytewise_order_page_by_page(
        self, store: ContentStore, images: Images
    ) -> None:
        for name in ("b", "a-b", "a/b", "a", "a.b", "localhost:5000/a"):
            images.put(name, "x")
        ordered = ["a", "a-b", "a.b", "a/b", "b", "localhost:5000/a"]
        assert store.repositories() == ordered
        assert store.repositories(limit=2) == ordered[:2]
        assert store.repositories(after="a-b", limit=3) == ordered[2:5]
        assert store.repositories(after="zz") == []
        assert store.repositories(limit=0) == []

    def test_an_upload_alone_makes_no_repository(self, store: ContentStore) -> None:
        store.start_upload("app")
        assert store.repositories() == []
        with pytest.raises(NameUnknown):
            store.tags("app")
