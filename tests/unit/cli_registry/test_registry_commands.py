"""The commands for the operator of a registry, as their words: each works on the store, beside servers or without."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cli.main import main
from registry.errors import QuotaExceeded, ReadOnly
from registry.model import Descriptor, Digest, Index, Manifest, MediaType
from registry.storage import Client, ContentStore

SOMEBODY = Client("somebody", 3600)
OCI = MediaType.OCI_MANIFEST
Run = Callable[..., str]


def image(store: ContentStore, repo: str, name: str, *tags: str, subject: Descriptor | None = None) -> Digest:
    config = Descriptor(MediaType.OCI_CONFIG, store.put(b"{}"), 2)
    layer = Descriptor(MediaType.OCI_LAYER, store.put(name.encode()), len(name))
    content = Manifest(OCI, config, (layer,), subject).to_bytes()
    return store.put_manifest(repo, content, OCI, tags=tags, adopt=True)


@pytest.fixture
def root(ram_path: Path) -> Path:
    return ram_path / "root"


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`pybuild registry …`; what it printed."""

    def call(*arguments: str, code: int = 0) -> str:
        assert main(["--root", str(root), "registry", *arguments]) == code
        found = capsys.readouterr()
        return found.out + found.err

    return call


def test_explain_leads_to_the_tag(root: Path, run: Run) -> None:
    with ContentStore.open(root) as store:
        image(store, "app", "one", "1")
    assert "tagged app:1" in run("explain", str(Digest.of(b"one")))
    assert "hint:" in run("explain", str(Digest.of(b"never")), code=1)


def test_scrub_ends_with_1_when_something_is_damaged(root: Path, run: Run) -> None:
    with ContentStore.open(root) as store:
        image(store, "app", "one", "1")
        path = store.path(Digest.of(b"one"))
    assert "0 damaged" in run("scrub")
    path.write_bytes(b"two")
    assert "has other content; needed by app" in run("scrub", "--rate", "1GB", code=1)
    assert str(Digest.of(b"one")) in run("scrub", "--known", code=1)


def test_migrate_says_the_version(root: Path, run: Run) -> None:
    assert "expanded to version" in run("migrate")
    assert "contracted to version 0" in run("migrate", "--contract")


def test_read_only_is_a_switch(root: Path, run: Run) -> None:
    run("read-only", "on", "team")
    with ContentStore.open(root) as store:
        with pytest.raises(ReadOnly):
            store.namespaces.check_writable("team/app")
        store.namespaces.check_writable("app")
    assert "read-only" in run("quota")
    run("read-only", "off", "team")
    run("read-only", "on")
    with ContentStore.open(root) as store, pytest.raises(ReadOnly):
        store.namespaces.check_writable("app")


def test_quota_is_set_listed_and_lifted(root: Path, run: Run) -> None:
    run("quota", "_", "5B")
    with ContentStore.open(root) as store, pytest.raises(QuotaExceeded):
        store.start_upload("app").append(b"123456")
    assert "5B" in run("quota")
    run("quota", "_", "none")
    with ContentStore.open(root) as store:
        store.start_upload("app").append(b"123456")
    assert "hint:" in run("quota", "*", "5B", code=2)


def test_rules_are_made_tried_followed_and_removed(root: Path, run: Run) -> None:
    with ContentStore.open(root) as store:
        for name in ("1", "2", "3"):
            image(store, "ci/app", name, name)
    run("rule", "immutable", "*", "1")
    number = run("rule", "retain", "ci/*", "*", "--keep-last", "1", "--keep-pulled", "30d").strip()
    assert "the last 1, pulled within 4 weeks" in run("rule", "list")
    tried = run("retain", "--dry-run")
    assert "ci/app:2" in tried
    assert "would remove 1 tags" in tried
    assert "removed 1 tags" in run("retain")
    with ContentStore.open(root) as store:
        assert store.tags("ci/app") == ["1", "3"]
    run("rule", "remove", number)
    assert "no rule" in run("rule", "remove", number, code=2)
    assert "hint:" in run("rule", "retain", "*", "*", code=1)


def test_history_tells_and_restore_brings_back(root: Path, run: Run) -> None:
    with ContentStore.open(root) as store:
        digest = image(store, "app", "one", "1")
        store.delete_manifest("app", digest, by=SOMEBODY)
    assert run("restore", "app", "1").strip() == str(digest)
    shown = run("history", "app", "1").splitlines()
    assert len(shown) == 4
    assert "somebody" in shown[2]


class TestExportAndImport:
    @pytest.fixture
    def digests(self, root: Path) -> set[Digest]:
        """A registry with all that is not simple: shared layers, names that differ by form, an index, a referrer."""
        with ContentStore.open(root) as store:
            one = image(store, "app", "one", "1", "latest")
            image(store, "library/app", "two", "1")
            image(store, "team/deep/app", "one", "1")
            untagged = image(store, "app", "three")
            stored = store.manifest("app", one)
            listed = Descriptor(OCI, one, len(stored.content))
            index = Index(MediaType.OCI_INDEX, (listed,)).to_bytes()
            multi = store.put_manifest("app", index, MediaType.OCI_INDEX, tags=["multi"], adopt=True)
            signature = image(store, "app", "signature", subject=listed)
            return {one, untagged, multi, signature}

    def content(self, root: Path) -> object:
        with ContentStore.open(root) as store:
            pages, _ = store.manifest_page(limit=1000)
            assert all(store.read(child.digest) for child in store.blobs())
            return sorted((repo, stored.digest, stored.content, tags) for repo, stored, tags in pages)

    def test_give_the_same_registry_again(self, root: Path, run: Run, digests: set[Digest]) -> None:
        folder, before = root.parent / "layout", self.content(root)
        assert "wrote 6 manifests, 5 tags" in run("export", str(folder))
        root.rename(root.parent / "old")
        assert "took in 6 manifests, 5 tags" in run("import", str(folder))
        assert self.content(root) == before
        with ContentStore.open(root) as store:
            assert {digest for _, digest in store.find_manifests("manifest", "sha256:") if digest in digests} == digests

    def test_go_on_where_they_were_cut_off(self, root: Path, run: Run, digests: set[Digest]) -> None:
        folder, before = root.parent / "layout", self.content(root)
        run("export", str(folder))
        (folder / "index.json").unlink()
        blob = next((folder / "blobs" / "sha256").iterdir())
        blob.unlink()
        run("export", str(folder))
        assert blob.exists()
        run("import", str(folder))
        assert self.content(root) == before

    def test_write_a_layout_that_our_own_loader_reads(self, root: Path, run: Run, digests: set[Digest]) -> None:
        folder = root.parent / "layout"
        run("export", str(folder))
        assert main(["--root", str(root.parent / "other"), "load", "-i", str(folder)]) == 0

    @pytest.mark.parametrize("harm", ["blob", "index", "nothing"])
    def test_refuse_what_is_damaged(self, root: Path, run: Run, digests: set[Digest], harm: str) -> None:
        folder = root.parent / "layout"
        run("export", str(folder))
        root.rename(root.parent / "old")
        if harm == "blob":
            one = Digest.of(b"one").encoded
            (folder / "blobs" / "sha256" / one).write_bytes(b"two")
        elif harm == "index":
            (folder / "index.json").write_text("[]")
        else:
            (folder / "index.json").unlink()
        assert "error:" in run("import", str(folder), code=1)
