"""Images for a store, made of whatever bytes a test wants as layers."""

from registry.model import Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform, Reference, RootFs
from registry.storage import ContentStore


def store_image(
    store: ContentStore, name: str, layers: list[bytes], architecture: str = "amd64", *, tagged: bool = True
) -> Manifest:
    reference = Reference.parse(name)
    config = ImageConfig(
        Platform("linux", architecture), rootfs=RootFs(tuple(Digest.of(layer) for layer in layers))
    ).to_bytes()
    manifest = Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG, store.put(config), len(config)),
        tuple(Descriptor(MediaType.OCI_LAYER, store.put(layer), len(layer)) for layer in layers),
    )
    tags = [reference.tag or "latest"] if tagged else []
    store.put_manifest(reference.repository, manifest.to_bytes(), manifest.media_type, tags=tags, adopt=True)
    return manifest


def store_index(store: ContentStore, name: str, layers: dict[str, bytes]) -> Index:
    """An image for each architecture, and the index that lists them."""
    entries = []
    for architecture, layer in layers.items():
        content = store_image(store, name, [layer], architecture, tagged=False).to_bytes()
        place = Platform("linux", architecture)
        entries.append(Descriptor(MediaType.OCI_MANIFEST, Digest.of(content), len(content), platform=place))
    index = Index(MediaType.OCI_INDEX, tuple(entries))
    reference = Reference.parse(name)
    store.put_manifest(reference.repository, index.to_bytes(), index.media_type, tags=[reference.tag or "latest"])
    return index
