"""ADD of repositories: what gets into the image, and when the step is done again."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Secret
from builder.errors import BuildFailed
from tests.gitserver import MOMENT, Hub, Origin, git

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = [pytest.mark.root, pytest.mark.net]


@pytest.fixture
def app(hub: Hub) -> Origin:
    origin = hub.create()
    origin.commit({"a": "1", "docs/b": "2", "docs/c.md": "3"})
    return origin


class TestAdd:
    def test_the_files_go_into_the_destination(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        built = bench.build(f"FROM scratch\nADD {hub.url()} /src\n")
        assert built.names() == ["src", "src/a", "src/docs", "src/docs/b", "src/docs/c.md"]
        assert {(entry.uid, entry.gid) for entry in built.layer(-1)} == {(0, 0)}
        assert {entry.mtime for entry in built.layer(-1) if entry.isfile()} == {MOMENT}

    def test_with_all_that_add_can_do(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        built = bench.build(
            f"FROM scratch\nARG REF=main\nADD --chown=7:8 --chmod=600 --exclude=*.md {hub.url()}#${{REF}}:docs /d/\n"
        )
        assert [(entry.name, entry.uid, entry.mode) for entry in built.layer(-1) if entry.isfile()] == [
            ("d/b", 7, 0o600)
        ]

    def test_the_git_directory_may_be_kept(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        built = bench.build(f"FROM scratch\nADD --keep-git-dir=true {hub.url()} /d/\n")
        assert built.read("d/.git/HEAD").decode().strip() == git("rev-parse", "HEAD", cwd=app.path)

    def test_a_checksum_must_be_the_commits(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        sha = git("rev-parse", "HEAD", cwd=app.path)
        bench.build(f"FROM scratch\nADD --checksum={sha} {hub.url()} /d/\n")
        app.commit({"a": "2"})
        with pytest.raises(BuildFailed, match="expected checksum"):
            bench.build(f"FROM scratch\nADD --checksum={sha} {hub.url()} /d/\n")

    def test_a_private_one(self, bench: "Bench", hub: Hub, app: Origin, ram_path: Path) -> None:
        hub.token = "basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"
        (ram_path / "token").write_text("s3cret\n")
        dockerfile = f"FROM scratch\nADD {hub.url()} /d/\n"
        with pytest.raises(BuildFailed):
            bench.build(dockerfile)
        built = bench.build(dockerfile, secrets={"GIT_AUTH_TOKEN": Secret("GIT_AUTH_TOKEN", ram_path / "token")})
        assert built.read("d/a") == b"1"

    def test_nothing_is_left(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        bench.build(f"FROM scratch\nADD {hub.url()} /d/\n")
        with pytest.raises(BuildFailed):
            bench.build(f"FROM scratch\nADD {hub.url()}#nothing /d/\n")
        assert bench.leftovers()["children"] == []
        assert list((bench.root / "tmp").iterdir()) == []


class TestCache:
    def test_the_same_commit_is_a_hit_after_one_question(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        dockerfile = f"FROM scratch\nADD {hub.url()} /d/\n"
        first = bench.build(dockerfile)
        hub.requests.clear()
        again = bench.build(dockerfile)
        assert again.done_again == []
        assert again.result.digest == first.result.digest
        assert len(hub.requests) == 2  # what it can, and its refs

    def test_a_full_commit_asks_nobody(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        dockerfile = f"FROM scratch\nADD {hub.url()}#{git('rev-parse', 'HEAD', cwd=app.path)} /d/\n"
        bench.build(dockerfile)
        hub.requests.clear()
        assert bench.build(dockerfile).done_again == []
        assert hub.requests == []

    def test_a_new_commit_is_a_miss(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        dockerfile = f"FROM scratch\nADD {hub.url()} /d/\n"
        bench.build(dockerfile)
        app.commit({"a": "2"})
        built = bench.build(dockerfile)
        assert built.done_again
        assert built.read("d/a") == b"2"

    def test_another_commit_with_the_same_files_is_a_hit(self, bench: "Bench", hub: Hub, app: Origin) -> None:
        bench.build(f"FROM scratch\nADD {hub.url()}#:docs /d/\n")
        app.commit({"a": "2"})
        built = bench.build(f"FROM scratch\nADD {hub.url()}#:docs /d/\n")
        assert not [name for name in built.done_again if name.startswith("ADD")]

    def test_two_roots_one_digest(self, bench: "Bench", hub: Hub, app: Origin, ram_path: Path) -> None:
        dockerfile = f"FROM scratch\nADD --keep-git-dir {hub.url()} /d/\n"
        first = bench.build(dockerfile)
        hub.version = False
        bench.root, bench.store = ram_path / "other", type(bench.store).open(ram_path / "other")
        with bench.store:
            assert bench.build(dockerfile).layers == first.layers
