"""Manifests and tags: in only with all they need, byte for byte, and each change whole."""

import hashlib
import json
import sqlite3

import pytest

from registry.errors import (
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameUnknown,
    SizeInvalid,
    TagConflict,
    TagInvalid,
)
from registry.model import Descriptor, Digest, Index, Manifest, MediaType
from registry.storage import ContentStore, Precondition, StoredManifest
from tests.unit.storage.conftest import Images

OCI = MediaType.OCI_MANIFEST
ABSENT = Digest.of(b"absent")


class TestPut:
    def test_comes_back_byte_for_byte_by_tag_and_by_digest(self, store: ContentStore, images: Images) -> None:
        content = images.manifest("x").replace(b'{"schema', b'{  "unknown": [1.50],\n"schema')
        digest = store.put_manifest("app", content, OCI, tags=["1", "latest"], adopt=True)
        assert digest == Digest.of(content)
        stored = StoredManifest(digest, OCI, content)
        assert store.manifest("app", "1") == store.manifest("app", "latest") == store.manifest("app", digest) == stored

    def test_by_another_algorithm_it_is_another_object(self, store: ContentStore, images: Images) -> None:
        content = images.manifest("x")
        expected = Digest("sha512", hashlib.sha512(content).hexdigest())
        assert store.put_manifest("app", content, OCI, expected=expected, adopt=True) == expected
        assert store.manifest("app", expected).content == content
        with pytest.raises(ManifestUnknown):
            store.manifest("app", Digest.of(content))

    def test_a_wrong_digest_is_refused(self, store: ContentStore, images: Images) -> None:
        with pytest.raises(DigestInvalid):
            store.put_manifest("app", images.manifest("x"), OCI, expected=ABSENT, adopt=True)

    def test_a_wrong_media_type_is_refused(self, store: ContentStore, images: Images) -> None:
        with pytest.raises(ManifestInvalid):
            store.put_manifest("app", images.manifest("x"), MediaType.OCI_INDEX, adopt=True)

    def test_four_mebibytes_are_the_limit(self, store: ContentStore) -> None:
        with pytest.raises(ManifestTooLarge):
            store.put_manifest("app", b" " * (4 * 1024 * 1024 + 1), OCI)

    def test_a_bad_tag_is_refused_and_nothing_stored(self, store: ContentStore, images: Images) -> None:
        with pytest.raises(TagInvalid):
            store.put_manifest("app", images.manifest("x"), OCI, tags=["ok", "not ok"], adopt=True)
        assert store.repositories() == []

    def test_again_changes_nothing(self, store: ContentStore, images: Images) -> None:
        first = images.put("app", "x", "1")
        assert images.put("app", "x", "1") == first
        assert store.tags("app") == ["1"]


class TestChildren:
    def test_must_belong_to_the_repository_even_if_the_store_has_them(
        self, store: ContentStore, images: Images
    ) -> None:
        config, layer = images.blobs("x")
        content = Manifest(OCI, config, (layer,)).to_bytes()
        with pytest.raises(ManifestBlobUnknown, match=config.digest.encoded):
            store.put_manifest("app", content, OCI)
        store.link_blob("app", config.digest)
        with pytest.raises(ManifestBlobUnknown, match=layer.digest.encoded):
            store.put_manifest("app", content, OCI)
        store.link_blob("app", layer.digest)
        store.put_manifest("app", content, OCI)

    def test_adopting_does_not_invent_what_the_store_lacks(self, store: ContentStore, images: Images) -> None:
        config, _ = images.blobs("x")
        layer = Descriptor(MediaType.OCI_LAYER, ABSENT, 6)
        with pytest.raises(ManifestBlobUnknown):
            store.put_manifest("app", Manifest(OCI, config, (layer,)).to_bytes(), OCI, adopt=True)
        assert not store.repo_has("app", config.digest), "all or nothing"

    def test_a_lie_about_a_size_is_refused(self, store: ContentStore, images: Images) -> None:
        config, layer = images.blobs("x")
        lie = Descriptor(layer.media_type, layer.digest, layer.size + 1)
        with pytest.raises(SizeInvalid, match="1 bytes, the manifest says 2"):
            store.put_manifest("app", Manifest(OCI, config, (lie,)).to_bytes(), OCI, adopt=True)

    @pytest.mark.parametrize(
        "foreign",
        [
            Descriptor(MediaType.DOCKER_FOREIGN_LAYER, ABSENT, 2**62),
            Descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ABSENT, 2**62),
            Descriptor(MediaType.OCI_LAYER_GZIP, ABSENT, 2**62, urls=("https://example.com/layer",)),
        ],
    )
    def test_layers_that_live_elsewhere_are_not_needed(
        self, store: ContentStore, images: Images, foreign: Descriptor
    ) -> None:
        config, layer = images.blobs("x")
        content = Manifest(OCI, config, (layer, foreign, foreign)).to_bytes()
        assert store.put_manifest("app", content, OCI, adopt=True) == Digest.of(content)

    def test_a_subject_is_not_needed(self, store: ContentStore, images: Images) -> None:
        content = images.manifest("x", subject=Descriptor(OCI, ABSENT, 5))
        store.put_manifest("app", content, OCI, adopt=True)

    def test_deleted_under_a_manifest_are_missed_when_it_comes_again(self, store: ContentStore, images: Images) -> None:
        _, layer = images.blobs("x")
        content = store.manifest("app", images.put("app", "x")).content
        store.unlink_blob("app", layer.digest)
        with pytest.raises(ManifestBlobUnknown):
            store.put_manifest("app", content, OCI)
        store.put_manifest("app", content, OCI, adopt=True)
        assert store.repo_has("app", layer.digest)


class TestIndexes:
    def test_need_their_images_unless_sparse(self, store: ContentStore, images: Images) -> None:
        here = images.descriptor("app", images.put("app", "x"))
        content = Index(MediaType.OCI_INDEX, (here, Descriptor(OCI, ABSENT, 5))).to_bytes()
        with pytest.raises(ManifestBlobUnknown):
            store.put_manifest("app", content, MediaType.OCI_INDEX, tags=["all"], adopt=True)
        store.put_manifest("app", content, MediaType.OCI_INDEX, tags=["all"], sparse=True)
        assert store.manifest("app", "all").content == content

    def test_images_of_another_repository_do_not_count(self, store: ContentStore, images: Images) -> None:
        elsewhere = images.descriptor("other", images.put("other", "x"))
        with pytest.raises(ManifestBlobUnknown):
            store.put_manifest("app", Index(MediaType.OCI_INDEX, (elsewhere,)).to_bytes(), MediaType.OCI_INDEX)

    def test_may_list_blobs_as_build_caches_do(self, store: ContentStore, images: Images) -> None:
        config, layer = images.blobs("x")
        content = Index(MediaType.OCI_INDEX, (layer, config)).to_bytes()
        store.put_manifest("cache", content, MediaType.OCI_INDEX, tags=["1"], adopt=True)
        store.collect(grace_seconds=0, untagged_seconds=0)
        assert store.has(layer.digest)

    def test_may_be_empty(self, store: ContentStore) -> None:
        store.put_manifest("app", Index(MediaType.OCI_INDEX, ()).to_bytes(), MediaType.OCI_INDEX, tags=["none"])


class TestTags:
    def test_are_listed_in_bytewise_order_page_by_page(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x", "b", "B", "10", "9", "_", "a.1")
        ordered = ["10", "9", "B", "_", "a.1", "b"]
        assert store.tags("app") == ordered
        assert store.tags("app", limit=2) == ordered[:2]
        assert store.tags("app", after="9", limit=2) == ordered[2:4]
        assert store.tags("app", after="b") == []
        assert store.tags("app", limit=0) == []

    def test_of_an_unknown_repository_are_an_error(self, store: ContentStore) -> None:
        with pytest.raises(NameUnknown):
            store.tags("app")

    def test_of_a_repository_without_any_are_an_empty_list(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x")
        assert store.tags("app") == []

    def test_move(self, store: ContentStore, images: Images) -> None:
        images.put("app", "x", "latest")
        second = images.put("app", "y", "latest")
        assert store.manifest("app", "latest").digest == second
        assert store.tags("app") == ["latest"]

    def test_point_only_to_a_manifest_of_the_same_repository(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "x")
        store.tag("app", "new", digest)
        assert store.manifest("app", "new").digest == digest
        with pytest.raises(ManifestUnknown):
            store.tag("other", "new", digest)
        with pytest.raises(ManifestUnknown):
            store.tag("app", "new", ABSENT)
        with pytest.raises(TagInvalid):
            store.tag("app", "-new", digest)

    def test_are_removed_alone(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "x", "1", "2")
        store.untag("app", "1")
        assert store.tags("app") == ["2"]
        assert store.manifest("app", digest).digest == digest
        with pytest.raises(ManifestUnknown, match="app:1"):
            store.untag("app", "1")

    def test_leave_a_history(self, store: ContentStore, images: Images) -> None:
        one, two = images.put("app", "x", "1"), images.put("app", "y", "1")
        images.put("app", "y", "1")
        store.untag("app", "1")
        database = sqlite3.connect(store.root / "meta.db")
        events = database.execute("SELECT name, old, new FROM tag_event ORDER BY id").fetchall()
        database.close()
        assert events == [("1", None, str(one)), ("1", str(one), str(two)), ("1", str(two), None)]


class TestCompareAndSwap:
    def test_that_must_be_new_refuses_to_move(self, store: ContentStore, images: Images) -> None:
        content = images.manifest("y")
        first = images.put("app", "x", "1")
        with pytest.raises(TagConflict):
            store.put_manifest("app", content, OCI, tags=["new", "1"], adopt=True, when=Precondition(must_be_new=True))
        assert store.tags("app") == ["1"], "all tags or none"
        assert store.manifest("app", "1").digest == first
        with pytest.raises(ManifestUnknown):
            store.manifest("app", Digest.of(content))

    def test_that_must_be_somewhere_moves_only_from_there(self, store: ContentStore, images: Images) -> None:
        first, second = images.put("app", "x", "1"), images.put("app", "y")
        with pytest.raises(TagConflict):
            store.tag("app", "1", second, when=Precondition(frozenset({second})))
        with pytest.raises(TagConflict):
            store.tag("app", "absent", second, when=Precondition(frozenset({first})))
        store.tag("app", "1", second, when=Precondition(frozenset({first})))
        assert store.manifest("app", "1").digest == second


class TestDelete:
    def test_takes_all_its_tags_along(self, store: ContentStore, images: Images) -> None:
        digest, other = images.put("app", "x", "1", "2"), images.put("app", "y", "3")
        store.delete_manifest("app", digest)
        assert store.tags("app") == ["3"]
        for ref in (digest, "1"):
            with pytest.raises(ManifestUnknown):
                store.manifest("app", ref)
        assert store.manifest("app", "3").digest == other
        with pytest.raises(ManifestUnknown):
            store.delete_manifest("app", digest)

    def test_leaves_the_same_manifest_of_other_repositories(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "x", "1")
        images.put("other", "x", "1")
        store.delete_manifest("app", digest)
        assert store.manifest("other", "1").digest == digest


class TestListings:
    def test_images_are_all_tags(self, store: ContentStore, images: Images) -> None:
        digest = images.put("b", "x", "2", "1")
        images.put("a", "x", "1")
        shown = [(image.repository, image.tag, image.digest, image.media_type) for image in store.images()]
        assert shown == [("a", "1", digest, OCI), ("b", "1", digest, OCI), ("b", "2", digest, OCI)]

    def test_untagged_are_those_that_nothing_accounts_for(self, store: ContentStore, images: Images) -> None:
        images.put("app", "tagged", "1")
        child = images.descriptor("app", images.put("app", "child of an index"))
        store.put_manifest("app", Index(MediaType.OCI_INDEX, (child,)).to_bytes(), MediaType.OCI_INDEX, tags=["all"])
        store.put_manifest("app", images.manifest("about it", subject=child), OCI, adopt=True)
        alone = images.put("app", "alone")
        assert [(image.repository, image.tag, image.digest) for image in store.untagged()] == [("app", "", alone)]


class TestReferrers:
    def attach(self, store: ContentStore, images: Images, subject: Descriptor, kind: str, note: str) -> Digest:
        config, layer = images.blobs("referrer")
        content = Manifest(
            OCI, config, (layer,), subject=subject, artifact_type=kind, annotations={"note": note}
        ).to_bytes()
        return store.put_manifest("app", content, OCI, adopt=True)

    def test_are_listed_before_and_after_their_subject_comes(self, store: ContentStore, images: Images) -> None:
        content = images.manifest("subject")
        subject = Descriptor(OCI, Digest.of(content), len(content))
        first = self.attach(store, images, subject, "application/sbom", "a")
        store.put_manifest("app", content, OCI, adopt=True)
        second = self.attach(store, images, subject, "application/sig", "b")
        found, more = store.referrers("app", subject.digest)
        assert more is None
        assert [(entry.digest, entry.artifact_type, entry.annotations) for entry in found] == [
            (first, "application/sbom", {"note": "a"}),
            (second, "application/sig", {"note": "b"}),
        ]
        assert all(entry.size == len(store.manifest("app", entry.digest).content) for entry in found)

    def test_without_artifact_type_show_the_type_of_their_config(self, store: ContentStore, images: Images) -> None:
        store.put_manifest("app", images.manifest("x", subject=Descriptor(OCI, ABSENT, 1)), OCI, adopt=True)
        (found,), _ = store.referrers("app", ABSENT)
        assert found.artifact_type == MediaType.OCI_CONFIG

    def test_are_filtered_and_paged(self, store: ContentStore, images: Images) -> None:
        subject = Descriptor(OCI, ABSENT, 5)
        digests = [self.attach(store, images, subject, f"type/{number % 2}", str(number)) for number in range(5)]
        odd, more = store.referrers("app", ABSENT, artifact_type="type/1")
        assert ([entry.digest for entry in odd], more) == ([digests[1], digests[3]], None)
        seen, cursor = [], 0
        while True:
            page, more = store.referrers("app", ABSENT, after=cursor, limit=2)
            seen += [entry.digest for entry in page]
            if more is None:
                break
            cursor = more
        assert seen == digests

    def test_of_nothing_are_none(self, store: ContentStore) -> None:
        assert store.referrers("never/seen", ABSENT) == ([], None)

    def test_vanish_with_their_deletion(self, store: ContentStore, images: Images) -> None:
        digest = self.attach(store, images, Descriptor(OCI, ABSENT, 5), "type/x", "")
        store.delete_manifest("app", digest)
        assert store.referrers("app", ABSENT) == ([], None)


def test_hostile_numbers_are_no_traceback(store: ContentStore, images: Images) -> None:
    body = json.loads(images.manifest("x"))
    body["layers"][0]["size"] = 10**30
    with pytest.raises((ManifestInvalid, SizeInvalid)):
        store.put_manifest("app", json.dumps(body).encode(), OCI, adopt=True)
