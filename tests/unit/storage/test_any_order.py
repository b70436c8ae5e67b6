"""Whatever is done in whatever order: collection keeps exactly what can be reached, every tag leads to its content."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.model import Descriptor, Digest, Index, Manifest, MediaType
from registry.storage import ContentStore

REPOS = st.sampled_from(["app", "team/app"])
TAGS = st.sampled_from(["1", "2", "latest"])
LAYERS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=3, unique=True)


def describe(kind: str, content: bytes) -> Descriptor:
    return Descriptor(kind, Digest.of(content), len(content))


class Store(RuleBasedStateMachine):
    """The store beside plain dictionaries that say what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/dev/shm"))
        self.store = ContentStore.open(self.place / "root")
        self.manifests: dict[tuple[str, Digest], Manifest | Index] = {}
        self.tags: dict[tuple[str, str], Digest] = {}
        self.cached: set[Digest] = set()

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.place)

    @initialize()
    def begin_with_an_image(self) -> None:
        self.push("app", "1", [b"a"], about=None)

    def put(self, repo: str, tag: str, made: Manifest | Index) -> None:
        digest = self.store.put_manifest(repo, made.to_bytes(), made.media_type, tags=[tag] if tag else [], adopt=True)
        self.manifests[repo, digest] = made
        if tag:
            self.tags[repo, tag] = digest

    def known(self, data: st.DataObject, repo: str) -> Digest | None:
        here = sorted(digest for place, digest in self.manifests if place == repo)
        return data.draw(st.sampled_from(here)) if here else None

    @rule(repo=REPOS, tag=TAGS | st.just(""), layers=LAYERS, about=st.none() | st.just("app"))
    def push(self, repo: str, tag: str, layers: list[bytes], about: str | None) -> None:
        for content in (b"{}", *layers):
            self.store.put(content)
        subject = None
        if about and (newest := [digest for place, digest in self.manifests if place == repo]):
            subject = Descriptor(MediaType.OCI_MANIFEST, newest[-1], 1)
        listed = tuple(describe(MediaType.OCI_LAYER, content) for content in layers)
        self.put(repo, tag, Manifest(MediaType.OCI_MANIFEST, describe(MediaType.OCI_CONFIG, b"{}"), listed, subject))

    @rule(repo=REPOS, tag=TAGS | st.just(""), data=st.data())
    def push_index(self, repo: str, tag: str, data: st.DataObject) -> None:
        child = self.known(data, repo)
        if child is not None:
            content = self.store.manifest(repo, child).content
            self.put(repo, tag, Index(MediaType.OCI_INDEX, (describe(MediaType.OCI_MANIFEST, content),)))

    @rule(repo=REPOS, tag=TAGS, data=st.data())
    def tag(self, repo: str, tag: str, data: st.DataObject) -> None:
        target = self.known(data, repo)
        if target is not None:
            self.store.tag(repo, tag, target)
            self.tags[repo, tag] = target

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def untag(self, data: st.DataObject) -> None:
        repo, tag = data.draw(st.sampled_from(sorted(self.tags)))
        self.store.untag(repo, tag)
        del self.tags[repo, tag]

    @rule(repo=REPOS, data=st.data())
    def delete(self, repo: str, data: st.DataObject) -> None:
        target = self.known(data, repo)
        if target is not None:
            self.store.delete_manifest(repo, target)
            del self.manifests[repo, target]
            self.tags = {name: digest for name, digest in self.tags.items() if (name[0], digest) != (repo, target)}

    @rule(content=st.sampled_from([b"a", b"loose"]))
    def cache(self, content: bytes) -> None:
        digest = self.store.put(content)
        self.store.cache_put(Digest.of(b"key" + content), b"", [digest])
        self.cached.add(digest)

    @rule()
    def clear_cache(self) -> None:
        self.store.cache_clear()
        self.cached.clear()

    @rule()
    def collect(self) -> None:
        self.store.collect(grace_seconds=0, untagged_seconds=0)
        self.drop_unreachable()
        images = [made for made in self.manifests.values() if isinstance(made, Manifest)]
        needed = {child.digest for made in images for child in made.children} | self.cached
        lying = {Digest("sha256", path.name) for path in self.store.root.glob("blobs/sha256/*/*")}
        assert lying == needed

    def drop_unreachable(self) -> None:
        """An image is kept by a tag, by an index of its repository, or by the image that it is about."""
        while True:
            kept = {(repo, digest) for (repo, _), digest in self.tags.items()}
            for (repo, digest), made in self.manifests.items():
                kept |= {(repo, child.digest) for child in made.children}
                if made.subject and (repo, made.subject.digest) in self.manifests:
                    kept.add((repo, digest))
            left = {key: made for key, made in self.manifests.items() if key in kept}
            if left == self.manifests:
                return
            self.manifests = left

    @invariant()
    def every_tag_leads_to_its_content(self) -> None:
        assert {(image.repository, image.tag): image.digest for image in self.store.images()} == self.tags
        for (repo, digest), made in self.manifests.items():
            assert self.store.manifest(repo, digest).content == made.to_bytes()
            if isinstance(made, Manifest):
                assert all(self.store.has(child.digest) for child in made.children)


TestAnyOrder = Store.TestCase
TestAnyOrder.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
