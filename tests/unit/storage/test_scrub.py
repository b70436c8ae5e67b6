"""Scrubbing finds what a disk changed or lost, says so once, and the next push heals it."""

import sqlite3
from collections.abc import Callable

import pytest

from registry.model import Digest
from registry.storage import ContentStore, ScrubReport
from tests.unit.storage.conftest import Images


def scrub(store: ContentStore, older_than: float = 0.0) -> ScrubReport:
    report = ScrubReport()
    for _ in store.scrubber.steps(report, older_than=older_than):
        pass
    return report


def flip(store: ContentStore, digest: Digest) -> None:
    content = bytearray(store.path(digest).read_bytes())
    content[0] ^= 1
    store.path(digest).write_bytes(content)


def cut(store: ContentStore, digest: Digest) -> None:
    store.path(digest).write_bytes(store.path(digest).read_bytes()[:-1])


def lose(store: ContentStore, digest: Digest) -> None:
    store.path(digest).unlink()


def test_of_a_sound_store_finds_nothing(store: ContentStore, images: Images) -> None:
    images.put("app", "one", "1")
    report = scrub(store)
    assert (report.blobs, report.manifests, report.damages) == (2, 1, [])
    assert report.bytes > 0


@pytest.mark.parametrize(
    ("harm", "problem"), [(flip, "has other content"), (cut, "has 2 bytes instead of 3"), (lose, "its file is gone")]
)
class TestDamage:
    def test_is_found_and_remembered(
        self, store: ContentStore, images: Images, harm: Callable[[ContentStore, Digest], None], problem: str
    ) -> None:
        images.put("app", "one", "1")
        digest = Digest.of(b"one")
        harm(store, digest)
        (damage,) = scrub(store).damages
        assert (damage.digest, damage.problem, damage.repositories) == (digest, problem, ("app",))
        assert store.scrubber.known_damage() == [damage]
        assert scrub(store, older_than=3600).blobs == 0, "once is enough for a while"

    def test_counts_as_absent_until_it_is_brought_again(
        self, store: ContentStore, images: Images, harm: Callable[[ContentStore, Digest], None], problem: str
    ) -> None:
        images.put("app", "one", "1")
        digest = Digest.of(b"one")
        harm(store, digest)
        scrub(store)
        assert not store.has(digest)
        assert not store.repo_has("app", digest)
        upload = store.start_upload("app")
        upload.append(b"one")
        upload.finish(digest)
        assert store.repo_has("app", digest)
        assert store.read(digest) == b"one"
        assert scrub(store).damages == store.scrubber.known_damage() == []


def test_finds_a_manifest_that_changed_or_lost_its_content(store: ContentStore, images: Images) -> None:
    first, second = images.put("app", "one", "1"), images.put("app", "two", "2")
    database = sqlite3.connect(store.root / "meta.db")
    with database:
        database.execute("UPDATE manifest SET payload = CAST(payload || ' ' AS BLOB) WHERE digest = ?", (str(first),))
        database.execute("DELETE FROM repo_blob WHERE digest = ?", (str(Digest.of(b"two")),))
    database.close()
    found = {damage.digest: damage.problem for damage in scrub(store).damages}
    assert set(found) == {first, second}
    assert "other content" in found[first]
    assert str(Digest.of(b"two")) in found[second]


def test_may_stop_anywhere_and_goes_on_with_the_rest(store: ContentStore) -> None:
    for number in range(5):
        store.put(bytes([number]))
    database = sqlite3.connect(store.root / "meta.db")
    with database:
        database.execute("UPDATE blob SET scrubbed = 0")
    database.close()
    first = ScrubReport()
    steps = store.scrubber.steps(first, older_than=3600)
    while first.blobs < 2:
        next(steps)
    steps.close()
    assert scrub(store, older_than=3600).blobs == 3
