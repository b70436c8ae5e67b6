"""Taking images from archives and folders that strangers made.

Nothing gets a name in the store until the whole archive has proved good; where its files lie is sources.py's business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from registry.archive import HARM
from registry.archive.unpacking import sniff
from registry.client.progress import Progress, Silent
from registry.errors import ArchiveError, DigestInvalid, SizeInvalid
from registry.layouts import UNNAMED
from registry.layouts.sources import Absent, FolderSource, Source, TarSource
from registry.layouts.write import NAME_ANNOTATION, TAG_ANNOTATION
from registry.model import Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Reference, parse_manifest
from registry.model.manifest import MAX_MANIFEST, check_content
from registry.model.media_types import LAYER_TYPES, is_distributable
from registry.storage import ContentStore

_MAX_MANIFESTS = 1000
_MAX_DEPTH = 4
_LEASE = 24 * 3600  # seconds


@dataclass
class _Loaded:
    """What will be put into the store when all has been checked."""

    repository: str
    manifests: dict[Digest, tuple[bytes, str]] = field(default_factory=dict)  # children before their index
    tags: list[str] = field(default_factory=list)
    top: Digest | None = None

    @property
    def result(self) -> Reference | Digest:
        assert self.top is not None
        return Reference.parse(f"{self.repository}:{self.tags[0]}") if self.tags else self.top


def load_archive(
    store: ContentStore, source: Path | BinaryIO, progress: Progress | None = None
) -> list[Reference | Digest]:
    """Take all images of a docker archive or an OCI layout into the store.

    Args:
        store: where they go, under the names that the archive gives them, else under `UNNAMED`.
        source: a folder, a file, or a stream; archives may be compressed with gzip, zstd, xz or bzip2.
        progress: told about large files.

    Returns:
        For each image its name, or its digest when it has none.

    Raises:
        ArchiveError, ManifestInvalid, DigestInvalid, SizeInvalid: nothing was loaded.
    """
    progress = progress or Silent()
    with store.lease(_LEASE) as lease:
        if not isinstance(source, Path):
            return _load(store, TarSource(store, lease, source, progress))
        if source.is_dir():
            return _load(store, FolderSource(store, lease, source, progress))
        with open(source, "rb") as stream:
            return _load(store, TarSource(store, lease, stream, progress))


def load_from_layout(
    store: ContentStore, folder: Path, wanted: str | Digest = "", progress: Progress | None = None
) -> Reference:
    """Take one image of an OCI layout into the store, without giving it a name.

    Args:
        store: where it goes.
        folder: the layout.
        wanted: its tag or digest; empty is `latest`, or the only one there is.
        progress: told about large files.

    Returns:
        How to find it: a repository and its digest.

    Raises:
        ArchiveError, ManifestInvalid, DigestInvalid, SizeInvalid: it is not there, or damaged.
    """
    with store.lease(_LEASE) as lease:
        source = FolderSource(store, lease, folder, progress or Silent())
        descriptor = _chosen(parse_manifest(source.read("index.json", MAX_MANIFEST)), wanted)
        image = _Loaded(UNNAMED, top=descriptor.digest)
        _walk(source, descriptor, image, 0)
        _put([image], store)
        return Reference.parse(UNNAMED).with_digest(descriptor.digest)


def _load(store: ContentStore, source: Source) -> list[Reference | Digest]:
    found = _collected(source)
    _put(found, store)
    return [image.result for image in found]


def _put(found: Sequence[_Loaded], store: ContentStore) -> None:
    for image in found:
        for digest, (content, media_type) in image.manifests.items():
            tags = image.tags if digest == image.top else []
            store.put_manifest(
                image.repository, content, media_type, tags=tags, expected=digest, sparse=True, adopt=True
            )


def _collected(source: Source) -> list[_Loaded]:
    try:
        index = source.read("index.json", MAX_MANIFEST)
    except Absent:
        return _docker_images(source)
    try:
        return _oci_images(source, index)
    except Absent:
        # Newer dockers write both forms into one archive, and not always all of the first.
        try:
            return _docker_images(source)
        except Absent:
            pass
        raise


# -- OCI layout -----------------------------------------------------------------------------------------------------


def _oci_images(source: Source, content: bytes) -> list[_Loaded]:
    index = parse_manifest(content)
    if not isinstance(index, Index):
        raise ArchiveError("index.json is no index", hint="see image-spec, image-layout.md")
    if not index.manifests:
        raise ArchiveError("the layout holds no image", hint="index.json lists none")
    images = []
    for descriptor in index.manifests:
        repository, tags = name_of(descriptor)
        image = _Loaded(repository, tags=tags, top=descriptor.digest)
        _walk(source, descriptor, image, 0)
        images.append(image)
    return images


def _chosen(index: Manifest | Index, wanted: str | Digest) -> Descriptor:
    if not isinstance(index, Index):
        raise ArchiveError("index.json is no index", hint="see image-spec, image-layout.md")
    if isinstance(wanted, Digest):
        found = [descriptor for descriptor in index.manifests if descriptor.digest == wanted]
    else:
        found = [descriptor for descriptor in index.manifests if (wanted or "latest") in _tags(descriptor)]
        if not wanted and not found and len(index.manifests) == 1:
            found = list(index.manifests)
    if not found:
        there = sorted({tag or str(each.digest) for each in index.manifests for tag in _tags(each) or {""}})
        raise ArchiveError(
            f"the layout has no image {wanted or 'latest'}", hint=f"it has {', '.join(there[:10]) or 'none'}"
        )
    return found[0]


def _tags(descriptor: Descriptor) -> set[str]:
    """The tags that a layout's annotations give to an image, be they whole names or not."""
    names = {descriptor.annotations.get(TAG_ANNOTATION, ""), descriptor.annotations.get(NAME_ANNOTATION, "")}
    return {name.rpartition("/")[2].rpartition(":")[2] for name in names if name}


def _walk(source: Source, descriptor: Descriptor, image: _Loaded, depth: int) -> None:
    """Read a manifest, check it against its descriptor, and have all that it needs in the store."""
    if depth > _MAX_DEPTH or len(image.manifests) > _MAX_MANIFESTS:
        raise ArchiveError("the layout's indexes are nested too deeply", hint="this is no image")
    content = check_content(descriptor, source.read(blob_name(descriptor.digest), MAX_MANIFEST))
    parsed = parse_manifest(content, descriptor.media_type)
    for child in parsed.children:
        if child.digest in image.manifests:
            continue
        try:
            if isinstance(parsed, Index):
                _walk(source, child, image, depth + 1)
            else:
                keep_blob(source, child)
        except Absent:
            # An index may list platforms that were not saved; a foreign layer lies where its URLs lead.
            if isinstance(parsed, Manifest) and is_distributable(child.media_type):
                raise
    image.manifests[descriptor.digest] = (content, parsed.media_type)


def keep_blob(source: Source, wanted: Descriptor) -> None:
    digest, size = source.keep(blob_name(wanted.digest), wanted.digest.algorithm)
    if digest != wanted.digest:
        raise DigestInvalid(f"a blob named {wanted.digest} is {digest}", hint="the archive is damaged; make it again")
    if size != wanted.size:
        raise SizeInvalid(f"{digest} has {size} bytes, its manifest says {wanted.size}", hint="do not trust it")


def blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def name_of(descriptor: Descriptor) -> tuple[str, list[str]]:
    """Repository and tags that a layout's annotations give to an image."""
    tag = descriptor.annotations.get(TAG_ANNOTATION, "")
    name = descriptor.annotations.get(NAME_ANNOTATION) or (tag if any(mark in tag for mark in "/:") else "")
    if not name:
        return UNNAMED, []
    reference = Reference.parse(name).tagged
    return reference.repository, [reference.tag] if reference.tag else []


# -- docker archive -------------------------------------------------------------------------------------------------


class _EntryJson(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def _docker_images(source: Source) -> list[_Loaded]:
    try:
        content = source.read("manifest.json", MAX_MANIFEST)
    except Absent:
        raise Absent(
            "neither a docker archive (manifest.json) nor an OCI layout (index.json)",
            hint="give what `docker save`, `podman save` or `pybuild save` wrote",
        ) from None
    try:
        entries = msgspec.json.decode(content, type=list[_EntryJson])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveError(f"manifest.json of the archive: {error}", hint="the archive is damaged") from None
    if len(entries) > _MAX_MANIFESTS:
        raise ArchiveError(f"the archive lists {len(entries)} images", hint=HARM)
    return [image for entry in entries for image in _docker_image(source, entry)]


def _docker_image(source: Source, entry: _EntryJson) -> Iterator[_Loaded]:
    """An image with a manifest of our making, once for each repository that it has names in."""
    config = source.read(entry.config, MAX_MANIFEST)
    diff_ids = ImageConfig.parse(config).rootfs.diff_ids
    if len(diff_ids) != len(entry.layers):
        raise ArchiveError(
            f"an image has {len(entry.layers)} layers, its config names {len(diff_ids)}", hint="the archive is damaged"
        )
    config_digest, size = source.keep(entry.config, "sha256")
    layers = tuple(_docker_layer(source, name, diff_id) for name, diff_id in zip(entry.layers, diff_ids, strict=True))
    manifest = Manifest(MediaType.OCI_MANIFEST, Descriptor(MediaType.OCI_CONFIG, config_digest, size), layers)
    content = manifest.to_bytes()
    tags: dict[str, list[str]] = {}
    for text in entry.repo_tags or ():
        reference = Reference.parse(text).tagged
        if reference.tag:
            tags.setdefault(reference.repository, []).append(reference.tag)
    for repository, names in (tags or {UNNAMED: []}).items():
        digest = Digest.of(content)
        yield _Loaded(repository, {digest: (content, MediaType.OCI_MANIFEST)}, names, digest)


def _docker_layer(source: Source, name: str, diff_id: Digest) -> Descriptor:
    digest, size = source.keep(name, "sha256")
    compression = sniff(source.head(name))
    if compression not in LAYER_TYPES:
        raise ArchiveError(f"layer {name[:100]} is compressed with {compression}", hint="use gzip, zstd or none")
    if compression == "uncompressed" and digest != diff_id:
        raise DigestInvalid(f"layer {name[:100]} is {digest}, its config says {diff_id}", hint="the archive is damaged")
    return Descriptor(LAYER_TYPES[compression], digest, size)
