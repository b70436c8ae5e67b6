"""A disk that is full, read-only or not ours: a plain answer, and nothing half-done."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry
from registry.errors import DiskFull, StoreError
from registry.model import Descriptor, Digest, Index, MediaType
from registry.storage import ContentStore
from runner.kernel import calls

SIZE = 2 * 1024 * 1024
HELLO = Digest.of(b"hello")


@pytest.fixture
def small_disk(ram_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = ram_path / "disk"
    place.mkdir()
    calls.mount("tmpfs", str(place), "tmpfs", 0, f"size={SIZE}")
    yield place
    calls.umount2(str(place), calls.MNT_DETACH)


def fill(disk: Path, leave: int) -> Path:
    """Take all of the room but `leave` bytes."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - leave))
    return filler


class TestFull:
    def test_an_ingest_says_so_and_leaves_nothing(self, small_disk: Path) -> None:
        with ContentStore.open(small_disk / "root") as store:
            with store.ingest() as blob, pytest.raises(DiskFull, match="no space left") as caught:
                blob.write(b"x" * 2 * SIZE)
            assert "make room" in (caught.value.hint or "")
            assert os.listdir(store.root / "uploads") == []
            assert store.collect(grace_seconds=0).blobs == 0

    def test_every_operation_fails_whole_and_works_again_with_room(self, small_disk: Path) -> None:
        with ContentStore.open(small_disk / "root") as store:
            empty = Index(MediaType.OCI_INDEX, ()).to_bytes()
            first = store.put_manifest("app", empty, MediaType.OCI_INDEX, tags=["1"])
            filler = fill(small_disk, 0)

            failed = 0
            for number in range(200):  # some fit into room that the database has already
                layer = b"layer %d" % number
                try:
                    store.put(layer)
                    listed = Descriptor(MediaType.OCI_LAYER, Digest.of(layer), len(layer))
                    content = Index(MediaType.OCI_INDEX, (listed,), annotations={"pad": "x" * 4000}).to_bytes()
                    store.put_manifest("app", content, MediaType.OCI_INDEX, tags=[str(number)], adopt=True)
                except DiskFull:
                    failed += 1
            assert failed > 0
            assert store.manifest("app", first).content == empty
            for image in store.images():
                assert Digest.of(store.manifest("app", image.digest).content) == image.digest

            filler.unlink()
            digest = store.put(b"hello")
            assert store.read(digest) == b"hello"
            store.tag("app", "2", first)
            assert store.manifest("app", "2").digest == first

    def test_an_upload_is_kept_to_be_continued(self, small_disk: Path) -> None:
        with ContentStore.open(small_disk / "root") as store:
            upload = store.start_upload("app")
            upload.append(b"hel")
            upload.flush()
            filler = fill(small_disk, 0)
            again = store.upload("app", upload.id)
            with pytest.raises(DiskFull):
                again.append(b"x" * 2 * SIZE)
            assert again.size == 3
            filler.unlink()
            again.append(b"lo")
            assert again.finish(HELLO) == HELLO
            assert os.listdir(store.root / "uploads") == []

    def test_a_new_root_is_not_made_by_half(self, small_disk: Path) -> None:
        filler = fill(small_disk, 16384)
        with pytest.raises(DiskFull):
            ContentStore.open(small_disk / "root")
        filler.unlink()
        with ContentStore.open(small_disk / "root") as store:
            assert store.read(store.put(b"hello")) == b"hello"


class TestRefused:
    def test_a_read_only_disk_says_what_it_needs(self, small_disk: Path) -> None:
        ContentStore.open(small_disk / "root").close()
        calls.mount("", str(small_disk), "", calls.MS_REMOUNT | calls.MS_RDONLY, "")
        for root in (small_disk / "root", small_disk / "new"):
            with pytest.raises(StoreError, match="needs to read and write") as caught:
                ContentStore.open(root)
            assert "writable" in (caught.value.hint or "")

    @pytest.mark.parametrize("exists", [True, False])
    def test_another_user_is_told_whose_root_it_is(self, ram_path: Path, exists: bool) -> None:
        ram_path.chmod(0o755)
        root = ram_path / "root"
        if exists:
            ContentStore.open(root).close()
        program = (
            "import os, sys; from pathlib import Path; from registry.storage import ContentStore\n"
            "from registry.errors import StoreError\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: ContentStore.open(Path(sys.argv[1]))\n"
            "except StoreError as error: print(error, '/', error.hint)"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(registry.__file__).parent.parent)}
        said = subprocess.run(
            [sys.executable, "-c", program, root], env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert "Permission denied" in said
        assert str(root) in said
        assert "run as the owner" in said
