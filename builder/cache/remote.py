"""The build cache outside of this machine: in a folder or in a registry (`--cache-to`, `--cache-from`).

What is written has the shape of BuildKit's caches (a manifest of layers, whose config of type cacheconfig.v0 lists
layers and records), so that registries and their collectors treat it alike. The records' keys are ours: BuildKit finds
no hits in it, and we find none in BuildKit's. Our own record of a step lies beside its key, under "pybuild"; it has
nothing of the Dockerfile, nor of what the build was given.

Promises: records are read when a build begins; a layer comes only when a step hits it, and is verified.
"""

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import uuid4

from builder.cache.ledger import Ledger
from builder.errors import BuilderError
from builder.plan.vertices import Vertex, in_order
from builder.solver.results import MadeLayer
from registry.errors import BlobUnknown, DigestInvalid, ManifestInvalid, ManifestUnknown, RegistryError, SizeInvalid
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Reference, parse_manifest

if TYPE_CHECKING:
    from builder.progress import Step
    from registry.client.distribution import RegistryClient
    from registry.storage import ContentStore, Lease

CONFIG_TYPE = "application/vnd.buildkit.cacheconfig.v0"
_CONFIG_LIMIT = 64 << 20
_PIECE = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")


class CachePlace(NamedTuple):
    """Where a cache lies: `where` is a folder or a reference. With `every` also steps that are not in the result."""

    type: str  # local, registry
    where: str
    every: bool = False
    ignore_error: bool = False

    @classmethod
    def parse(cls, text: str, *, write: bool) -> "CachePlace":
        """`type=local,dest=DIR`, `type=registry,ref=NAME,mode=max`; a lone name is that of a registry.

        Raises BuilderError: it makes no sense.
        """
        option, key = ("--cache-to", "dest") if write else ("--cache-from", "src")
        words = [word.strip() for word in text.split(",")]
        pairs = dict(word.partition("=")[::2] for word in words) if "=" in text else {"type": "registry", "ref": text}
        kind, mode = pairs.pop("type", ""), pairs.pop("mode", "min")
        where = pairs.pop("ref" if kind == "registry" else key, "")
        ignore = pairs.pop("ignore-error", "false")
        for harmless in ("image-manifest", "oci-mediatypes"):  # it is always so
            pairs.pop(harmless, "")
        if kind not in {"local", "registry"}:
            raise BuilderError(f"{option} {text}: no such kind of cache", hint="use type=local or type=registry")
        if pairs or not where or mode not in {"min", "max"} or ignore not in {"true", "false"}:
            hint = f"write {option} type=local,{key}=DIR or type=registry,ref=NAME" + (",mode=max" if write else "")
            raise BuilderError(f"{option} {text}: not understood", hint=hint)
        return cls(kind, where, mode == "max", ignore == "true")


class CachedStep(NamedTuple):
    """A step to export: its records by their keys, and the blobs below its own, base first."""

    keys: tuple[Digest, ...]
    layer: MadeLayer
    below: Digest | None  # the layer that it stands on, if a step made that


# -- writing


def steps_to_export(
    results: Sequence[Vertex], place: CachePlace, made: Mapping[Digest, MadeLayer], ledger: Ledger
) -> list[CachedStep]:
    """The steps of the graph with their layers; those of the results only, unless the place wants every one."""
    vertices = list(in_order(results))
    if not place.every:
        own = {vertex.digest for result in results for vertex in _standing_on(result)}
        vertices = [vertex for vertex in vertices if vertex.digest in own]
    found: list[CachedStep] = []
    for vertex in vertices:
        layer = made.get(vertex.digest)
        if layer is not None:
            below = made.get(vertex.inputs[0].digest)
            found.append(CachedStep(ledger.keys(vertex), layer, below.descriptor.digest if below else None))
    return found


def _standing_on(result: Vertex) -> Iterator[Vertex]:
    """The vertex and those whose layers are below its own."""
    yield result
    while result.inputs:
        result = result.inputs[0]
        yield result


def export_cache(
    store: "ContentStore",
    lease: "Lease",
    place: CachePlace,
    steps: Sequence[CachedStep],
    progress: "Step | None" = None,
) -> None:
    """Raises BuilderError, RegistryError: it can't be written there."""
    config, layers = _config(steps)
    blob = Descriptor(CONFIG_TYPE, store.put(config, lease=lease), len(config))
    manifest = Manifest(MediaType.OCI_MANIFEST, blob, tuple(layers)).to_bytes()
    here = Reference.parse(f"pybuild-cache/{uuid4().hex}:latest")  # ours alone: others may write the very same cache
    digest = store.put_manifest(here.repository, manifest, MediaType.OCI_MANIFEST, tags=["latest"], adopt=True)
    try:
        if place.type == "registry":
            from registry.client import push

            push(store, Reference.parse(place.where).tagged, source=here, progress=progress)
        else:
            _write_folder(store, Path(place.where), digest, {child.digest for child in (blob, *layers)})
    finally:  # a cache is no image of this machine
        with contextlib.suppress(RegistryError):
            store.delete_manifest(here.repository, digest)


def _config(steps: Sequence[CachedStep]) -> tuple[bytes, list[Descriptor]]:
    """cacheconfig.v0 (BuildKit, cache/remotecache/v1/types), and the layers that it speaks of."""
    places: dict[Digest, int] = {}
    layers: list[Descriptor] = []
    told: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for step in steps:
        layer = step.layer.descriptor
        if layer.digest not in places:
            places[layer.digest] = len(layers)
            layers.append(Descriptor(layer.media_type, layer.digest, layer.size))
            told.append(
                {
                    "blob": str(layer.digest),
                    "parent": places.get(step.below, -1) if step.below is not None else -1,
                    "annotations": {
                        "mediaType": str(layer.media_type),
                        "diffID": str(step.layer.diff_id),
                        "size": layer.size,
                        "createdAt": step.layer.created,
                    },
                }
            )
        for key in step.keys:
            # Not the parts of its key, which we keep ourselves: they have the values of build arguments.
            found = {"layer": places[layer.digest], "createdAt": step.layer.created}
            own = json.loads(step.layer.to_bytes())
            records.append({"digest": str(key), "layers": [found], "pybuild": own})
    return json.dumps({"layers": told, "records": records}).encode(), layers


def _write_folder(store: "ContentStore", folder: Path, digest: Digest, children: set[Digest]) -> None:
    from registry.layouts.write import write_oci_layout

    wanted = {digest.encoded, *(child.encoded for child in children)}
    try:
        write_oci_layout(store, [(Reference.parse("pybuild-cache:latest"), digest)], folder)
        blobs = folder / "blobs" / "sha256"
        for name in os.listdir(blobs):
            if name not in wanted and _HEX.fullmatch(name):
                (blobs / name).unlink(missing_ok=True)  # of the cache that was there before: else it grows for ever
    except OSError as error:
        raise BuilderError(f"can't write the cache to {folder}: {error.strerror}") from error


# -- reading


class _Source(Protocol):
    """Where a cache's blobs lie."""

    def manifest(self) -> Manifest: ...
    def pieces(self, blob: Descriptor) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def manifest(self) -> Manifest:
        try:
            index = parse_manifest(self._read(self._folder / "index.json"), None)
            if not isinstance(index, Index) or not index.manifests:
                raise ManifestInvalid(f"{self._folder} is no build cache", hint="was it written by --cache-to?")
            entry = index.manifests[-1]
            content = self._read(self._blob(entry.digest))
        except FileNotFoundError as error:
            raise ManifestUnknown(f"no cache in {self._folder} yet") from error
        return _checked(content, entry.digest, str(self._folder))

    def pieces(self, blob: Descriptor) -> Iterator[bytes]:
        with self._blob(blob.digest).open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def close(self) -> None:
        pass

    def _blob(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.encoded

    def _read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(_CONFIG_LIMIT)


class _Registry:
    def __init__(self, name: str) -> None:
        self._reference = Reference.parse(name).tagged
        self._client: RegistryClient | None = None

    def manifest(self) -> Manifest:
        from registry.client.distribution import RegistryClient

        self._client = RegistryClient(self._reference.domain, path=self._reference.path)
        found = self._client.manifest(self._reference.path, self._reference.tag or "latest")
        return _checked(found.content, found.digest, str(self._reference))

    def pieces(self, blob: Descriptor) -> Iterator[bytes]:
        assert self._client is not None, "the manifest comes first"
        with self._client.blob(self._reference.path, blob) as response:
            if response.status_code != 200:
                raise BlobUnknown(f"{self._reference.domain} answers {response.status_code} for {blob.digest}")
            yield from self._client.transport.pieces(response)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _checked(content: bytes, digest: Digest, where: str) -> Manifest:
    found = parse_manifest(content, None)
    if Digest.of(content, digest.algorithm) != digest:
        raise ManifestInvalid(f"the cache in {where} is damaged: its manifest is not what its digest says")
    if not isinstance(found, Manifest) or found.config.media_type != CONFIG_TYPE:
        raise ManifestInvalid(f"{where} is no build cache", hint="was it written by --cache-to?")
    return found


class RemoteCache:
    """Steps that another machine did. Used by several threads; closed at the end of the build."""

    def __init__(self, place: CachePlace) -> None:
        """Raises RegistryError, OSError: there is no such cache, or it is damaged."""
        self._source: _Source = _Registry(place.where) if place.type == "registry" else _Folder(Path(place.where))
        self._lock = threading.Lock()
        self._records: dict[str, bytes] = {}
        try:
            manifest = self._source.manifest()
            self._layers = {layer.digest: layer for layer in manifest.layers}
            if manifest.config.size > _CONFIG_LIMIT:
                raise SizeInvalid(f"the records of the cache take {manifest.config.size} bytes", hint="is it a cache?")
            config = b"".join(_bounded(self._source.pieces(manifest.config), manifest.config))
            if Digest.of(config, manifest.config.digest.algorithm) != manifest.config.digest:
                raise DigestInvalid("the records of the cache are not what its manifest says")
            self._read(config)
        except BaseException:
            self._source.close()
            raise

    def _read(self, config: bytes) -> None:
        try:
            for record in json.loads(config)["records"]:
                if "pybuild" in record:  # a record of BuildKit's has another key than any step of ours
                    self._records[str(record["digest"])] = json.dumps(record["pybuild"]).encode()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ManifestInvalid(f"the records of the cache are damaged: {error}") from error

    def find(self, key: Digest, store: "ContentStore", lease: "Lease") -> MadeLayer | None:
        """What a step gave, with its blob in the store. None if it is not there or can't be had."""
        record = self._records.get(str(key))
        layer = MadeLayer.parse(record) if record is not None else None
        described = self._layers.get(layer.descriptor.digest) if layer is not None else None
        if layer is None or described is None or described != layer.descriptor:
            return None
        with self._lock, contextlib.suppress(RegistryError, OSError):  # a cache that fails is a miss
            if store.has(described.digest):
                lease.hold(described.digest)
            else:
                with store.ingest(described.digest.algorithm, lease) as blob:
                    for piece in _bounded(self._source.pieces(described), described):
                        blob.write(piece)
                    blob.commit(described.digest, described.size)
            return layer
        return None

    def close(self) -> None:
        self._source.close()


def _bounded(pieces: Iterable[bytes], blob: Descriptor) -> Iterator[bytes]:
    """No more than was announced: what a registry sends is not trusted."""
    left = blob.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ManifestInvalid(f"more than the {blob.size} bytes of {blob.digest} came")
        yield piece
