"""What the operator of a registry decides: quotas, read-only, rules about tags, retention, and the way back."""

from pathlib import Path

import pytest

from registry.errors import (
    ManifestUnknown,
    NameInvalid,
    QuotaExceeded,
    ReadOnly,
    TagImmutable,
)
from registry.model import Digest, Index, MediaType
from registry.storage import Client, ContentStore, TagRule, TagState
from registry.storage.retention import expired
from tests.unit.storage.conftest import Images

WEEK = 7 * 24 * 3600.0
SOMEBODY = Client("somebody", WEEK)
OCI = MediaType.OCI_MANIFEST


def used(store: ContentStore, repo: str) -> int:
    return store.namespaces.of(repo).used


def push(store: ContentStore, images: Images, repo: str, name: str, *tags: str) -> Digest:
    """As a client does: links, then the manifest."""
    content = images.manifest(name)
    for descriptor in images.blobs(name):
        store.link_blob(repo, descriptor.digest)
    return store.put_manifest(repo, content, OCI, tags=tags, by=SOMEBODY)


class TestUsage:
    def test_counts_a_blob_once_for_a_namespace_and_every_manifest(self, store: ContentStore, images: Images) -> None:
        digest = store.put(b"12345")
        assert used(store, "team/a") == 0
        store.link_blob("team/a", digest)
        store.link_blob("team/b", digest)
        store.link_blob("other/a", digest)
        assert (used(store, "team/a"), used(store, "other/a")) == (5, 5)
        store.unlink_blob("team/a", digest)
        assert used(store, "team/x") == 5
        store.unlink_blob("team/b", digest)
        assert used(store, "team/x") == 0

    def test_is_the_same_after_the_ledger_was_summed_up(self, store: ContentStore, images: Images) -> None:
        images.put("team/app", "one", "1")
        before = used(store, "team/app")
        assert before > 0
        store.namespaces.fold()
        assert used(store, "team/app") == before
        images.put("team/app", "two", "1")
        assert used(store, "team/app") > before

    def test_comes_back_with_collection(self, store: ContentStore, images: Images) -> None:
        digest = images.put("team/app", "one", "1")
        store.delete_manifest("team/app", digest)
        store.collect(grace_seconds=0)
        assert used(store, "team/app") == 0

    def test_lists_the_whole_registry_first(self, store: ContentStore, images: Images) -> None:
        images.put("team/app", "one", "1")
        images.put("app", "one", "1")
        assert [space.name for space in store.namespaces.all()] == ["*", "", "team"]


class TestQuota:
    def test_refuses_an_upload_that_is_larger_than_what_is_left(self, store: ContentStore) -> None:
        store.namespaces.set_quota("team", 10)
        upload = store.start_upload("team/app")
        upload.append(b"12345")
        with pytest.raises(QuotaExceeded, match="room for 10 bytes"):
            upload.append(b"678901")

    def test_counts_uploads_that_finished_meanwhile(self, store: ContentStore) -> None:
        store.namespaces.set_quota("team", 10)
        first, second = store.start_upload("team/a"), store.start_upload("team/b")
        first.append(b"1234567")
        second.append(b"abcdefg")
        first.finish(Digest.of(b"1234567"))
        with pytest.raises(QuotaExceeded):
            second.finish(Digest.of(b"abcdefg"))
        assert not store.repo_has("team/b", Digest.of(b"abcdefg"))
        assert used(store, "team/a") == 7

    def test_refuses_a_manifest_and_a_mount(self, store: ContentStore, images: Images) -> None:
        push(store, images, "other/app", "one", "1")
        store.namespaces.set_quota("team", 1)
        assert store.repo_has("other/app", Digest.of(b"one"))
        with pytest.raises(QuotaExceeded):
            store.mount("team/app", Digest.of(b"one"), "other/app")
        store.namespaces.set_quota("other", used(store, "other/app"))
        with pytest.raises(QuotaExceeded):
            push(store, images, "other/app", "")

    def test_lets_through_what_adds_nothing(self, store: ContentStore, images: Images) -> None:
        digest = push(store, images, "team/app", "one", "1")
        store.namespaces.set_quota("team", 1)
        assert push(store, images, "team/app", "one", "2") == digest
        assert store.mount("team/other", Digest.of(b"one"), "team/app")

    def test_binds_clients_only_and_can_be_lifted(self, store: ContentStore, images: Images) -> None:
        store.namespaces.set_quota("team", 1)
        images.put("team/app", "one", "1")
        store.namespaces.set_quota("team", None)
        push(store, images, "team/app", "two", "2")

    def test_of_names_without_a_slash_is_one_of_its_own(self, store: ContentStore) -> None:
        store.namespaces.set_quota("", 1)
        assert (store.namespaces.room("app"), store.namespaces.room("team/app")) == (1, None)

    @pytest.mark.parametrize("name", ["a/b", "UPPER", "..", "a b"])
    def test_of_what_is_no_namespace_is_refused(self, store: ContentStore, name: str) -> None:
        with pytest.raises(NameInvalid):
            store.namespaces.set_quota(name, 1)


@pytest.mark.parametrize(("frozen", "refused"), [("team", ["team/app"]), ("*", ["team/app", "app"]), ("", ["app"])])
def test_read_only_holds_for_a_namespace_or_for_all(store: ContentStore, frozen: str, refused: list[str]) -> None:
    store.namespaces.set_read_only(frozen, True)
    found = []
    for repo in ("team/app", "app"):
        try:
            store.namespaces.check_writable(repo)
        except ReadOnly:
            found.append(repo)
    assert found == refused
    store.namespaces.set_read_only(frozen, False)
    store.namespaces.check_writable("team/app")


class TestImmutableTag:
    @pytest.fixture
    def digest(self, store: ContentStore, images: Images) -> Digest:
        found = push(store, images, "team/app", "one", "v1", "latest")
        store.tag_rules.add(TagRule("immutable", "team/*", "v*"))
        return found

    def test_neither_moves_nor_goes(self, store: ContentStore, images: Images, digest: Digest) -> None:
        with pytest.raises(TagImmutable):
            push(store, images, "team/app", "two", "v1")
        with pytest.raises(TagImmutable):
            store.untag("team/app", "v1", by=SOMEBODY)
        with pytest.raises(TagImmutable):
            store.delete_manifest("team/app", digest, by=SOMEBODY)
        assert store.manifest("team/app", "v1").digest == digest

    def test_keeps_all_tags_of_a_push_from_moving(self, store: ContentStore, images: Images, digest: Digest) -> None:
        with pytest.raises(TagImmutable):
            push(store, images, "team/app", "two", "latest", "v1")
        assert store.manifest("team/app", "latest").digest == digest

    def test_may_be_made_and_pushed_again_as_it_is(self, store: ContentStore, images: Images, digest: Digest) -> None:
        assert push(store, images, "team/app", "one", "v1", "v2") == digest

    def test_is_so_where_the_rule_says(self, store: ContentStore, images: Images, digest: Digest) -> None:
        push(store, images, "app", "one", "v1")
        push(store, images, "app", "two", "v1")

    def test_is_the_operators_to_move(self, store: ContentStore, digest: Digest) -> None:
        store.untag("team/app", "v1")
        (rule,) = store.tag_rules.all()
        assert store.tag_rules.remove(rule.number)
        assert not store.tag_rules.remove(rule.number)
        store.delete_manifest("team/app", digest, by=SOMEBODY)


class TestWayBack:
    def test_of_a_tag_that_moved(self, store: ContentStore, images: Images) -> None:
        first = push(store, images, "app", "one", "1")
        second = push(store, images, "app", "two", "1")
        assert store.history.restore("app", "1") == first
        assert store.manifest("app", "1").digest == first
        changes = store.history.changes("app", "1")
        assert [(change.old, change.new) for change in changes] == [(second, first), (first, second), (None, first)]
        assert changes[1].actor == "somebody"

    def test_of_a_tag_that_was_removed_and_whose_image_collection_left_alone(
        self, store: ContentStore, images: Images
    ) -> None:
        digest = push(store, images, "app", "one", "1")
        store.untag("app", "1", by=SOMEBODY)
        store.collect(grace_seconds=0, untagged_seconds=0)
        assert store.history.restore("app", "1") == digest
        assert store.read(Digest.of(b"one")) == b"one"

    def test_of_a_manifest_that_was_deleted_with_its_tags(self, store: ContentStore, images: Images) -> None:
        digest = push(store, images, "app", "one", "1", "2")
        store.delete_manifest("app", digest, by=SOMEBODY)
        store.collect(grace_seconds=0, untagged_seconds=0)
        with pytest.raises(ManifestUnknown):
            store.manifest("app", digest)
        assert store.history.restore("app", "2") == digest
        assert store.repo_has("app", Digest.of(b"one"))
        with pytest.raises(ManifestUnknown):
            store.manifest("app", "1")

    def test_of_an_index_takes_its_images_along(self, store: ContentStore, images: Images) -> None:
        child = push(store, images, "app", "one")
        index = Index(MediaType.OCI_INDEX, (images.descriptor("app", child),)).to_bytes()
        digest = store.put_manifest("app", index, MediaType.OCI_INDEX, tags=["1"], by=SOMEBODY)
        store.delete_manifest("app", digest, by=SOMEBODY)
        store.delete_manifest("app", child, by=SOMEBODY)
        store.collect(grace_seconds=0, untagged_seconds=0)
        assert store.history.restore("app", "1") == digest
        assert store.manifest("app", child).digest == child

    def test_ends_with_its_window(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "one", "1")
        store.delete_manifest("app", digest, by=Client("", -1))
        store.collect(grace_seconds=0)
        assert not store.has(Digest.of(b"one"))
        with pytest.raises(ManifestUnknown, match="gone"):
            store.history.restore("app", "1")

    def test_is_none_for_what_this_machines_own_commands_removed(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "one", "1")
        store.delete_manifest("app", digest)
        store.collect(grace_seconds=0)
        assert not store.has(Digest.of(b"one"))

    def test_is_none_for_a_tag_that_never_was(self, store: ContentStore) -> None:
        with pytest.raises(ManifestUnknown, match="never"):
            store.history.restore("app", "1")


def state(tag: str, updated: float, pulled: float = 0, repo: str = "app") -> TagState:
    return TagState(repo, tag, Digest.of(tag.encode()), updated, pulled)


class TestRetention:
    NOW = 1_000_000.0

    def gone(self, states: list[TagState], *rules: TagRule) -> list[str]:
        return [found.tag for found in expired(states, rules, self.NOW)]

    def test_keeps_the_last_of_those_it_covers(self) -> None:
        states = [state("1", 1), state("2", 2), state("3", 3), state("latest", 0)]
        assert self.gone(states, TagRule("retain", "*", "[0-9]", keep_last=2)) == ["1"]

    def test_keeps_what_is_young(self) -> None:
        states = [state("old", self.NOW - 101), state("new", self.NOW - 99)]
        assert self.gone(states, TagRule("retain", "*", "*", keep_younger=100)) == ["old"]

    def test_keeps_what_was_pulled_of_late(self) -> None:
        states = [state("dead", 1), state("used", 1, pulled=self.NOW - 5)]
        assert self.gone(states, TagRule("retain", "*", "*", keep_pulled=10)) == ["dead"]

    def test_keeps_what_any_part_of_any_rule_keeps(self) -> None:
        states = [state("a1", 1), state("a2", 2, pulled=self.NOW), state("a3", 3)]
        both = TagRule("retain", "*", "a*", keep_last=1, keep_pulled=10)
        assert self.gone(states, both) == ["a1"]
        assert self.gone(states, both, TagRule("retain", "app", "a1", keep_last=1)) == []

    def test_leaves_alone_what_no_rule_covers_and_what_may_not_go(self) -> None:
        states = [state("1", 1), state("2", 2), state("1", 1, repo="other")]
        rules = (TagRule("retain", "app", "*", keep_younger=1), TagRule("immutable", "*", "2"))
        assert [(found.repository, found.tag) for found in expired(states, rules, self.NOW)] == [("app", "1")]

    def test_can_be_tried_before_it_is_done(self, store: ContentStore, images: Images) -> None:
        for name in ("one", "two"):
            images.put("app", name, name)
        number = store.tag_rules.add(TagRule("retain", "app", "*", keep_last=1))
        (tried,) = store.retention.run(dry_run=True)
        assert (tried.tag, tried.rule) == ("one", number)
        assert store.tags("app") == ["one", "two"]
        assert store.retention.run(by=SOMEBODY) == [tried]
        assert store.tags("app") == ["two"]
        assert store.history.restore("app", "one") == tried.digest

    def test_goes_by_the_last_pull_that_was_noted(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "one", "1")
        images.put("app", "two", "2")
        store.tag_rules.add(TagRule("retain", "*", "*", keep_pulled=3600))
        store.note_pulls({("app", digest): 2e9 * 2})
        assert [found.tag for found in store.retention.run(dry_run=True)] == ["2"]

    @pytest.mark.parametrize(
        "rule", [TagRule("retain", "*", "*"), TagRule("immutable", "", "*"), TagRule("immutable", "*", "x" * 2000)]
    )
    def test_refuses_rules_that_mean_nothing(self, store: ContentStore, rule: TagRule) -> None:
        with pytest.raises(NameInvalid):
            store.tag_rules.add(rule)


class TestExplain:
    def reasons(self, store: ContentStore, digest: Digest) -> str:
        return "\n".join(reason.text for reason in store.explain(digest, grace_seconds=0))

    def test_leads_from_a_layer_up_to_the_tag(self, store: ContentStore, images: Images) -> None:
        child = images.put("app", "one")
        index = Index(MediaType.OCI_INDEX, (images.descriptor("app", child),)).to_bytes()
        store.put_manifest("app", index, MediaType.OCI_INDEX, tags=["1"], adopt=True)
        assert f"layer of app@{str(child)[:19]}, in the index" in self.reasons(store, Digest.of(b"one"))
        assert "tagged app:1" in self.reasons(store, Digest.of(b"one"))
        assert "in the index" in self.reasons(store, child)

    def test_names_leases_links_and_the_cache(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        assert "nothing keeps it" in self.reasons(store, digest)
        with store.lease() as lease:
            lease.hold(digest)
            assert "works with it" in self.reasons(store, digest)
        store.link_blob("app", digest)
        assert "app: a client was told" in self.reasons(store, digest)
        store.cache_put(Digest.of(b"key"), b"", [digest])
        assert "1 records of the build cache" in self.reasons(store, digest)

    def test_tells_what_can_come_back(self, store: ContentStore, images: Images) -> None:
        digest = push(store, images, "app", "one", "1")
        store.delete_manifest("app", digest, by=SOMEBODY)
        assert "deleted, and can come back" in self.reasons(store, digest)

    def test_agrees_with_collection(self, store: ContentStore, images: Images) -> None:
        images.put("app", "one", "1")
        digests = [store.put(b"loose"), Digest.of(b"one")]
        kept = {digest: any(reason.keeps for reason in store.explain(digest, grace_seconds=0)) for digest in digests}
        store.collect(grace_seconds=0)
        assert {digest: store.has(digest) for digest in digests} == kept


def test_a_store_from_before_knows_what_it_holds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counting of namespaces begins with what is there."""
    from registry.storage import schema

    with monkeypatch.context() as past:
        past.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        ContentStore.open(root).close()
    import sqlite3

    digest = str(Digest.of(b"12345"))
    database = sqlite3.connect(root / "meta.db")
    with database:
        database.execute("INSERT INTO namespace (id, name) VALUES (1, 'team')")
        database.executemany("INSERT INTO repo (id, ns_id, name) VALUES (?, 1, ?)", [(1, "team/a"), (2, "team/b")])
        database.execute(
            "INSERT INTO blob (digest, size, storage_key, created, touched) VALUES (?, 5, 'x', 7, 7)", (digest,)
        )
        database.executemany("INSERT INTO repo_blob (repo_id, digest) VALUES (?, ?)", [(1, digest), (2, digest)])
    database.close()
    with ContentStore.open(root) as store:
        assert used(store, "team/a") == 5
        store.unlink_blob("team/a", Digest.parse(digest))
        store.unlink_blob("team/b", Digest.parse(digest))
        assert used(store, "team/a") == 0
