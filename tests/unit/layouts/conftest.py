"""Stores in memory, and archives made by hand."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference, RootFs
from registry.storage import ContentStore


@pytest.fixture
def store(ram_path: Path) -> Iterator[ContentStore]:
    with ContentStore.open(ram_path / "store") as opened:
        yield opened


@pytest.fixture
def other(ram_path: Path) -> Iterator[ContentStore]:
    with ContentStore.open(ram_path / "other") as opened:
        yield opened


def layer_tar(name: str, content: bytes = b"hello") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def new_image() -> Callable[..., Manifest]:
    """Put an image into a store: plain layers, or (compressed, plain) pairs with their media type."""

    def new(
        store: ContentStore,
        name: str,
        layers: list[bytes | tuple[bytes, bytes, str]] | None = None,
        architecture: str = "amd64",
        **options: object,
    ) -> Manifest:
        reference = Reference.parse(name)
        descriptors, diff_ids = [], []
        for layer in layers or [layer_tar(f"{architecture}.txt")]:
            content, plain, kind = layer if isinstance(layer, tuple) else (layer, layer, MediaType.OCI_LAYER)
            descriptors.append(Descriptor(kind, store.put(content), len(content)))
            diff_ids.append(Digest.of(plain))
        config = ImageConfig(Platform("linux", architecture), rootfs=RootFs(tuple(diff_ids)), **options).to_bytes()
        manifest = Manifest(
            MediaType.OCI_MANIFEST,
            Descriptor(MediaType.OCI_CONFIG, store.put(config), len(config)),
            tuple(descriptors),
        )
        tags = [reference.tag] if reference.tag else []
        store.put_manifest(reference.repository, manifest.to_bytes(), manifest.media_type, tags=tags, adopt=True)
        return manifest

    return new
