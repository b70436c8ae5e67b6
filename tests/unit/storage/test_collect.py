"""Collection: what nothing refers to goes, at any time; what somebody needs or just brought stays."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import registry
from registry.errors import BlobUnknown, ManifestUnknown
from registry.model import Descriptor, Digest, Index, MediaType
from registry.storage import Collected, ContentStore
from tests.unit.storage.conftest import Images

ABSENT = Digest.of(b"absent")


def collect(store: ContentStore) -> Collected:
    return store.collect(grace_seconds=0, untagged_seconds=0)


def execute(store: ContentStore, statement: str, *values: object) -> None:
    """Change what only time could change."""
    database = sqlite3.connect(store.root / "meta.db")
    database.execute(statement, values)
    database.commit()
    database.close()


def expire_links(store: ContentStore) -> None:
    execute(store, "UPDATE repo_blob SET lease_until = 0")
    execute(store, "UPDATE manifest SET lease_until = 0")


class TestBlobs:
    def test_that_nothing_refers_to_are_freed(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        path = store.path(digest)
        assert collect(store) == Collected(blobs=1, bytes=5)
        assert not store.has(digest)
        assert not path.exists()

    def test_of_a_tagged_image_stay(self, store: ContentStore, images: Images) -> None:
        config, layer = images.blobs("x")
        images.put("app", "x", "1")
        assert collect(store) == Collected()
        assert store.has(config.digest)
        assert store.has(layer.digest)

    def test_just_stored_are_left_alone_for_a_while(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        assert store.collect(grace_seconds=60).blobs == 0
        execute(store, "UPDATE blob SET touched = touched - 61")
        store.put(b"hello")
        assert store.collect(grace_seconds=60).blobs == 0, "brought again"
        execute(store, "UPDATE blob SET touched = touched - 61")
        assert store.collect(grace_seconds=60).blobs == 1
        assert not store.has(digest)

    def test_just_uploaded_or_mounted_wait_for_their_manifest(self, store: ContentStore) -> None:
        upload = store.start_upload("app")
        upload.append(b"hello")
        digest = upload.finish(Digest.of(b"hello"))
        assert collect(store).blobs == 0
        store.mount("other", digest, "app")
        store.unlink_blob("app", digest)
        assert collect(store).blobs == 0
        expire_links(store)
        assert collect(store).blobs == 1

    def test_asked_for_by_somebody_about_to_push_wait_anew(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        store.link_blob("app", digest)
        expire_links(store)
        assert store.repo_has("app", digest, extend=True)
        assert collect(store).blobs == 0

    def test_needed_by_one_repository_leave_another_that_no_longer_needs_them(
        self, store: ContentStore, images: Images
    ) -> None:
        _, layer = images.blobs("x")
        images.put("app", "x", "1")
        store.delete_manifest("other", images.put("other", "x", "1"))
        collect(store)
        assert store.repo_has("app", layer.digest)
        assert not store.repo_has("other", layer.digest)

    def test_marked_by_a_run_that_crashed_are_gone_for_readers_and_freed_by_the_next(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        path = store.path(digest)
        execute(store, "UPDATE blob SET state = 'deleting'")
        assert not store.has(digest)
        for refused in (store.path, store.lease().hold, lambda found: store.link_blob("app", found)):
            with pytest.raises(BlobUnknown):
                refused(digest)
        assert store.collect() == Collected(blobs=1, bytes=5)
        assert not path.exists()

    def test_marked_but_stored_again_are_kept(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        execute(store, "UPDATE blob SET state = 'deleting'")
        store.put(b"hello")
        store.collect()
        assert store.read(digest) == b"hello"


class TestManifests:
    def test_untagged_are_kept_unless_asked(self, store: ContentStore, images: Images) -> None:
        digest = images.put("app", "x")
        assert store.collect(grace_seconds=0) == Collected()
        assert store.collect(grace_seconds=0, untagged_seconds=60) == Collected()
        assert store.manifest("app", digest)
        assert store.collect(grace_seconds=0, untagged_seconds=0).manifests == 1
        with pytest.raises(ManifestUnknown):
            store.manifest("app", digest)

    def test_an_index_keeps_its_images_and_takes_them_along(self, store: ContentStore, images: Images) -> None:
        child = images.descriptor("app", images.put("app", "x"))
        content = Index(MediaType.OCI_INDEX, (child,)).to_bytes()
        index = store.put_manifest("app", content, MediaType.OCI_INDEX, tags=["1"], adopt=True)
        assert collect(store) == Collected()
        store.untag("app", "1")
        freed = collect(store)
        assert (freed.manifests, freed.blobs) == (2, 2)
        for gone in (index, child.digest):
            with pytest.raises(ManifestUnknown):
                store.manifest("app", gone)

    def test_referrers_live_as_long_as_their_subject(self, store: ContentStore, images: Images) -> None:
        subject = images.descriptor("app", images.put("app", "x", "1"))
        content = images.manifest("signature", subject=subject)
        store.put_manifest("app", content, MediaType.OCI_MANIFEST, adopt=True)
        assert collect(store) == Collected()
        store.delete_manifest("app", subject.digest)
        assert collect(store).manifests == 1

    def test_pushed_by_a_client_a_moment_ago_wait_for_their_index(self, store: ContentStore, images: Images) -> None:
        config, layer = images.blobs("x")
        store.link_blob("app", config.digest, layer.digest)
        digest = store.put_manifest("app", images.manifest("x"), MediaType.OCI_MANIFEST)
        assert collect(store) == Collected()
        expire_links(store)
        assert collect(store).manifests == 1
        with pytest.raises(ManifestUnknown):
            store.manifest("app", digest)


class TestLeases:
    def test_keep_what_is_ingested_under_them_and_what_they_hold(self, store: ContentStore) -> None:
        before, loose = store.put(b"before"), store.put(b"loose")
        with store.lease() as lease:
            under = store.put(b"under", lease=lease)
            lease.hold(before)
            collect(store)
            assert (store.has(before), store.has(under), store.has(loose)) == (True, True, False)
        collect(store)
        assert (store.has(before), store.has(under)) == (False, False)

    def test_keep_what_was_there_already_when_it_is_ingested(self, store: ContentStore) -> None:
        digest = store.put(b"hello")
        with store.lease() as lease:
            store.put(b"hello", lease=lease)
            collect(store)
            assert store.has(digest)

    def test_cannot_hold_what_is_not_there(self, store: ContentStore) -> None:
        with store.lease() as lease, pytest.raises(BlobUnknown):
            lease.hold(ABSENT)

    def test_end_with_their_time(self, store: ContentStore) -> None:
        with store.lease(seconds=0) as lease:
            store.put(b"hello", lease=lease)
            assert collect(store).blobs == 1

    def test_renewed_start_anew(self, store: ContentStore) -> None:
        with store.lease() as lease:
            store.put(b"hello", lease=lease)
            execute(store, "UPDATE lease SET expires = ?", time.time() - 1)
            lease.renew()
            assert collect(store).blobs == 0

    def test_end_with_their_process(self, store: ContentStore) -> None:
        program = (
            "import os, sys; from pathlib import Path; from registry.storage import ContentStore\n"
            "store = ContentStore.open(Path(sys.argv[1])); lease = store.lease(); store.put(b'hello', lease=lease)\n"
            "sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read(); os._exit(1)"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(registry.__file__).parent.parent)}
        with subprocess.Popen(
            [sys.executable, "-c", program, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.read(1) == b"."
            assert collect(store).blobs == 0, "it lives"
            holder.kill()
        assert collect(store).blobs == 1

    def test_of_another_pid_namespace_cannot_be_judged_and_count(self, store: ContentStore) -> None:
        with store.lease() as lease:
            store.put(b"hello", lease=lease)
            execute(store, "UPDATE lease SET pid = 999999999, pid_ns = 'another'")
            assert collect(store).blobs == 0

    def test_from_before_the_last_boot_are_over(self, store: ContentStore) -> None:
        with store.lease() as lease:
            store.put(b"hello", lease=lease)
            execute(store, "UPDATE lease SET boot = 'earlier'")
            assert collect(store).blobs == 1


class TestLeftovers:
    def test_files_of_dead_writers_are_swept_and_those_of_living_ones_stay(self, store: ContentStore) -> None:
        uploads = store.root / "uploads"
        (uploads / "part-999999999.1.earlierboot.1-abc").write_bytes(b"dead")
        (uploads / "trash-abc").write_bytes(b"deleted")
        (uploads / ("0" * 32)).write_bytes(b"an upload without a row")
        with store.ingest() as blob:
            blob.write(b"hel")
            assert collect(store).leftovers == 3
            blob.write(b"lo")
            blob.commit()
        assert os.listdir(uploads) == []

    def test_a_paused_upload_stays_until_nobody_continued_it_for_a_week(self, store: ContentStore) -> None:
        upload = store.start_upload("app")
        upload.append(b"hel")
        upload.flush()
        assert collect(store).leftovers == 0
        assert store.upload("app", upload.id).size == 3
        long_ago = time.time() - 8 * 24 * 3600
        os.utime(store.root / "uploads" / upload.id, (long_ago, long_ago))
        execute(store, "UPDATE upload SET expires = ?", long_ago)
        assert collect(store).leftovers == 1
        database = sqlite3.connect(store.root / "meta.db")
        assert database.execute("SELECT count(*) FROM upload").fetchone() == (0,)
        database.close()

    def test_blob_files_without_a_row_are_swept_when_old_enough(self, store: ContentStore) -> None:
        path = store.root / "blobs" / "sha256" / ABSENT.encoded[:2] / ABSENT.encoded
        path.parent.mkdir(parents=True)
        path.write_bytes(b"absent")
        assert store.collect(grace_seconds=60).leftovers == 0
        assert store.collect(grace_seconds=0).leftovers == 1
        assert not path.exists()

    def test_files_that_are_no_blobs_are_not_ours_to_judge(self, store: ContentStore) -> None:
        strange = store.root / "blobs" / "sha256" / "ab" / "lost+found"
        strange.parent.mkdir(parents=True)
        strange.write_bytes(b"")
        collect(store)
        assert strange.exists()


class TestDryRun:
    def test_says_what_would_go_and_changes_nothing(self, store: ContentStore, images: Images) -> None:
        images.put("app", "kept", "1")
        images.put("app", "gone")
        store.put(b"loose")
        would = store.collect(grace_seconds=0, untagged_seconds=0, dry_run=True)
        assert (would.manifests, would.blobs) == (1, 3)
        assert store.has(Digest.of(b"loose"))
        assert store.collect(grace_seconds=0, untagged_seconds=0, dry_run=True) == would
        did = collect(store)
        assert (did.manifests, did.blobs, did.bytes) == (would.manifests, would.blobs, would.bytes)


def test_pushing_while_collecting_loses_nothing(store: ContentStore) -> None:
    """Threads push, move tags over shared layers and build, while another collects without a pause."""
    done = threading.Event()

    def push(number: int) -> None:
        for turn in range(25):
            layers = [b"shared %d" % (turn % 3), b"own %d %d" % (number, turn)]
            for content in layers:
                upload = store.start_upload("app")
                upload.append(content)
                upload.finish(Digest.of(content))
            listed = tuple(Descriptor(MediaType.OCI_LAYER, Digest.of(text), len(text)) for text in layers)
            content = Index(MediaType.OCI_INDEX, listed).to_bytes()
            store.put_manifest("app", content, MediaType.OCI_INDEX, tags=[f"t{number}"])
            with store.lease() as lease:
                built = store.put(b"build %d" % turn, lease=lease)
                assert store.read(built) == b"build %d" % turn

    def sweep() -> int:
        freed = 0
        while not done.is_set():
            execute(store, "UPDATE manifest SET lease_until = 0")
            freed += collect(store).blobs
        return freed

    with ThreadPoolExecutor(4) as pool:
        sweeper = pool.submit(sweep)
        try:
            list(pool.map(push, range(3)))
        finally:
            done.set()
        assert sweeper.result() > 0
    for number in range(3):
        assert store.manifest("app", f"t{number}").media_type == MediaType.OCI_INDEX
        assert store.repo_has("app", Digest.of(b"own %d 24" % number))
