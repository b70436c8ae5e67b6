"""COPY --parents: sources keep their paths, from the root or from `/./` on (reference/builder §1.7, item 8)."""

import os
from pathlib import Path

import pytest

from builder.dockerfile.ignore import IgnoreRules
from builder.errors import ContextError
from builder.ops.context import Context
from tests.unit.copy.conftest import Copy, Rootfs

PARENTS = {"parents": True}


@pytest.fixture(autouse=True)
def files(context: Path) -> None:
    for name in ("a/b/c/one.txt", "a/b/two.txt", "a/three.go", "x/y/four.txt", "five.txt"):
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.stem)


@pytest.mark.parametrize(
    ("sources", "wanted"),
    [
        (["a/b/two.txt"], {"a/b/two.txt"}),
        (["/a/b/two.txt"], {"a/b/two.txt"}),
        (["./a/../a/b/two.txt"], {"a/b/two.txt"}),
        (["../../a/three.go"], {"a/three.go"}),
        (["a/b"], {"a/b/two.txt", "a/b/c/one.txt"}),
        (["a/b/"], {"a/b/two.txt", "a/b/c/one.txt"}),
        (["five.txt", "x/y/four.txt"], {"five.txt", "x/y/four.txt"}),
        (["a/./b/two.txt"], {"b/two.txt"}),
        (["./a/./b/two.txt"], {"b/two.txt"}),
        (["a/b/./c", "a/./three.go"], {"c/one.txt", "three.go"}),
        (["a/b/./"], {"two.txt", "c/one.txt"}),
        (["./**/*.txt"], {"a/b/c/one.txt", "a/b/two.txt", "x/y/four.txt", "five.txt"}),
        (["a/**/*.txt"], {"a/b/c/one.txt", "a/b/two.txt"}),
        (["a/./**/*.txt"], {"b/c/one.txt", "b/two.txt"}),
        (["*/./*/*.txt"], {"b/two.txt", "y/four.txt"}),
        (["*/*"], {"a/b/c/one.txt", "a/b/two.txt", "a/three.go", "x/y/four.txt"}),
        (["*.none"], set()),
        (["."], {"a/b/c/one.txt", "a/b/two.txt", "a/three.go", "x/y/four.txt", "five.txt"}),
    ],
)
def test_paths(copy: Copy, rootfs: Rootfs, sources: list[str], wanted: set[str]) -> None:
    copy(*sources, to="/dst", source=PARENTS)
    found = rootfs.tree("dst")
    assert {name for name, content in found.items() if content != "/"} == wanted
    above = {str(directory) for name in wanted for directory in Path(name).parents}
    assert {name for name, content in found.items() if content == "/"} == above - {"."}


def test_directories_on_the_way_look_as_in_the_source(copy: Copy, rootfs: Rootfs, context: Path) -> None:
    os.chmod(context / "a", 0o750)
    os.chown(context / "a", 7, 8)
    os.utime(context / "a", (1000, 1000))
    copy("a/b/two.txt", to="/dst/", source={**PARENTS, "keep_owner": True})
    seen = (rootfs / "dst/a").stat()
    assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid, seen.st_mtime) == (0o750, 7, 8, 1000)


def test_links_are_copied_as_links(copy: Copy, rootfs: Rootfs, context: Path) -> None:
    (context / "a/link").symlink_to("/etc/passwd")
    copy("a/link", to="/dst/", source=PARENTS)
    assert rootfs.tree("dst")["a/link"] == "-> /etc/passwd"


def test_excludes_count_from_the_pivot(copy: Copy, rootfs: Rootfs) -> None:
    copy("a/./b", to="/dst/", source=PARENTS, excludes=("b/c",))
    assert set(rootfs.tree("dst")) == {"b", "b/two.txt"}


def test_the_ignore_file_counts(copy: Copy, rootfs: Rootfs) -> None:
    copy("**/*.txt", to="/dst/", source={**PARENTS, "ignore": IgnoreRules.parse("a/b\n")})
    assert set(rootfs.tree("dst")) == {"five.txt", "x", "x/y", "x/y/four.txt"}


@pytest.mark.parametrize("source", ["a/b/nothing", "a/./nothing", "nothing/./x", "five.txt/x", "five.txt/./x"])
def test_a_plain_path_must_be_there(copy: Copy, source: str) -> None:
    with pytest.raises(ContextError, match="not found"):
        copy(source, to="/dst/", source=PARENTS)


def test_a_plain_path_that_is_left_out_is_told(copy: Copy) -> None:
    with pytest.raises(ContextError) as caught:
        copy("a/three.go", to="/dst/", source={**PARENTS, "ignore": IgnoreRules.parse("**/*.go\n")})
    assert "left out" in (caught.value.hint or "")


def test_no_way_leads_through_a_link(copy: Copy, context: Path) -> None:
    (context / "out").symlink_to("/etc")
    with pytest.raises(ContextError) as caught:
        copy("out/passwd", to="/dst/", source=PARENTS)
    assert "/out is a link" in (caught.value.hint or "")


def test_a_pivot_behind_a_link_stays_within_the_source(copy: Copy, rootfs: Rootfs, context: Path) -> None:
    (context / "etc").mkdir()
    (context / "etc/mine").write_text("m")
    (context / "out").symlink_to("/etc")
    copy("out/./mine", to="/dst/", source=PARENTS)
    assert rootfs.tree("dst") == {"mine": "m"}


class TestKey:
    @pytest.fixture
    def key(self, context: Path) -> Context:
        (context / "Dockerfile").write_text("FROM scratch\n")
        return Context.directory(str(context))

    def test_what_is_taken_is_in_it_and_nothing_else(self, key: Context, context: Path) -> None:
        with key:
            before = key.digest(["a/**/*.txt"], parents=True)
            (context / "a/three.go").write_text("changed")
            (context / "x/six.txt").write_text("new")
            assert key.digest(["a/**/*.txt"], parents=True) == before
            (context / "a/seven.txt").write_text("new")
            assert key.digest(["a/**/*.txt"], parents=True) != before

    def test_paths_are_in_it(self, key: Context) -> None:
        with key:
            assert key.digest(["a/./b"], parents=True) != key.digest(["a/b"], parents=True)

    def test_modes_of_directories_on_the_way_are_in_it(self, key: Context, context: Path) -> None:
        with key:
            before = key.digest(["a/b/two.txt"], parents=True)
            os.chmod(context / "a", 0o700)
            assert key.digest(["a/b/two.txt"], parents=True) != before
