"""What pruning takes of the build cache, and what it must leave."""

import fcntl
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builder.cache import mounts
from builder.cache.parts import Input, Parts, to_json
from builder.snapshots import Snapshots
from builder.solver.results import MadeLayer
from pybuild.engine.pruning import CacheItem, Rules, cache_items, choose, prune, used_over_the_graph
from pybuild.engine.usage import measure
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, RootFs
from registry.model.platform import native
from registry.storage import ContentStore

NOW = 1_000_000.0
ANY = Rules()
HOUR = 3600.0


def item(name: str, age: float, *, size: int = 10, **words: object) -> CacheItem:
    return CacheItem(**{"kind": "step", "id": name, "title": f"RUN {name}", "bytes": size, "used": NOW - age, **words})  # type: ignore[arg-type]  # as the test says


def names(items: list[CacheItem]) -> list[str]:
    return [each.id for each in items]


class TestChoice:
    ITEMS = (
        item("new", HOUR), item("old", 9 * HOUR), item("older", 90 * HOUR),
        item("shared", 99 * HOUR, size=0, shared=True),
        item("busy", 99 * HOUR, in_use=True), item("mount", 5 * HOUR, kind="mount", title="/root/.cache/pip"),
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("rules", "chosen"),
        [
            (Rules(), ["older", "old", "mount", "new"]),
            (Rules(every=True), ["shared", "older", "old", "mount", "new"]),
            (Rules(max_age=6 * HOUR), ["older", "old"]),
            (Rules(kinds=frozenset({"mount"})), ["mount"]),
            (Rules(ids=("ol",)), ["older", "old"]),
            (Rules(titles=("PIP",)), ["mount"]),
            (Rules(titles=("run n", "pip")), ["mount", "new"]),
            (Rules(keep_bytes=50), []),
            (Rules(keep_bytes=49), ["older"]),
            (Rules(keep_bytes=25), ["older", "old", "mount"]),
            (Rules(keep_bytes=0), ["older", "old", "mount", "new"]),
            (Rules(keep_bytes=0, max_age=8 * HOUR), ["older", "old"]),
        ],
    )
    def test_of(self, rules: Rules, chosen: list[str]) -> None:
        assert names(choose(self.ITEMS, rules, NOW)) == chosen

    def test_what_carries_something_used_is_used(self) -> None:
        chain = [
            item("base", 90 * HOUR, chain="a"),
            item("middle", 80 * HOUR, below="a", chain="b"),
            item("top", HOUR, below="b", chain="c"),
            item("other", 70 * HOUR, below="a", chain="d"),
        ]
        ages = {each.id: (NOW - each.used) / HOUR for each in used_over_the_graph(chain)}
        assert ages == {"base": 1, "middle": 1, "top": 1, "other": 70}


@pytest.fixture
def root(ram_path: Path) -> Path:
    return ram_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[ContentStore]:
    with ContentStore.open(root) as opened:
        yield opened


class Cache:
    """Fills a store with cached steps, snapshots and cache mounts of any age."""

    def __init__(self, store: ContentStore) -> None:
        self.store, self.root = store, store.root

    def step(self, name: str, age: float = HOUR, below: str = "") -> str:
        """A cached step, used `age` seconds ago; the name of its file system."""
        content = name.encode() * 200_000
        blob = self.store.put(content)
        layer = MadeLayer(Descriptor(MediaType.OCI_LAYER, blob, len(content)), blob, 0, "")
        parts = Parts({"op": "run"}, Input("step", "below", below))
        record = json.dumps({**json.loads(layer.to_bytes()), "name": f"RUN {name}", "parts": to_json(parts)})
        key = Digest.of(f"key {name}".encode())
        self.store.cache_put(key, record.encode(), [blob])
        with closing(sqlite3.connect(self.root / "meta.db")) as database, database:
            database.execute("UPDATE cache_entry SET used = ? WHERE key = ?", (time.time() - age, str(key)))
            database.execute("UPDATE blob SET touched = ?", (time.time() - age,))
        return str(Digest.of(f"{below} {blob}".encode())) if below else str(blob)

    def image(self, name: str) -> None:
        """An image of one layer, that of the step of this name."""
        content = name.encode() * 200_000
        layer = Descriptor(MediaType.OCI_LAYER, Digest.of(content), len(content))
        config = ImageConfig(native(), rootfs=RootFs((layer.digest,))).to_bytes()
        described = Descriptor(MediaType.OCI_CONFIG, self.store.put(config), len(config))
        manifest = Manifest(MediaType.OCI_MANIFEST, described, (layer,))
        self.store.put_manifest(name, manifest.to_bytes(), manifest.media_type, tags=["1"], adopt=True)

    def snapshot(self, name: str, age: float = HOUR, parent: str | None = None) -> None:
        with Snapshots(self.root) as snapshots:
            made = snapshots.prepare(f"build-{name[:20]}", parent)
            Path(made.upper, "file").write_bytes(b"x" * 500_000)
            snapshots.commit(made.key, name)
        with closing(sqlite3.connect(self.root / "snapshots" / "index.db")) as database, database:
            database.execute("UPDATE snapshot SET used = ?", (time.time() - age,))

    def mount(self, mount_id: str, age: float = HOUR) -> Path:
        path = mounts.mounts_directory(self.root) / mounts.mount_name(mount_id)
        path.mkdir(parents=True)
        (path / "wheel").write_bytes(b"x" * 500_000)
        lock = Path(f"{path}.lock")
        lock.write_text(mount_id)
        os.utime(lock, (time.time() - age,) * 2)
        return path

    def left(self) -> set[str]:
        return {each.title for each in cache_items(self.store, self.root)}


@pytest.fixture
def cache(store: ContentStore) -> Cache:
    return Cache(store)


Prune = Callable[..., list[str]]


@pytest.fixture
def pruned(store: ContentStore, root: Path) -> Prune:
    def run(rules: Rules = ANY, **words: float) -> list[str]:
        gone, _ = prune(store, root, rules, **words)
        return sorted(each.title for each in gone)

    return run


def test_a_step_goes_with_its_layer(cache: Cache, pruned: Prune) -> None:
    cache.step("make")
    assert pruned() == ["RUN make"]
    assert cache.store.blobs() == []
    assert cache.store.cache_entries() == []


def test_a_step_whose_layer_an_image_has_stays_unless_all_is_asked_for(cache: Cache, pruned: Prune) -> None:
    cache.step("make")
    cache.image("make")
    assert pruned() == []
    assert pruned(Rules(every=True)) == ["RUN make"]
    assert len(cache.store.blobs()) == 2


def test_what_a_build_in_flight_holds_stays(cache: Cache, pruned: Prune) -> None:
    cache.step("make")
    layer = cache.store.blobs()[0].digest
    with cache.store.lease() as lease:
        lease.hold(layer)
        pruned()
        assert cache.store.has(layer)


def test_a_mount_that_a_step_uses_stays(cache: Cache, pruned: Prune) -> None:
    busy, spare = cache.mount("pip"), cache.mount("npm")
    with open(f"{busy}.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert pruned() == ["npm"]
    assert busy.is_dir()
    assert not spare.exists()
    assert cache.left() == {"pip"}


def test_a_mirror_of_a_repository_goes_when_it_is_not_used(cache: Cache, pruned: Prune) -> None:
    for name, age in (("old", HOUR), ("new", 0.0)):
        mirror = cache.root / "git" / name
        mirror.mkdir(parents=True)
        (mirror / "description").write_text(f"https://example.com/{name}.git")
        (cache.root / "git" / f"{name}.lock").touch()
        os.utime(cache.root / "git" / f"{name}.lock", (time.time() - age,) * 2)
    assert pruned() == ["https://example.com/old.git"]
    assert cache.left() == {"https://example.com/new.git"}
    usage = {each.what: each for each in measure(cache.store, cache.root)}
    assert usage["repositories"].count == 1


def test_an_unpacked_layer_stays_while_it_carries_a_container_or_was_just_used(cache: Cache, pruned: Prune) -> None:
    cache.snapshot("sha256:base")
    cache.snapshot("sha256:top", parent="sha256:base")
    cache.snapshot("sha256:other")
    with Snapshots(cache.root) as snapshots:
        snapshots.prepare("container-1", "sha256:top")
    assert pruned() == ["sha256:other"]
    with Snapshots(cache.root) as snapshots:
        snapshots.remove("container-1")
    assert pruned() == []
    assert pruned(idle_seconds=0) == ["sha256:base", "sha256:top"]


def test_least_recently_used_goes_first_until_what_is_left_is_small_enough(cache: Cache, pruned: Prune) -> None:
    base = cache.step("base", 9 * HOUR)
    cache.step("stale", 8 * HOUR, below=base)
    cache.step("fresh", HOUR, below=base)
    cache.mount("pip", 7 * HOUR)
    sizes = {each.title: each.bytes for each in cache_items(cache.store, cache.root)}
    assert pruned(Rules(keep_bytes=sizes["RUN base"] + sizes["RUN fresh"])) == ["RUN stale", "pip"]
    assert cache.left() == {"RUN base", "RUN fresh"}


def test_notes_go_with_the_steps_they_are_about(cache: Cache, pruned: Prune) -> None:
    cache.step("make")
    cache.store.cache_put(Digest.of(b"files"), b"map", kind="files")
    cache.store.cache_put(Digest.of(b"pointer"), str(Digest.of(b"gone")).encode(), kind="pointer")
    cache.store.cache_put(Digest.of(b"build"), b"[]", kind="build")
    pruned(Rules(kinds=frozenset({"mount"})))
    assert sorted(entry.kind for entry in cache.store.cache_entries()) == ["build", "step"]
    pruned(Rules(every=True))
    assert cache.store.cache_entries() == []


def test_the_bytes_that_come_free_are_told(cache: Cache) -> None:
    cache.step("make")
    cache.mount("pip")
    before = disk(cache.root)
    _, freed = prune(cache.store, cache.root, ANY)
    assert freed > 1_000_000
    assert before - disk(cache.root) == pytest.approx(freed, abs=200_000)


def test_the_parts_add_up_to_what_du_says(cache: Cache) -> None:
    cache.step("make")
    cache.step("linked")
    cache.image("linked")
    cache.snapshot("sha256:one")
    cache.mount("pip")
    os.link(cache.root / "snapshots" / "1" / "fs" / "file", cache.root / "snapshots" / "1" / "fs" / "again")
    (cache.root / "volumes" / "data").mkdir(parents=True)
    found = {each.what: each for each in measure(cache.store, cache.root)}
    assert found["total"].bytes == disk(cache.root)
    assert sum(each.bytes for each in found.values()) == 2 * found["total"].bytes
    assert {what: each.count for what, each in found.items() if each.count} == {
        "images": 2, "layers": 1, "unpacked": 1, "mounts": 1, "volumes": 1,
    }  # fmt: skip


def disk(root: Path) -> int:
    return int(subprocess.run(["du", "-s", "-B1", root], capture_output=True, check=True).stdout.split()[0])
