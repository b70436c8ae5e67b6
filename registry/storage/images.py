"""Images by the names and IDs that people type."""

import re
from contextlib import suppress
from dataclasses import replace

from registry.errors import ManifestInvalid, ManifestUnknown, RegistryError
from registry.model import Digest, ImageConfig, Index, Manifest, Platform, Reference, parse_manifest
from registry.model.platform import best_match, native, preference
from registry.storage.store import ContentStore
from registry.storage.values import StoredImage

_DEPTH = 3  # indexes within indexes


def find_image(store: ContentStore, reference: Reference, platform: Platform | None = None) -> StoredImage:
    """The image for `platform` (None: this machine's) under a name; a digest in the name outranks its tag.

    Raises:
        ManifestUnknown: not here, or not for that platform.
    """
    wanted = reference.tagged
    ref = wanted.digest or wanted.tag or "latest"
    return _resolve(store, wanted, store.manifest(wanted.repository, ref).digest, platform)


def find_by_id(store: ContentStore, prefix: str) -> StoredImage:
    """The image whose ID (digest of its config) or whose manifest's digest begins with `prefix` (hex, maybe sha256:…).

    Raises:
        ManifestUnknown: none, or several different ones.
    """
    encoded = prefix.removeprefix("sha256:").lower()
    if not re.fullmatch(r"[0-9a-f]{1,64}", encoded):
        raise ManifestUnknown(f"not an image ID: {prefix[:100]!r}", hint="write some of its hex digits, or a name")
    found = store.find_manifests("config", f"sha256:{encoded}") or store.find_manifests("manifest", f"sha256:{encoded}")
    images: dict[Digest, StoredImage] = {}
    for repository, digest in found:
        with suppress(RegistryError):  # a chart or a signature, which is no image, or one whose content is lost
            image = _resolve(store, Reference.parse(repository).with_digest(digest), digest, None)
            images.setdefault(image.config_digest, image)
    if not images:
        raise ManifestUnknown(f"no image with the ID {prefix[:80]}", hint="`pybuild images` lists what is here")
    if len(images) > 1:
        raise ManifestUnknown(f"{len(images)} images have IDs that begin with {prefix[:80]}", hint="write more digits")
    return next(iter(images.values()))


def image_size(store: ContentStore, manifest: Manifest) -> int:
    """Bytes of its layers as stored here; a layer that is not here counts as its manifest says."""
    return sum(
        store.size(layer.digest) if store.has(layer.digest) else layer.size
        for layer in {layer.digest: layer for layer in manifest.layers}.values()
    )


def _resolve(
    store: ContentStore, reference: Reference, digest: Digest, platform: Platform | None, depth: int = _DEPTH
) -> StoredImage:
    stored = store.manifest(reference.repository, digest)
    parsed = parse_manifest(stored.content, stored.media_type)
    if isinstance(parsed, Index):
        if depth == 0:
            raise ManifestInvalid(f"{reference}: indexes nested too deeply", hint="name one of its images by digest")
        image = _resolve(store, reference, _choose(store, reference, parsed, platform), platform, depth - 1)
        return replace(image, index_digest=digest)
    config = ImageConfig.parse(store.read(parsed.config.digest))
    if platform is not None and config.platform.os and preference(platform, config.platform) is None:
        raise ManifestUnknown(
            f"{reference} is an image for {config.platform}, not for {platform}", hint="pull it for that platform"
        )
    return StoredImage(reference, digest, parsed, parsed.config.digest, config)


def _choose(store: ContentStore, reference: Reference, index: Index, platform: Platform | None) -> Digest:
    """The best child for the platform among those that are here."""
    present = [child for child in index.manifests if _is_here(store, reference.repository, child.digest)]
    best = best_match(platform or native(), [child.platform for child in present])
    if best is None:
        offered = ", ".join(sorted(str(child.platform) for child in present if child.platform)) or "nothing"
        raise ManifestUnknown(
            f"{reference} is not here for {platform or native()} (here: {offered})", hint="pull it for that platform"
        )
    return present[best].digest


def _is_here(store: ContentStore, repository: str, digest: Digest) -> bool:
    try:
        store.manifest(repository, digest)
    except ManifestUnknown:
        return False
    return True
