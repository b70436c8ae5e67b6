"""Reading caches that lie elsewhere: in a folder, in a registry, in an image (`--cache-from`).

They are BuildKit's (chains.py): a manifest of layers whose config, of type cacheconfig.v0, lists layers and records;
an older index of the same; or an image with the records in its config. What we wrote has records by our own keys, too.

Promises: records are read when a build begins; a layer comes only when a step hits it, and is verified.
"""

import base64
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.cache.chains import Chains, Config, Contents, Outcome, Place, merged, parse
from builder.cache.llb import Operation
from builder.cache.places import CachePlace
from builder.errors import BuilderError
from builder.solver.results import MadeLayer, Tree
from builder.times import NANOSECONDS, nanoseconds, rfc3339
from registry.errors import BlobUnknown, DigestInvalid, ManifestInvalid, ManifestUnknown, RegistryError, SizeInvalid
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Platform, Reference, parse_manifest
from registry.model.digest import new_hasher
from registry.model.platform import best_match

if TYPE_CHECKING:
    from registry.client.distribution import RegistryClient
    from registry.storage import ContentStore, Lease

CONFIG_TYPE = "application/vnd.buildkit.cacheconfig.v0"
INLINE = "moby.buildkit.cache.v0"  # in an image's config
DIFF_ID, CREATED = "containerd.io/uncompressed", "buildkit/createdat"  # annotations of a cache's layers
AS_OCI: Mapping[str, str] = {
    MediaType.DOCKER_LAYER: MediaType.OCI_LAYER,
    MediaType.DOCKER_LAYER_GZIP: MediaType.OCI_LAYER_GZIP,
    MediaType.DOCKER_LAYER_ZSTD: MediaType.OCI_LAYER_ZSTD,
}
_CONFIG_LIMIT = 64 << 20
_MANIFEST_LIMIT = 4 << 20
_PIECE = 1 << 20
_OCI_NAME = "org.opencontainers.image.ref.name"


class _Source(Protocol):
    """Where a cache's blobs lie."""

    def top(self) -> tuple[bytes, Digest]:
        """The manifest or index, and the digest that it should have."""
        ...

    def manifest(self, child: Descriptor) -> bytes: ...
    def pieces(self, blob: Descriptor) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class _Folder:
    def __init__(self, place: CachePlace) -> None:
        self._folder = Path(place.where)
        self._place = place

    def top(self) -> tuple[bytes, Digest]:
        try:
            if self._place.digest:
                wanted = Digest.parse(self._place.digest)
                return self._read(self._blob(wanted)), wanted
            index = parse_manifest(self._read(self._folder / "index.json"), None)
            if not isinstance(index, Index) or not index.manifests:
                raise ManifestInvalid(f"{self._folder} is no build cache", hint="was it written by --cache-to?")
            named = [each for each in index.manifests if each.annotations.get(_OCI_NAME) == self._place.tag]
            entry = (named or index.manifests)[-1]
            return self._read(self._blob(entry.digest)), entry.digest
        except FileNotFoundError as error:
            raise ManifestUnknown(f"no cache in {self._folder} yet") from error

    def manifest(self, child: Descriptor) -> bytes:
        return self._read(self._blob(child.digest))

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
            return file.read(_MANIFEST_LIMIT)


class _Registry:
    def __init__(self, name: str) -> None:
        self._reference = Reference.parse(name).tagged
        self._opened: RegistryClient | None = None

    @property
    def _client(self) -> "RegistryClient":
        if self._opened is None:
            from registry.client.distribution import RegistryClient

            self._opened = RegistryClient(self._reference.domain, path=self._reference.path)
        return self._opened

    def top(self) -> tuple[bytes, Digest]:
        digest = self._reference.digest
        found = self._client.manifest(self._reference.path, str(digest or self._reference.tag or "latest"))
        return found.content, digest or found.digest

    def manifest(self, child: Descriptor) -> bytes:
        return self._client.manifest(self._reference.path, str(child.digest)).content

    def pieces(self, blob: Descriptor) -> Iterator[bytes]:
        with self._client.blob(self._reference.path, blob) as response:
            if response.status_code != 200:
                raise BlobUnknown(f"{self._reference.domain} answers {response.status_code} for {blob.digest}")
            yield from self._client.transport.pieces(response)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


class RemoteCache:
    """Steps that another machine did. Used by several threads; closed at the end of the build."""

    def __init__(self, place: CachePlace, platforms: Sequence[Platform]) -> None:
        """Args: platforms: which images of an index are looked at.

        Raises RegistryError, OSError: there is no such cache, or it is damaged.
        """
        self._source: _Source = _Registry(place.where) if place.type == "registry" else _Folder(place)
        self._where = place.where
        self._lock = threading.Lock()
        self._layers: dict[str, Descriptor] = {}
        try:
            content, digest = self._source.top()
            config = self._config(_checked(content, digest, self._where), platforms)
            self._own = {str(record["key"]): json.dumps(record).encode() for record in config.pybuild}
            self._chains = Chains(config)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._source.close()
            raise ManifestInvalid(f"the records of the cache are damaged: {error}") from error
        except BaseException:
            self._source.close()
            raise

    # -- opening

    def _config(self, top: Manifest | Index, platforms: Sequence[Platform]) -> Config:
        """The records; notes the layers."""
        if isinstance(top, Index):
            config = next((each for each in top.manifests if each.media_type == CONFIG_TYPE), None)
            if config is None:
                return merged([self._config(child, ()) for child in self._children(top, platforms)])
            layers = tuple(each for each in top.manifests if each is not config)
        else:
            config, layers = top.config, top.layers
        self._layers |= {str(layer.digest): layer for layer in layers}
        content = self._small(config)
        return parse(content) if config.media_type == CONFIG_TYPE else self._inline(content, layers)

    def _children(self, index: Index, platforms: Sequence[Platform]) -> list[Manifest]:
        """The images of an index that are for those platforms."""
        offered = [child.platform for child in index.manifests]
        best = {number for platform in platforms if (number := best_match(platform, offered)) is not None}
        found: list[Manifest] = []
        for child in (index.manifests[number] for number in sorted(best)):
            manifest = _checked(self._source.manifest(child), child.digest, self._where)
            if isinstance(manifest, Manifest):
                found.append(manifest)
        if not found:
            raise ManifestInvalid(f"{self._where} has no cache for {', '.join(map(str, platforms))}")
        return found

    def _inline(self, content: bytes, layers: tuple[Descriptor, ...]) -> Config:
        """The records in an image's config, which speak of the image's own layers."""
        image = json.loads(content)
        diff_ids = image["rootfs"]["diff_ids"]
        if INLINE not in image or len(diff_ids) != len(layers):
            raise ManifestInvalid(f"{self._where} is no build cache", hint="was it built with --cache-to type=inline?")
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            self._layers[str(layer.digest)] = replace(layer, annotations={DIFF_ID: str(diff_id)})
        places = [Place(str(layer.digest), number - 1) for number, layer in enumerate(layers)]
        records = json.loads(base64.b64decode(image[INLINE], validate=True))
        return parse({"records": records, "layers": [{"blob": each.blob, "parent": each.parent} for each in places]})

    def _small(self, blob: Descriptor) -> bytes:
        if blob.size > _CONFIG_LIMIT:
            raise SizeInvalid(f"the records of the cache take {blob.size} bytes", hint="is it a cache?")
        content = b"".join(_bounded(self._source.pieces(blob), blob))
        if Digest.of(content, blob.digest.algorithm) != blob.digest:
            raise DigestInvalid("the records of the cache are not what its manifest says")
        return content

    # -- asking

    def find(self, key: Digest, store: "ContentStore", lease: "Lease") -> MadeLayer | None:
        """What a step gave, by our key, with its blob in the store. None if it is not there or can't be had."""
        record = self._own.get(str(key))
        layer = MadeLayer.parse(record) if record is not None else None
        described = self._layers.get(str(layer.descriptor.digest)) if layer is not None else None
        if layer is None or described is None or described.size != layer.descriptor.size:
            return None
        with self._lock:
            return layer if self._have(layer, store, lease) else None

    def match(
        self, operation: Operation, contents: Contents, below: Tree, store: "ContentStore", lease: "Lease"
    ) -> MadeLayer | None:
        """The same by BuildKit's key. Only a result that stands on the very layers of `below` is one."""
        with self._lock:
            for outcome in self._chains.outcomes(operation, contents):
                layer = self._on_top(outcome, below)
                if layer is not None and self._have(layer, store, lease):
                    return layer
        return None

    def _on_top(self, outcome: Outcome, below: Tree) -> MadeLayer | None:
        layers = [self._layers.get(blob) for blob in outcome.blobs]
        if len(layers) != len(below.diff_ids) + 1:
            return None
        try:
            diff_ids = [Digest.parse(layer.annotations[DIFF_ID]) for layer in layers if layer is not None]
        except (KeyError, RegistryError):
            return None
        top = layers[-1]
        if top is None or tuple(diff_ids[:-1]) != below.diff_ids:
            return None
        moment = nanoseconds(outcome.created) or nanoseconds(top.annotations.get(CREATED))
        descriptor = Descriptor(AS_OCI.get(top.media_type, top.media_type), top.digest, top.size)
        # Spelled anew: it goes into the image's history, and what came may be a date of another form.
        return MadeLayer(descriptor, diff_ids[-1], max(below.newest_ns, moment), rfc3339(moment // NANOSECONDS))

    def _have(self, layer: MadeLayer, store: "ContentStore", lease: "Lease") -> bool:
        """Get the layer into the store. A cache that fails is a miss."""
        from registry.archive.unpacking import Limits, unpacked

        blob = layer.descriptor
        try:
            if store.has(blob.digest):
                lease.hold(blob.digest)
            else:
                with store.ingest(blob.digest.algorithm, lease) as target:
                    for piece in _bounded(self._source.pieces(blob), blob):
                        target.write(piece)
                    target.commit(blob.digest, blob.size)
            hasher = new_hasher(layer.diff_id.algorithm)
            with store.open_blob(blob.digest) as file:
                for piece in unpacked(file, Limits()):
                    hasher.update(piece)
            return hasher.hexdigest() == layer.diff_id.encoded
        except (RegistryError, BuilderError, OSError):
            return False

    def close(self) -> None:
        self._source.close()


def _checked(content: bytes, digest: Digest, where: str) -> Manifest | Index:
    if Digest.of(content, digest.algorithm) != digest:
        raise ManifestInvalid(f"the cache in {where} is damaged: its manifest is not what its digest says")
    return parse_manifest(content, None)


def _bounded(pieces: Iterable[bytes], blob: Descriptor) -> Iterator[bytes]:
    """No more than was announced: what a registry sends is not trusted."""
    left = blob.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ManifestInvalid(f"more than the {blob.size} bytes of {blob.digest} came")
        yield piece
