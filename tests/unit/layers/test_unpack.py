"""Images become snapshots: each layer once on a machine, whoever asks and however many at once."""

import gzip
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from builder.errors import LayerError
from builder.layers import unpack_image
from builder.snapshots import Snapshots
from builder.solver.scheduler import Canceled
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, RootFs
from registry.model.platform import native
from registry.storage import ContentStore

from .conftest import archive

NO_CONFIG = Descriptor(MediaType.OCI_CONFIG, Digest.of(b""), 0)
LAYERS = (("a/", ("a/one", "1")), (("a/two", "2"), "a/.wh.one"), (("three", "3"),))


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
        self.lines.append((what, status))


def put_image(store: ContentStore, count: int = len(LAYERS)) -> tuple[Manifest, ImageConfig]:
    plain = [archive(*members) for members in LAYERS[:count]]
    packed = [gzip.compress(content, mtime=0) for content in plain]
    layers = tuple(Descriptor(MediaType.OCI_LAYER_GZIP, store.put(content), len(content)) for content in packed)
    config = ImageConfig(native(), rootfs=RootFs(tuple(map(Digest.of, plain))))
    return Manifest(MediaType.OCI_MANIFEST, NO_CONFIG, layers), config


def numbers(snapshots: Snapshots) -> list[str]:
    return [name for name in os.listdir(snapshots.root) if name.isdecimal()]


class TestUnpackImage:
    def test_names_the_topmost_snapshot(self, store: ContentStore, snapshots: Snapshots) -> None:
        manifest, config = put_image(store)
        top = unpack_image(store, snapshots, manifest, config)
        assert [sorted(os.listdir(directory)) for directory in snapshots.view(top)] == [["three"], ["a"], ["a"]]

    def test_of_an_image_without_layers_is_nothing(self, store: ContentStore, snapshots: Snapshots) -> None:
        assert (
            unpack_image(store, snapshots, Manifest(MediaType.OCI_MANIFEST, NO_CONFIG, ()), ImageConfig(native()))
            is None
        )

    def test_ends_when_the_build_does_and_leaves_nothing(self, store: ContentStore, snapshots: Snapshots) -> None:
        class Canceling:
            def update(self, what: str, status: str, current: int = 0, total: int = 0) -> None:
                if current:
                    raise Canceled("the build ends")

        with pytest.raises(Canceled):
            unpack_image(store, snapshots, *put_image(store), Canceling())
        assert numbers(snapshots) == []

    def test_unpacks_only_what_is_missing(self, store: ContentStore, snapshots: Snapshots) -> None:
        log = Log()
        unpack_image(store, snapshots, *put_image(store, 2), log)
        assert [status for status, _ in groupby(status for _, status in log.lines)] == [
            "Extracting",
            "Pull complete",
        ] * 2
        log.lines.clear()
        manifest, config = put_image(store)
        unpack_image(store, snapshots, manifest, config, log)
        assert set(log.lines) == {(manifest.layers[2].digest.short, word) for word in ("Extracting", "Pull complete")}

    def test_refuses_a_layer_that_is_not_the_configs(self, store: ContentStore, snapshots: Snapshots) -> None:
        manifest, config = put_image(store)
        lie = ImageConfig(native(), rootfs=RootFs((config.rootfs.diff_ids[1], *config.rootfs.diff_ids[1:])))
        with pytest.raises(LayerError, match="but the image says"):
            unpack_image(store, snapshots, manifest, lie)
        with pytest.raises(LayerError, match="3 layers, but its configuration names 0"):
            unpack_image(store, snapshots, manifest, ImageConfig(native()))
        assert numbers(snapshots) == []

    def test_by_many_processes_at_once_works_once(self, store: ContentStore, snapshots: Snapshots, space: Path) -> None:
        manifest, config = put_image(store)
        (space / "manifest").write_bytes(manifest.to_bytes())
        (space / "config").write_bytes(config.to_bytes())
        script = (
            "import sys; from pathlib import Path; from builder.layers import unpack_image\n"
            "from builder.snapshots import Snapshots; from registry.storage import ContentStore\n"
            "from registry.model import ImageConfig, parse_manifest\n"
            "root = Path(sys.argv[1])\n"
            "manifest = parse_manifest((root / 'manifest').read_bytes())\n"
            "config = ImageConfig.parse((root / 'config').read_bytes())\n"
            "print(unpack_image(ContentStore.open(root), Snapshots(root), manifest, config))\n"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", script, space], stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        said = {process.communicate()[0] for process in running}
        assert [process.returncode for process in running] == [0, 0, 0, 0]
        assert len(said) == 1
        assert sorted(numbers(snapshots), key=int) == ["1", "2", "3"]
        assert not list(snapshots.root.glob("*.lock"))
