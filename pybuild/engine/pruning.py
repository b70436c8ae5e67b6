"""Giving disk space back: unpacked file systems that no image needs, and the build cache.

Both can be made again (a snapshot from its layers, a cached step by building), so pruning costs time later, never data.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from registry.errors import RegistryError
from registry.model import Index, parse_manifest
from registry.model.digest import chain_ids
from registry.storage import ContentStore, StoredTag
from registry.storage.images import find_by_id

JUST_USED = 300.0  # seconds: a build or a start that reads a snapshot now has looked at it within this time


def forget_unpacked(store: ContentStore, root: Path, *, idle_seconds: float = JUST_USED) -> int:
    """Remove unpacked file systems that belong to no image of the store and carry no container; how many went."""
    from builder.snapshots import Snapshots

    wanted = {str(name) for name in _chains_of_images(store)}
    with Snapshots(root) as snapshots:
        return len(snapshots.sweep(lambda name: name in wanted, idle_seconds=idle_seconds))


def prune_builds(store: ContentStore, root: Path, *, idle_seconds: float = JUST_USED) -> int:
    """Forget every cached step and what only they need; bytes of layers that were freed.

    A build that runs meanwhile keeps what it holds by its lease, and what it still writes is not touched.
    """
    store.cache_clear()
    forget_unpacked(store, root, idle_seconds=idle_seconds)
    return store.collect(grace_seconds=idle_seconds).bytes


def _chains_of_images(store: ContentStore) -> Iterator[object]:
    for stored in [*store.images(), *store.untagged()]:
        for image in _images_of(store, stored):
            with contextlib.suppress(RegistryError):  # of another platform, and not here
                diff_ids = find_by_id(store, image).config.rootfs.diff_ids
                if diff_ids:
                    yield from chain_ids(diff_ids)


def _images_of(store: ContentStore, stored: StoredTag) -> list[str]:
    """Hex of the manifests that a name stands for: itself, or those that its index lists."""
    with contextlib.suppress(RegistryError):
        found = store.manifest(stored.repository, stored.digest)
        parsed = parse_manifest(found.content, found.media_type)
        if isinstance(parsed, Index):
            return [entry.digest.encoded for entry in parsed.manifests]
    return [stored.digest.encoded]
