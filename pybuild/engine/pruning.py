"""Giving disk space back: the build cache, and unpacked file systems that nobody needs.

Gives:    cache_items(), what there is; choose(), what a rule takes of it; prune(), the same done.
Promises: a running build keeps what it works with: by its lease, its locks, or by having used it a moment ago. What
          goes can be made again (a step by building, a snapshot from its layers), so pruning costs time, never data.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.cache import mounts
from builder.cache.ledger import files_key, parts_of
from builder.ops.repositories import Mirror, mirrors, remove_mirror
from builder.solver.results import MadeLayer
from pybuild.engine.usage import counter
from registry.errors import RegistryError
from registry.model import Digest, Index, parse_manifest
from registry.model.digest import chain_ids
from registry.storage import CacheEntry, ContentStore, StoredTag
from registry.storage.images import find_by_id

JUST_USED = 300.0  # seconds: a build or a start that reads a snapshot now has looked at it within this time
KINDS = ("step", "mount", "unpacked", "repository")
_REMEMBERED = 30 * 24 * 3600.0  # seconds: what nobody asked for so long, and no step needs, is forgotten


@dataclass(frozen=True, slots=True)
class CacheItem:
    """Something that pruning may take: a cached step's layer, a cache mount, an unpacked file system, a git mirror."""

    kind: str  # of KINDS
    id: str  # the layer's digest, the mount's or mirror's id, the snapshot's name
    title: str
    bytes: int  # that go when it goes
    used: float  # seconds since 1970; never older than what stands on it
    shared: bool = False  # an image of the store has it too
    in_use: bool = False
    keys: tuple[Digest, ...] = ()  # of a step: its records
    below: str = ""  # the file system it stands on
    chain: str = ""  # the file system that it is


@dataclass(frozen=True, slots=True)
class Rules:
    """What to take. Without any: all that no image needs."""

    every: bool = False  # also what images have
    keep_bytes: int | None = None  # only until no more than this is left, the longest unused first
    max_age: float = 0.0  # seconds: only what was not used for so long
    kinds: frozenset[str] = frozenset(KINDS)
    ids: tuple[str, ...] = ()  # beginnings; one must fit
    titles: tuple[str, ...] = ()  # parts; one must fit

    def wants(self, item: CacheItem, now: float) -> bool:
        return (
            not item.in_use
            and (self.every or not item.shared)
            and item.kind in self.kinds
            and item.used <= now - self.max_age
            and (not self.ids or any(item.id.startswith(each) for each in self.ids))
            and (not self.titles or any(each.casefold() in item.title.casefold() for each in self.titles))
        )


def choose(items: Sequence[CacheItem], rules: Rules, now: float) -> list[CacheItem]:
    """The longest unused first. Pure."""
    wanted = sorted((item for item in items if rules.wants(item, now)), key=lambda item: (item.used, item.id))
    if rules.keep_bytes is None:
        return wanted
    left = sum(item.bytes for item in items)
    chosen: list[CacheItem] = []
    for item in wanted:
        if left <= rules.keep_bytes:
            break
        chosen.append(item)
        left -= item.bytes
    return chosen


def used_over_the_graph(items: Sequence[CacheItem]) -> list[CacheItem]:
    """Whoever uses a step uses all it stands on, be it that only the top was looked at. Pure."""
    below = {item.chain: item.below for item in items if item.chain}
    reached: dict[str, float] = {}
    for item in sorted(items, key=lambda item: item.used, reverse=True):
        chain = item.below
        while chain and chain not in reached:
            reached[chain] = item.used
            chain = below.get(chain, "")
    return [replace(item, used=max(item.used, reached.get(item.chain, 0.0))) for item in items]


def cache_items(store: ContentStore, root: Path, *, idle_seconds: float = JUST_USED) -> list[CacheItem]:
    """All that pruning may take, or would if it were not in use."""
    idle_since = time.time() - idle_seconds
    found = (*_steps(store), *_mounts(root), *_unpacked(store, root, idle_since), *_repositories(root, idle_since))
    return used_over_the_graph(found)


def prune(
    store: ContentStore, root: Path, rules: Rules, *, idle_seconds: float = JUST_USED
) -> tuple[list[CacheItem], int]:
    """Remove what the rules take; what went, and the bytes that came free."""
    now = time.time()
    chosen = choose(cache_items(store, root, idle_seconds=idle_seconds), rules, now)
    taken = [item for item in chosen if item.kind in _REMOVERS and _REMOVERS[item.kind](root, item)]
    steps = [item for item in chosen if item.kind == "step"]
    store.cache_drop([key for item in steps for key in item.keys])
    _forget_notes(store, now, everything=rules == Rules(every=True))
    swept = _sweep(root, {item.id for item in chosen if item.kind == "unpacked"}, idle_seconds)
    unpacked = [item for item in chosen if item.kind == "unpacked" and item.id in swept]
    freed = sum(item.bytes for item in (*taken, *unpacked)) + store.collect(grace_seconds=idle_seconds).bytes
    return [*steps, *taken, *unpacked], freed


# -- what there is


def _steps(store: ContentStore) -> Iterator[CacheItem]:
    """Records of the same blobs are one: the fast and the slow key of a step, or two steps of equal outcome."""
    blobs = {blob.digest: blob for blob in store.blobs()}
    groups: dict[tuple[Digest, ...], list[CacheEntry]] = {}
    for entry in store.cache_entries():
        if entry.holds:
            groups.setdefault(entry.holds, []).append(entry)
    for holds, entries in groups.items():
        held = [blobs[digest] for digest in holds if digest in blobs]
        latest = entries[-1]
        below, chain = _place(latest.record)
        yield CacheItem(
            "step",
            str(holds[0]),
            _title(latest.record),
            sum(blob.size for blob in held if not blob.linked),
            latest.used,
            shared=bool(held) and all(blob.linked for blob in held),
            keys=tuple(entry.key for entry in entries),
            below=below,
            chain=chain,
        )


def _title(record: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(record).get("name", ""))
    return ""


def _place(record: bytes) -> tuple[str, str]:
    """The file systems that a step stands on and makes, by the names of their snapshots."""
    layer, parts = MadeLayer.parse(record), parts_of(record)
    if layer is None or parts is None:
        return "", ""
    below = parts.below.name
    return below, str(Digest.of(f"{below} {layer.diff_id}".encode()) if below else layer.diff_id)


def _mounts(root: Path) -> Iterator[CacheItem]:
    count = counter(root)
    for mount in mounts.cache_mounts(root):
        title = mount.id or mount.path.name
        yield CacheItem(
            "mount", mount.path.name, title, count.tree(str(mount.path)), mount.used, in_use=mounts.is_used(mount)
        )


def _unpacked(store: ContentStore, root: Path, idle_since: float) -> Iterator[CacheItem]:
    from builder.snapshots import Snapshots

    if not (root / "snapshots").is_dir():
        return
    with Snapshots(root) as snapshots:
        stored = snapshots.stored()
    parents = {each.key: each.parent for each in stored}
    carrying: set[str] = set()
    for each in stored:
        name = None if each.committed else each.parent
        while name is not None and name not in carrying:
            carrying.add(name)
            name = parents.get(name)
    wanted = {str(name) for name in _chains_of_images(store)}
    count = counter(root)
    for each in stored:
        if each.committed:
            yield CacheItem(
                "unpacked",
                each.key,
                each.key,
                count.tree(each.directory),
                each.used,
                shared=each.key in wanted,
                in_use=each.key in carrying or each.used > idle_since,
                below=each.parent or "",
                chain=each.key,
            )


def _repositories(root: Path, idle_since: float) -> Iterator[CacheItem]:
    count = counter(root)
    for mirror in mirrors(root / "git"):
        size = count.tree(str(mirror.path))
        used = mirror.used
        yield CacheItem("repository", mirror.path.name, mirror.remote, size, used, in_use=used > idle_since)


# -- taking it away


def _remove_mount(root: Path, item: CacheItem) -> bool:
    return mounts.remove(mounts.CacheMount(mounts.mounts_directory(root) / item.id, item.title, item.used))


def _remove_repository(root: Path, item: CacheItem) -> bool:
    return remove_mirror(Mirror(root / "git" / item.id, item.title, item.used))


_REMOVERS = {"mount": _remove_mount, "repository": _remove_repository}


def _sweep(root: Path, doomed: set[str], idle_seconds: float) -> set[str]:
    from builder.snapshots import Snapshots

    if not doomed:
        return set()
    with Snapshots(root) as snapshots:
        return set(snapshots.sweep(lambda name: name not in doomed, idle_seconds=idle_seconds))


def _forget_notes(store: ContentStore, now: float, *, everything: bool) -> None:
    """Records that hold nothing: those that no step needs any more, and those that nobody asked for in a long time."""
    entries = store.cache_entries()
    keys = {str(entry.key) for entry in entries}
    wanted = {
        files_key(selection.digest)
        for entry in entries
        if entry.holds and (parts := parts_of(entry.record)) is not None
        for selection in parts.selections
    }

    def is_spare(entry: CacheEntry) -> bool:
        if everything:
            return True
        if entry.kind == "files":
            return entry.key not in wanted
        if entry.kind == "pointer":
            return entry.record.decode(errors="replace") not in keys
        return entry.used < now - _REMEMBERED

    store.cache_drop([entry.key for entry in entries if not entry.holds and is_spare(entry)])


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
