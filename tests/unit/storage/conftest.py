from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, RootFs
from registry.storage import ContentStore


@pytest.fixture
def root(ram_path: Path) -> Path:
    return ram_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[ContentStore]:
    with ContentStore.open(root) as opened:
        yield opened


class Images:
    """Makes images of one layer, whose content is the name they are asked for."""

    def __init__(self, store: ContentStore) -> None:
        self.store = store

    def blobs(self, name: str, platform: str = "linux/amd64") -> tuple[Descriptor, Descriptor]:
        """A config and a layer, stored but in no repository."""
        layer = self.store.put(name.encode())
        config = ImageConfig(Platform.parse(platform), rootfs=RootFs((layer,)), author=name).to_bytes()
        return (
            Descriptor(MediaType.OCI_CONFIG, self.store.put(config), len(config)),
            Descriptor(MediaType.OCI_LAYER, layer, len(name)),
        )

    def manifest(self, name: str, platform: str = "linux/amd64", subject: Descriptor | None = None) -> bytes:
        config, layer = self.blobs(name, platform)
        return Manifest(MediaType.OCI_MANIFEST, config, (layer,), subject=subject).to_bytes()

    def put(self, repo: str, name: str, *tags: str, platform: str = "linux/amd64") -> Digest:
        content = self.manifest(name, platform)
        return self.store.put_manifest(repo, content, MediaType.OCI_MANIFEST, tags=tags, adopt=True)

    def descriptor(self, repo: str, digest: Digest, platform: str | None = None) -> Descriptor:
        """Of a stored manifest, as an index lists it."""
        stored = self.store.manifest(repo, digest)
        place = Platform.parse(platform) if platform else None
        return Descriptor(stored.media_type, digest, len(stored.content), platform=place)


@pytest.fixture
def images(store: ContentStore) -> Images:
    return Images(store)
