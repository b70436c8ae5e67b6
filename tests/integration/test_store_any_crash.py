"""Clients push, mount, tag, delete and restore while garbage is collected and processes are killed, in any order.

What was acknowledged is never lost, what was cut off is done or not done, and once every window is over nothing is left
that no tag leads to. A crash is a real SIGKILL of a child process at one of the store's fault points. Time passes by
moving every date in the metadata back.

PYBUILD_TORTURE=N runs N examples of 30 steps with another seed each time (`make torture`).
"""

import copy
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import registry.storage
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, parse_manifest
from registry.storage import Client, ContentStore, ScrubReport, crash

WEEK = 7 * 24 * 3600.0
SOMEBODY = Client("somebody", WEEK)
REPOS = st.sampled_from(["app", "team/app"])
TAGS = st.sampled_from(["1", "2"])
CONTENT = st.sampled_from([b"aaaa", b"bbbb"])
LAYERS = st.lists(st.sampled_from([b"aaaa", b"bbbb", b"cccc"]), min_size=1, max_size=2, unique=True)
ROOM = Path(registry.storage.__file__).parent
POINTS = sorted(
    {name for module in ROOM.glob("*.py") for name in re.findall(r'crash_point\("([^"]+)"\)', module.read_text())}
)
DIE = st.sampled_from(["", *POINTS])
DIE_COLLECTING = st.sampled_from(["", *(point for point in POINTS if point.startswith(("collect", "sweep", "ledger")))])
TORTURE = int(os.environ.get("PYBUILD_TORTURE", "0"))
Act = Callable[[ContentStore], None]
Place = tuple[str, Digest]


@dataclass
class Model:
    """What must be there."""

    manifests: dict[Place, Manifest | Index] = field(default_factory=dict)
    tags: dict[tuple[str, str], Digest] = field(default_factory=dict)
    promised: set[Place] = field(default_factory=set)  # blobs that clients were told of within the window
    young: set[Place] = field(default_factory=set)  # manifests that were pushed, or taken away, within the window
    before: dict[tuple[str, str], Digest] = field(default_factory=dict)  # where tags can be restored to

    def put(self, repo: str, digest: Digest, made: Manifest | Index) -> None:
        self.manifests[repo, digest] = made
        self.young.add((repo, digest))

    def move(self, repo: str, tag: str, digest: Digest | None) -> None:
        old = self.tags.pop((repo, tag), None)
        if digest is not None:
            self.tags[repo, tag] = digest
        if old is not None and old != digest:
            self.before[repo, tag] = old
            self.young.add((repo, old))

    def holds(self, repo: str, digest: Digest) -> bool:
        """Whether that repository surely has the blob."""
        kept = self.kept() | self.young
        return (repo, digest) in self.promised or any(
            digest in {child.digest for child in made.children}
            for (place, named), made in self.manifests.items()
            if place == repo and (place, named) in kept
        )

    def kept(self) -> set[Place]:
        """Manifests that tags lead to."""
        found = {(repo, digest) for (repo, _), digest in self.tags.items()}
        for repo, digest in list(found):
            made = self.manifests.get((repo, digest))
            if isinstance(made, Index):
                found |= {(repo, child.digest) for child in made.children}
        return found


def upload(store: ContentStore, repo: str, content: bytes) -> None:
    begun = store.start_upload(repo)
    begun.append(content[:2])
    begun.flush()
    again = store.upload(repo, begun.id)
    again.append(content[2:])
    again.finish(Digest.of(content))


def collected(store: ContentStore) -> None:
    store.collect(grace_seconds=0, untagged_seconds=0)


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/dev/shm"))
        self.root = self.place / "root"
        self.model = Model()

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @initialize()
    def begin(self) -> None:
        ContentStore.open(self.root).close()

    def do(self, act: Act, change: Callable[[Model], None], die_at: str = "") -> None:
        """Act on the store and on the model; with `die_at`, in a process that is killed if it comes by that point."""
        after = copy.deepcopy(self.model)
        change(after)
        if not die_at:
            with ContentStore.open(self.root) as store:
                act(store)
            self.model = after
            return
        killed = self.run_and_kill(act, die_at)
        with ContentStore.open(self.root) as store:
            tags = {(image.repository, image.tag): image.digest for image in store.images()}
            present = self.present(store)
        assert tags in ([self.model.tags, after.tags] if killed else [after.tags]), "neither before nor after"
        if not killed:
            self.model = after
            return
        known = {**self.model.manifests, **after.manifests}
        came = present - set(self.model.manifests)
        if tags != self.model.tags:  # else nobody can tell, and only what was promised before counts
            self.model = after
        self.model.manifests = {place: made for place, made in known.items() if place in present}
        self.model.young |= came

    def run_and_kill(self, act: Act, die_at: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # newer Pythons warn of threads, which hold nothing here
            child = os.fork()
        if child == 0:
            code = 1
            try:
                crash._ARMED = die_at
                with ContentStore.open(self.root) as store:
                    act(store)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        return status != 0

    @staticmethod
    def present(store: ContentStore) -> set[Place]:
        pages, _ = store.manifest_page(limit=10_000)
        return {(repo, stored.digest) for repo, stored, _ in pages}

    def known(self, data: st.DataObject, repo: str) -> Digest | None:
        here = sorted(digest for place, digest in self.model.kept() | self.model.young
                      if place == repo and (place, digest) in self.model.manifests)  # fmt: skip
        return data.draw(st.sampled_from(here)) if here else None

    @rule(
        repo=REPOS, tags=st.lists(TAGS, max_size=2, unique=True), layers=LAYERS, die_at=st.sampled_from(["", *POINTS])
    )
    def push(self, repo: str, tags: list[str], layers: list[bytes], die_at: str) -> None:
        listed = tuple(Descriptor(MediaType.OCI_LAYER, Digest.of(content), len(content)) for content in layers)
        config = Descriptor(MediaType.OCI_CONFIG, Digest.of(b"{}"), 2)
        made = Manifest(MediaType.OCI_MANIFEST, config, listed)
        digest = Digest.of(made.to_bytes())

        def act(store: ContentStore) -> None:
            for content in (b"{}", *layers):
                if not store.repo_has(repo, Digest.of(content), extend=True):
                    upload(store, repo, content)
            store.put_manifest(repo, made.to_bytes(), made.media_type, tags=tags, by=SOMEBODY)

        def change(model: Model) -> None:
            model.put(repo, digest, made)
            model.promised |= {(repo, child.digest) for child in made.children}
            for tag in tags:
                model.move(repo, tag, digest)

        self.do(act, change, die_at)

    @rule(repo=REPOS, tag=TAGS, data=st.data())
    def push_index(self, repo: str, tag: str, data: st.DataObject) -> None:
        child = self.known(data, repo)
        if child is None:
            return
        content = self.model.manifests[repo, child].to_bytes()
        if isinstance(self.model.manifests[repo, child], Index):
            return
        made = Index(MediaType.OCI_INDEX, (Descriptor(MediaType.OCI_MANIFEST, child, len(content)),))
        digest = Digest.of(made.to_bytes())

        def change(model: Model) -> None:
            model.put(repo, digest, made)
            model.move(repo, tag, digest)

        self.do(lambda store: store.put_manifest(
            repo, made.to_bytes(), made.media_type, tags=[tag], by=SOMEBODY) and None, change)  # fmt: skip

    @rule(content=CONTENT, source=REPOS, into=REPOS, die_at=st.sampled_from(["", "mount-row"]))
    def mount(self, content: bytes, source: str, into: str, die_at: str) -> None:
        digest = Digest.of(content)
        if not self.model.holds(source, digest):
            return

        def act(store: ContentStore) -> None:
            assert store.mount(into, digest, source)

        self.do(act, lambda model: model.promised.add((into, digest)), die_at)

    @precondition(lambda self: self.model.tags)
    @rule(data=st.data(), die_at=st.sampled_from(["", "untag-row"]))
    def untag(self, data: st.DataObject, die_at: str) -> None:
        repo, tag = data.draw(st.sampled_from(sorted(self.model.tags)))
        self.do(lambda store: store.untag(repo, tag, by=SOMEBODY), lambda model: model.move(repo, tag, None), die_at)

    @rule(repo=REPOS, data=st.data(), die_at=st.sampled_from(["", "delete-kept", "delete-tags", "delete-manifest"]))
    def delete(self, repo: str, data: st.DataObject, die_at: str) -> None:
        target = self.known(data, repo)
        if target is None:
            return

        def change(model: Model) -> None:
            for place, tag in [name for name, digest in model.tags.items() if (name[0], digest) == (repo, target)]:
                model.move(place, tag, None)
            made = model.manifests.pop((repo, target))
            if isinstance(made, Manifest):
                model.promised |= {(repo, child.digest) for child in made.children}
            else:
                model.young |= {(repo, child.digest) for child in made.children}

        self.do(lambda store: store.delete_manifest(repo, target, by=SOMEBODY), change, die_at)

    @precondition(lambda self: self.model.before)
    @rule(data=st.data(), die_at=st.sampled_from(["", "restored", "manifest-committed", "tag-row"]))
    def restore(self, data: st.DataObject, die_at: str) -> None:
        repo, tag = data.draw(st.sampled_from(sorted(self.model.before)))
        digest = self.model.before[repo, tag]
        with ContentStore.open(self.root) as store:
            was_here = (repo, digest) in self.present(store)
        made = self.model.manifests.get((repo, digest))

        def act(store: ContentStore) -> None:
            assert store.history.restore(repo, tag) == digest

        def change(model: Model) -> None:
            if made is not None:
                model.put(repo, digest, made)
            model.move(repo, tag, digest)

        if was_here and made is not None:
            self.do(act, change, die_at)
            return
        self.do(act, lambda model: model.move(repo, tag, digest))  # deleted: comes back with what it lists
        self.learn_manifests()

    def learn_manifests(self) -> None:
        with ContentStore.open(self.root) as store:
            pages, _ = store.manifest_page(limit=10_000)
        for repo, stored, _ in pages:
            if (repo, stored.digest) not in self.model.manifests:
                self.model.put(repo, stored.digest, parse_manifest(stored.content, stored.media_type))

    @rule(die_at=DIE_COLLECTING)
    def collect(self, die_at: str) -> None:
        if die_at:
            self.run_and_kill(collected, die_at)
        with ContentStore.open(self.root) as store:
            collected(store)
        with ContentStore.open(self.root) as store:
            present = self.present(store)
            needed = (self.model.kept() | self.model.young) & set(self.model.manifests)
            assert needed <= present, "collection took a manifest that was needed"
            for repo, digest in self.model.promised:
                assert store.repo_has(repo, digest), "collection took a blob that a client was told of"
        self.model.manifests = {place: made for place, made in self.model.manifests.items() if place in present}

    @rule()
    def windows_end(self) -> None:
        """Everything becomes two weeks older; then nothing may be left but what tags lead to."""
        database = sqlite3.connect(self.root / "meta.db")
        with database:
            for table, column in (
                ("repo_blob", "lease_until"), ("manifest", "lease_until"), ("manifest", "pushed_at"),
                ("deleted_manifest", "keep_until"), ("blob", "touched"), ("blob", "created"), ("upload", "expires"),
                ("lease", "expires"),
            ):  # fmt: skip
                database.execute(f"UPDATE {table} SET {column} = {column} - {2 * WEEK}")
        database.close()
        for left in (self.root / "uploads").iterdir():
            os.utime(left, (1, 1))
        self.model.promised.clear()
        self.model.young.clear()
        self.model.before.clear()
        with ContentStore.open(self.root) as store:
            collected(store)
            kept = self.model.kept()
            self.model.manifests = {place: made for place, made in self.model.manifests.items() if place in kept}
            assert self.present(store) == set(self.model.manifests), "garbage"
            images = [made for made in self.model.manifests.values() if isinstance(made, Manifest)]
            needed = {child.digest for made in images for child in made.children}
            assert {Digest("sha256", path.name) for path in self.root.glob("blobs/sha256/*/*")} == needed
            assert list((self.root / "uploads").iterdir()) == []
            used = {space.name: space.used for space in store.namespaces.all()}
            for name, repo in (("", "app"), ("team", "team/app")):
                mine = [made for (place, _), made in self.model.manifests.items() if place == repo]
                blobs = {
                    child.digest: child.size for made in mine if isinstance(made, Manifest) for child in made.children
                }
                assert used.get(name, 0) == sum(blobs.values()) + sum(len(made.to_bytes()) for made in mine)

    @invariant()
    def every_tag_leads_to_its_content(self) -> None:
        if not (self.root / "meta.db").exists():
            return
        with ContentStore.open(self.root) as store:
            assert {(image.repository, image.tag): image.digest for image in store.images()} == self.model.tags
            for repo, digest in self.model.kept() & set(self.model.manifests):
                made = self.model.manifests[repo, digest]
                assert store.manifest(repo, digest).content == made.to_bytes()
                if isinstance(made, Manifest):
                    assert all(store.repo_has(repo, child.digest) for child in made.children)
                    assert all(len(store.read(child.digest)) == child.size for child in made.children)
            report = ScrubReport()
            for _ in store.scrubber.steps(report):
                pass
            assert report.damages == []


TestAnyCrash = Store.TestCase
TestAnyCrash.settings = settings(
    max_examples=TORTURE or 6,
    stateful_step_count=30,
    deadline=None,
    derandomize=not TORTURE,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
