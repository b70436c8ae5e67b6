"""A whole registry as one OCI image layout in a folder, and back: every repository, manifest and tag.

`index.json` lists each manifest once for each of its tags, or once if it has none, what it needs before it. The name
that any tool understands stands in its usual annotation; the repository, which a name can't always tell, in ours.
Both directions go on where they were cut off: what is there already, whole, is not copied again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.client.progress import Progress, Silent
from registry.errors import ArchiveError, BlobUnknown, NameInvalid
from registry.layouts.load import blob_name, keep_blob, name_of
from registry.layouts.sources import Absent, FolderSource
from registry.layouts.write import TAG_ANNOTATION, FolderSink, add_bytes, add_json, blob_pieces
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, parse_manifest
from registry.model.manifest import MAX_MANIFEST, check_content
from registry.model.media_types import is_distributable
from registry.model.reference import check_tag
from registry.storage import ContentStore, Lease, StoredManifest

REPOSITORY_ANNOTATION = "dev.pybuild.repository"
_LEASE = 24 * 3600  # seconds
_PAGE = 200  # manifests looked up at once
_MAX_INDEX = 1024 * 1024 * 1024  # bytes of index.json


@dataclass
class Moved:
    """What an export or import went through."""

    manifests: int = 0
    tags: int = 0
    blobs: int = 0


def export_registry(store: ContentStore, folder: Path) -> Moved:
    """Write all that the store serves into `folder`, made if absent. Pushes and collections may go on meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    sink, moved, entries = FolderSink(folder), Moved(), list[object]()
    done: set[Digest] = set()
    with store.lease(_LEASE) as lease:
        for repository, stored, tags in _everything(store):
            if not _written(store, lease, sink, stored, done):
                continue  # deleted at this moment
            for tag in tags or [""]:
                name = {TAG_ANNOTATION: f"{repository}:{tag}"} if tag else {}
                notes = {**name, REPOSITORY_ANNOTATION: repository}
                entries.append(Descriptor(stored.media_type, stored.digest, len(stored.content), notes).to_json())
            moved.manifests += 1
            moved.tags += len(tags)
        moved.blobs = len(done)
        add_json(sink, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        add_json(sink, "index.json", {"schemaVersion": 2, "mediaType": str(MediaType.OCI_INDEX), "manifests": entries})
    return moved


def _everything(store: ContentStore) -> Iterator[tuple[str, StoredManifest, list[str]]]:
    after: int | None = 0
    while after is not None:
        page, after = store.manifest_page(after=after, limit=_PAGE)
        yield from page


def _written(store: ContentStore, lease: Lease, sink: FolderSink, stored: StoredManifest, done: set[Digest]) -> bool:
    """A manifest and its blobs. False if collection was faster."""
    parsed = parse_manifest(stored.content, stored.media_type)
    for child in parsed.children:
        if child.digest in done:
            continue
        try:
            lease.hold(child.digest)
        except BlobUnknown:
            if isinstance(parsed, Index) or child.urls or not is_distributable(child.media_type):
                continue  # a manifest of its own, or content that lies elsewhere
            return False
        sink.add(blob_name(child.digest), store.size(child.digest), blob_pieces(store, child.digest))
        done.add(child.digest)
    add_bytes(sink, blob_name(stored.digest), stored.content)
    return True


def import_registry(store: ContentStore, folder: Path, progress: Progress | None = None) -> Moved:
    """Take in what `export_registry` wrote, or any OCI layout whose images have names.

    Each manifest is checked and goes in with all it needs, in the order of the index; an error leaves what came before.

    Raises:
        ArchiveError, ManifestInvalid, DigestInvalid, SizeInvalid: the layout is damaged, or none.
    """
    moved = Moved()
    seen: set[Digest] = set()
    placed: set[tuple[str, Digest]] = set()
    with store.lease(_LEASE) as lease:
        source = FolderSource(store, lease, folder, progress or Silent())
        for descriptor in _listed(source):
            repository, tags = _place(descriptor)
            content = check_content(descriptor, source.read(blob_name(descriptor.digest), MAX_MANIFEST))
            _take_blobs(source, parse_manifest(content, descriptor.media_type), seen)
            store.put_manifest(
                repository, content, descriptor.media_type, tags=tags, expected=descriptor.digest,
                sparse=True, adopt=True,
            )  # fmt: skip
            placed.add((repository, descriptor.digest))
            moved.tags += len(tags)
    moved.manifests, moved.blobs = len(placed), len(seen)
    return moved


def _listed(source: FolderSource) -> tuple[Descriptor, ...]:
    index = parse_manifest(source.read("index.json", _MAX_INDEX))
    if not isinstance(index, Index):
        raise ArchiveError("index.json is no index", hint="see image-spec, image-layout.md")
    return index.manifests


def _place(descriptor: Descriptor) -> tuple[str, list[str]]:
    repository = descriptor.annotations.get(REPOSITORY_ANNOTATION)
    if repository is None:
        return name_of(descriptor)
    if not repository or len(repository) > 512 or not repository.isprintable():
        raise NameInvalid(f"not a repository name in index.json: {repository[:100]!r}", hint="the layout is damaged")
    name = descriptor.annotations.get(TAG_ANNOTATION, "")
    return repository, [check_tag(name.rpartition(":")[2])] if name else []


def _take_blobs(source: FolderSource, parsed: Manifest | Index, seen: set[Digest]) -> None:
    for child in parsed.children:
        if child.digest in seen:
            continue
        try:
            keep_blob(source, child)
            seen.add(child.digest)
        except Absent:  # of an index: a manifest with an entry of its own, or none; caches list layers
            if isinstance(parsed, Manifest) and is_distributable(child.media_type) and not child.urls:
                raise
