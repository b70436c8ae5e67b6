"""`--squash`: the layers that a build made become one; those of its base image stay as they are."""

from dataclasses import replace

from builder.exporters.assemble import Image
from builder.ops.packing import parse_compression
from builder.ops.workshop import Workshop
from builder.solver.results import MadeLayer, Tree
from builder.times import NANOSECONDS
from registry.errors import BlobUnknown
from registry.model import Digest, History, RootFs


def squashed(image: Image, shop: Workshop) -> Image:
    """The same files in fewer layers; the history keeps its lines, and has one more for the one layer."""
    if image.own < 2:
        return image
    tree, kept = image.tree, len(image.tree.layers) - image.own
    base = Tree(tree.layers[:kept], tree.diff_ids[:kept])
    layer = _known(base, tree, shop) or _made(base, tree, shop)
    merged = replace(base.on_top(layer), newest_ns=tree.newest_ns)
    older, count = _split(image.config.history, kept)
    steps = [replace(step, empty_layer=True) for step in image.config.history[older:]]
    last = History(image.config.created, comment=f"squashed {count} layers")
    config = replace(
        image.config, rootfs=RootFs(merged.diff_ids), history=(*image.config.history[:older], *steps, last)
    )
    return replace(image, config=config, tree=merged, own=1, cache=b"")


def _split(history: tuple[History, ...], layers: int) -> tuple[int, int]:
    """How many lines of the history the first `layers` layers take, and how many layers come after them."""
    older, left = 0, layers
    while left:
        left -= not history[older].empty_layer
        older += 1
    return older, sum(not step.empty_layer for step in history[older:])


def _key(base: Tree, tree: Tree, shop: Workshop) -> Digest:
    return Digest.of(f"squash {shop.compression} {shop.epoch} {base.chain} {tree.chain}".encode())


def _known(base: Tree, tree: Tree, shop: Workshop) -> MadeLayer | None:
    layer = MadeLayer.parse(shop.store.cache_get(_key(base, tree, shop)) or b"")
    try:
        if layer is not None:
            shop.lease.hold(layer.descriptor.digest)
    except BlobUnknown:
        return None
    return layer


def _made(base: Tree, tree: Tree, shop: Workshop) -> MadeLayer:
    from builder.layers import write_layer
    from builder.layers.squash import merge_layers

    own = len(tree.layers) - len(base.layers)
    uppers = shop.snapshots.view(shop.unpacked(tree))[:own]
    with shop.view(base) as below, shop.scratch(shop.unpacked(base)) as snapshot:
        when = tree.newest_ns if shop.epoch is None else shop.epoch * NANOSECONDS
        merge_layers(uppers[::-1], snapshot.upper, below, when)
        written = write_layer(snapshot, shop.store, parse_compression(shop.compression), lease=shop.lease)
    layer = MadeLayer(written.descriptor, written.diff_id, tree.newest_ns, "")
    shop.store.cache_put(_key(base, tree, shop), layer.to_bytes(), [layer.descriptor.digest], kind="squash")
    return layer
