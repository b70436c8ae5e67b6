"""A full disk under the snapshots: a plain answer, nothing half-done, and all well again once there is room."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import LayerError, SnapshotError
from builder.layers import unpack_image
from builder.snapshots import Snapshots
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, RootFs
from registry.model.platform import native
from registry.storage import ContentStore
from runner.kernel import calls

MIB = 1 << 20


@pytest.fixture
def small_disk(ram_path: Path) -> Iterator[Path]:
    place = ram_path / "disk"
    place.mkdir()
    calls.mount("tmpfs", str(place), "tmpfs", 0, f"size={4 * MIB}")
    yield place
    calls.umount2(str(place), calls.MNT_DETACH)


def image(store: ContentStore, size: int) -> tuple[Manifest, ImageConfig]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    content = out.getvalue()
    layer = Descriptor(MediaType.OCI_LAYER, store.put(content), len(content))
    manifest = Manifest(MediaType.OCI_MANIFEST, Descriptor(MediaType.OCI_CONFIG, layer.digest, 0), (layer,))
    return manifest, ImageConfig(native(), rootfs=RootFs((Digest.of(content),)))


def numbers(snapshots: Snapshots) -> list[str]:
    return [name for name in os.listdir(snapshots.root) if name.isdecimal()]


def test_an_image_that_does_not_fit_leaves_nothing(small_disk: Path, ram_path: Path) -> None:
    with ContentStore.open(ram_path / "root") as store, Snapshots(small_disk) as snapshots:
        with pytest.raises(LayerError, match="No space left on device") as caught:
            unpack_image(store, snapshots, *image(store, 6 * MIB))
        assert caught.value.hint == "free some space"
        assert numbers(snapshots) == []
        unpack_image(store, snapshots, *image(store, MIB))
        assert len(numbers(snapshots)) == 1


def prepared_until_full(snapshots: Snapshots) -> int:
    for made in range(1000):
        try:
            snapshots.prepare(f"container-{made}", None)
        except SnapshotError:
            return made
    raise AssertionError("the disk never got full")


def test_the_index_says_so_and_works_again_with_room(small_disk: Path) -> None:
    with Snapshots(small_disk) as snapshots:
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 8 * MIB)
        made = prepared_until_full(snapshots)
        filler.unlink()
        assert len(numbers(snapshots)) == made
        snapshots.prepare(f"container-{made}", None)
