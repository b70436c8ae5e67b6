"""Images of one build, one a platform → the bytes of configs and manifests, and of the index over them.

Gives:    package(), which is pure but for the layers that it has packed anew.
Not here: where the bytes go (export.py), what the user may ask for (outputs.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from builder.exporters import annotations as notes
from builder.exporters.annotations import Annotation, chosen
from builder.exporters.assemble import Image
from registry.model import Descriptor, Digest, Index, Manifest, MediaType

Repack = Callable[[Descriptor, Digest, str], Descriptor]  # a layer, its diff ID, how it is to be packed

_DOCKER: dict[str, str] = {
    MediaType.OCI_LAYER: MediaType.DOCKER_LAYER,
    MediaType.OCI_LAYER_GZIP: MediaType.DOCKER_LAYER_GZIP,
    MediaType.OCI_LAYER_ZSTD: MediaType.DOCKER_LAYER_ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": MediaType.DOCKER_FOREIGN_LAYER,
}
_OCI = {docker: oci for oci, docker in _DOCKER.items()}


@dataclass(frozen=True, slots=True)
class Form:
    """How an output wants its image."""

    packing: str = ""  # of the layers of this build: gzip, zstd:9, …; empty: as they are
    force: bool = False  # of the base image's layers, too
    oci: bool = True  # media types; else Docker's
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """An image as bytes."""

    configs: tuple[bytes, ...]  # one a platform, as the next
    manifests: tuple[bytes, ...]
    index: bytes | None  # None: one platform needs none
    manifest_type: str
    top: Descriptor  # of the index, or else of the one manifest; what points to it in a layout

    @property
    def image_id(self) -> Digest:
        """As docker names it: by the config. Of several, by the index."""
        return Digest.of(self.configs[0]) if self.index is None else self.top.digest


def package(images: Sequence[Image], form: Form, repack: Repack) -> Package:
    """Args: one image a platform; how they are wanted; what packs a layer in another way."""
    configs = [image.config_content() for image in images]
    kind = MediaType.OCI_MANIFEST if form.oci else MediaType.DOCKER_MANIFEST
    manifests: list[bytes] = []
    entries: list[Descriptor] = []
    for image, config in zip(images, configs, strict=True):
        manifest = _manifest(image, config, form, repack).to_bytes()
        notes_there = chosen(form.annotations, notes.MANIFEST_DESCRIPTOR, image.platform)
        manifests.append(manifest)
        entries.append(Descriptor(kind, Digest.of(manifest), len(manifest), notes_there, image.config.platform))
    if len(images) == 1:
        # The descriptor tells the platform of an entry of an index; alone it is read from the config.
        return Package(tuple(configs), tuple(manifests), None, kind, replace(entries[0], platform=None))
    entries = [replace(entry, platform=image.platform) for entry, image in zip(entries, images, strict=True)]
    index_kind = MediaType.OCI_INDEX if form.oci else MediaType.DOCKER_LIST
    about = chosen(form.annotations, notes.INDEX)
    index = Index(index_kind, tuple(entries), annotations=about).to_bytes()
    top = Descriptor(index_kind, Digest.of(index), len(index), chosen(form.annotations, notes.INDEX_DESCRIPTOR))
    return Package(tuple(configs), tuple(manifests), index, kind, top)


def _manifest(image: Image, config: bytes, form: Form, repack: Repack) -> Manifest:
    types = _OCI if form.oci else _DOCKER
    base = len(image.tree.layers) - image.own
    layers: list[Descriptor] = []
    for number, (layer, diff_id) in enumerate(zip(image.tree.layers, image.tree.diff_ids, strict=True)):
        wanted = form.packing and (form.force or number >= base)
        found = repack(layer, diff_id, form.packing) if wanted else layer
        layers.append(replace(found, media_type=types.get(found.media_type, found.media_type)))
    return Manifest(
        MediaType.OCI_MANIFEST if form.oci else MediaType.DOCKER_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG if form.oci else MediaType.DOCKER_CONFIG, Digest.of(config), len(config)),
        tuple(layers),
        annotations=chosen(form.annotations, notes.MANIFEST, image.platform),
    )
