"""Writing images from the store to a file or a folder. The same images give the same bytes, whenever and wherever."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

from registry.archive.tarformat import END, Entry, Kind, encode, padding
from registry.archive.unpacking import Limits, sniff, unpacked
from registry.errors import BlobUnknown, DigestInvalid, ManifestUnknown
from registry.model import Descriptor, Digest, Index, Reference, parse_manifest
from registry.model.digest import new_hasher
from registry.model.media_types import is_distributable
from registry.storage import ContentStore, StoredImage, StoredManifest
from registry.storage.images import find_image

Named = tuple[Reference | None, Digest]
Pieces = Callable[[], Iterator[bytes | memoryview]]  # a piece is good until the next one
_PIECE = 1024 * 1024
NAME_ANNOTATION = "io.containerd.image.name"  # containerd's and docker's: the whole name
TAG_ANNOTATION = "org.opencontainers.image.ref.name"


class Sink(Protocol):
    """Where files go."""

    def add(self, name: str, size: int, pieces: Pieces) -> None: ...


class _TarSink:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def add(self, name: str, size: int, pieces: Pieces) -> None:
        self._stream.write(encode(Entry(name.encode(), Kind.FILE, 0o444, size=size)))
        for piece in pieces():
            self._stream.write(piece)
        self._stream.write(padding(size))

    def finish(self) -> None:
        self._stream.write(END)


class FolderSink:
    """Files below a folder; a blob that is there already is left alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, size: int, pieces: Pieces) -> None:
        target = self._folder / name
        if name.startswith("blobs/") and target.is_file() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target) as stream:
            for piece in pieces():
                stream.write(piece)


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole."""
    if target.exists() and not target.is_file():  # a device or a pipe is written to, never replaced
        with target.open("wb") as stream:
            yield stream
        return
    draft = target.with_name(f".pybuild-{uuid4().hex}")
    try:
        stream = draft.open("xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    try:
        with stream:
            yield stream
        draft.rename(target)
    except BaseException:
        draft.unlink()
        raise


@contextlib.contextmanager
def _tar(out: Path | BinaryIO) -> Iterator[_TarSink]:
    with replaced(out) if isinstance(out, Path) else contextlib.nullcontext(out) as stream:
        sink = _TarSink(stream)
        yield sink
        sink.finish()


def write_oci_layout(
    store: ContentStore,
    images: Sequence[Named],
    out: Path | BinaryIO,
    *,
    folder: bool = True,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write images as an OCI layout (image-spec image-layout.md).

    Args:
        store: holds their content.
        images: a name, or None, and the digest of a manifest or index; one image may come under several names.
        out: a folder to make or add to, or a stream or file that gets a tar archive.
        folder: whether a path is that of a folder.
        about: annotations of each image's descriptor, beside its name.

    Raises:
        ManifestUnknown, BlobUnknown: the store does not have all of it.
    """
    if not isinstance(out, Path) or not folder:
        with _tar(out) as sink:
            _write_oci(store, images, sink, about or {})
        return
    out.mkdir(parents=True, exist_ok=True)
    _write_oci(store, images, FolderSink(out), about or {})


def _write_oci(store: ContentStore, images: Sequence[Named], sink: Sink, about: Mapping[str, str]) -> None:
    manifests: dict[Digest, bytes] = {}
    blobs: dict[Digest, int] = {}
    entries = []
    for reference, digest in images:
        top = _stored(store, digest)
        _gather(store, top, manifests, blobs)
        descriptor = Descriptor(top.media_type, digest, len(top.content), {**about, **_annotations(reference)})
        entries.append(descriptor.to_json())
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    add_json(sink, "oci-layout", {"imageLayoutVersion": "1.0.0"})
    for digest in sorted({*manifests, *blobs}):
        name = f"blobs/{digest.algorithm}/{digest.encoded}"
        if digest in manifests:
            add_bytes(sink, name, manifests[digest])
        else:
            sink.add(name, blobs[digest], blob_pieces(store, digest))
    add_json(sink, "index.json", index)  # last: in a folder, it names only what is there


def _annotations(reference: Reference | None) -> dict[str, str]:
    if reference is None:
        return {}
    tag = reference.tagged.tag or ""
    found = {NAME_ANNOTATION: f"{reference.domain}/{reference.path}" + (f":{tag}" if tag else "")}
    return found | {TAG_ANNOTATION: tag} if tag else found


def _stored(store: ContentStore, digest: Digest) -> StoredManifest:
    """A manifest by its digest alone, from any repository."""
    for repository, _ in store.find_manifests("manifest", str(digest)):
        return store.manifest(repository, digest)
    raise ManifestUnknown(f"no manifest {digest} here", hint="see `pybuild images --digests`")


def _gather(
    store: ContentStore, found: StoredManifest, manifests: dict[Digest, bytes], blobs: dict[Digest, int]
) -> None:
    """Collect what a manifest needs; images that an index lists but the store lacks are left out."""
    if found.digest in manifests:
        return
    manifests[found.digest] = found.content
    parsed = parse_manifest(found.content, found.media_type)
    for child in parsed.children:
        if not isinstance(parsed, Index):
            if store.has(child.digest) or is_distributable(child.media_type):
                blobs[child.digest] = store.size(child.digest)
            continue
        with contextlib.suppress(ManifestUnknown):
            _gather(store, _stored(store, child.digest), manifests, blobs)


def write_docker_archive(
    store: ContentStore, images: Sequence[Named], out: Path | BinaryIO, *, folder: bool = False
) -> None:
    """Write images as `docker save` does, for `docker load` and `podman load` of any age.

    Layers stay gzip or plain, as they are; those in zstd are written plain, which older daemons need.

    Args:
        store: holds their content.
        images: a name, or None, and the digest of a manifest, or of an index (then this machine's image of it).
        out: a file, or a stream.
        folder: whether a path is that of a folder to make or add to.

    Raises:
        ManifestUnknown, BlobUnknown: the store does not have all of it.
    """
    names: dict[Digest, list[str]] = {}
    found: dict[Digest, StoredImage] = {}
    for reference, digest in images:
        image = _image(store, digest)
        found[image.digest] = image
        names.setdefault(image.digest, [])
        if reference is not None and reference.tagged.tag:
            names[image.digest].append(str(replace(reference.tagged, digest=None)))
    if isinstance(out, Path) and folder:
        out.mkdir(parents=True, exist_ok=True)
        _write_docker(store, names, found, FolderSink(out))
        return
    with _tar(out) as sink:
        _write_docker(store, names, found, sink)


def _write_docker(
    store: ContentStore, names: Mapping[Digest, Sequence[str]], found: Mapping[Digest, StoredImage], sink: Sink
) -> None:
    written: set[str] = set()
    entries = []
    for digest, image in found.items():
        config = f"{image.config_digest.encoded}.json"
        if config not in written:
            add_bytes(sink, config, store.read(image.config_digest))
        layers = _add_layers(store, image, sink, written)
        written.add(config)
        entries.append({"Config": config, "RepoTags": names[digest] or None, "Layers": layers})
    add_json(sink, "manifest.json", entries)


def _image(store: ContentStore, digest: Digest) -> StoredImage:
    for repository, _ in store.find_manifests("manifest", str(digest)):
        return find_image(store, Reference.parse(repository).with_digest(digest))
    raise ManifestUnknown(f"no manifest {digest} here", hint="see `pybuild images --digests`")


def _add_layers(store: ContentStore, image: StoredImage, sink: Sink, written: set[str]) -> list[str]:
    names = []
    for layer, diff_id in zip(image.manifest.layers, image.config.rootfs.diff_ids, strict=True):
        if not store.has(layer.digest):
            raise BlobUnknown(f"layer {layer.digest} of {image.reference} is not here", hint="pull the image again")
        name = f"{diff_id.encoded}.tar"
        names.append(name)
        if name not in written:
            written.add(name)
            size, pieces = _layer(store, layer, diff_id)
            sink.add(name, size, pieces)
    return names


def _layer(store: ContentStore, layer: Descriptor, diff_id: Digest) -> tuple[int, Pieces]:
    """A layer as any docker can read it, and its size."""
    with store.open_blob(layer.digest) as blob:
        if sniff(blob.read(8)) != "zstd":
            return store.size(layer.digest), blob_pieces(store, layer.digest)

    def plain() -> Iterator[bytes]:
        with store.open_blob(layer.digest) as blob:
            yield from unpacked(blob, Limits())

    # A tar header tells the size first, so unpack twice: cheap with zstd, and no copy on disk.
    hasher, size = new_hasher(diff_id.algorithm), 0
    for piece in plain():
        hasher.update(piece)
        size += len(piece)
    if hasher.hexdigest() != diff_id.encoded:
        raise DigestInvalid(f"layer {layer.digest} unpacks to other bytes than {diff_id}", hint="pull the image again")
    return size, plain


def blob_pieces(store: ContentStore, digest: Digest) -> Pieces:
    def pieces() -> Iterator[bytes | memoryview]:
        buffer = memoryview(bytearray(_PIECE))  # one for all: fresh memory costs as much as copying
        with store.open_blob(digest) as blob:
            while count := blob.readinto(buffer):  # type: ignore[attr-defined]  # it is a file
                yield buffer[:count]

    return pieces


def add_bytes(sink: Sink, name: str, content: bytes) -> None:
    sink.add(name, len(content), lambda: iter(io.BytesIO(content)))


def add_json(sink: Sink, name: str, value: Any) -> None:  # noqa: ANN401 - JSON
    add_bytes(sink, name, json.dumps(value, separators=(",", ":")).encode())
