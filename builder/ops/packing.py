"""How layers are packed, and packing one again that was packed in another way."""

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.errors import LayerError, layer_errors
from builder.solver.results import MadeLayer
from registry.model import Descriptor, Digest
from registry.storage import ContentStore, Lease

if TYPE_CHECKING:
    from builder.layers import Compression

_SUFFIXES = {"gzip": ("gzip",), "zstd": ("+zstd", ".zstd"), "uncompressed": (".tar",)}  # of media types


def parse_compression(text: str) -> "Compression":
    """`gzip`, `zstd:9`. Raises LayerError: there is no such algorithm or level."""
    from builder.layers import Compression

    algorithm, colon, level = text.partition(":")
    if colon and not (level.isascii() and level.isdigit()):
        raise LayerError(f"not a compression: {text!r}", hint="write an algorithm and maybe a level, like zstd:9")
    return Compression.parse(algorithm, int(level) if colon else None)


def packed(layer: MadeLayer, compression: str, store: ContentStore, lease: Lease) -> MadeLayer:
    """A layer of the cache as this build wants it; the algorithm counts, not the level."""
    descriptor = repacked(layer.descriptor, layer.diff_id, compression, store, lease)
    return layer if descriptor is layer.descriptor else replace(layer, descriptor=descriptor)


def repacked(layer: Descriptor, diff_id: Digest, compression: str, store: ContentStore, lease: Lease) -> Descriptor:
    """A stored layer, packed as wanted: itself, or another blob that is made once and remembered."""
    algorithm = compression.partition(":")[0]
    if layer.media_type.endswith(_SUFFIXES[algorithm]):
        return layer
    key = Digest.of(f"repack {compression} {diff_id}".encode())
    known = MadeLayer.parse(store.cache_get(key) or b"")
    if known is None or not store.has(known.descriptor.digest):
        known = MadeLayer(_repacked(layer, diff_id, parse_compression(compression), store, lease), diff_id, 0, "")
        store.cache_put(key, known.to_bytes(), [known.descriptor.digest], kind="repack")
    else:
        lease.hold(known.descriptor.digest)
    return known.descriptor


@layer_errors()
def _repacked(
    layer: Descriptor, diff_id: Digest, packing: "Compression", store: ContentStore, lease: Lease
) -> Descriptor:
    from builder.layers.compression import Packer
    from registry.archive.unpacking import Limits, unpacked

    with (
        store.open_blob(layer.digest) as before,
        store.ingest(lease=lease) as blob,
        Packer(packing, blob.write) as packer,
    ):
        for piece in unpacked(before, Limits()):
            packer.write(piece)
        if packer.finish() != diff_id:
            raise LayerError(f"layer {layer.digest} is damaged", hint="build with --no-cache")
        return Descriptor(packing.media_type, blob.commit(), blob.size)
