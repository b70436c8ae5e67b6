"""What a source of COPY names in a context (reference/builder.md §1.7 and §1.8)."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.ignore import IgnoreRules
from builder.errors import ContextError
from builder.ops.context import Context, Kind
from builder.ops.sources import Source, walk

Make = Callable[[Mapping[str, str]], Path]


def paths(root: Path, pattern: str, *excludes: str) -> list[str]:
    with Context.open(str(root)) as context:
        return [entry.path for entry in context.entries(pattern, IgnoreRules.of(excludes))]


def refused(root: Path, pattern: str) -> ContextError:
    with Context.open(str(root)) as context, pytest.raises(ContextError) as caught:
        context.find(pattern)
    return caught.value


class TestPaths:
    def test_a_file(self, make: Make) -> None:
        root = make({"src/a.py": "x"})
        for written in ("src/a.py", "/src/a.py", "./src//a.py", "src/../src/a.py", "src/a.py/"):
            assert paths(root, written) == ["src/a.py"]

    def test_a_directory_comes_before_what_it_holds_in_order_of_names(self, make: Make) -> None:
        root = make({"d/b/y": "", "d/b/x": "", "d/a": "", "d/c/": "", "d/.z": ""})
        assert paths(root, "d") == ["d", "d/.z", "d/a", "d/b", "d/b/x", "d/b/y", "d/c"]

    def test_the_root(self, make: Make) -> None:
        root = make({"a": ""})
        for written in (".", "/", "", "..", "../..", "a/.."):
            assert paths(root, written) == ["", "Dockerfile", "a"]

    def test_stat_and_link_of_entries(self, make: Make) -> None:
        root = make({"f": "12345", "l": "->f"})
        os.chmod(root / "f", 0o4750)
        with Context.open(str(root)) as context:
            (file,) = context.entries("f")
            link = context.entries(".")[-1]
        assert (file.kind, file.mode, file.size, file.link) == (Kind.FILE, 0o4750, 5, "")
        assert (link.kind, link.link) == (Kind.SYMLINK, "f")

    def test_names_that_are_no_text(self, make: Make) -> None:
        root = make({})
        name = os.fsdecode(b"\xff\xfe")
        (root / name).write_text("x")
        assert name in paths(root, ".")
        with Context.open(str(root)) as context:
            assert context.digest(["."]) == context.digest(["."])


class TestWildcards:
    def test_match_part_by_part_with_dotfiles(self, make: Make) -> None:
        root = make({"a.txt": "", ".b.txt": "", "d/c.txt": "", "e/c.txt": "", "d/x": ""})
        assert paths(root, "*.txt") == [".b.txt", "a.txt"]
        assert paths(root, "*/c.txt") == ["d/c.txt", "e/c.txt"]
        assert paths(root, "[de]") == ["d", "d/c.txt", "d/x", "e", "e/c.txt"]

    def test_nothing_may_match(self, make: Make) -> None:
        assert paths(make({"d/f": ""}), "no*") == paths(make({"d/f": ""}), "d/no*") == []

    def test_the_directory_before_one_must_be_there(self, make: Make) -> None:
        assert str(refused(make({}), "nowhere/*")).startswith('"/nowhere" not found')

    def test_escaped_wildcards_are_names(self, make: Make) -> None:
        root = make({"a*": "", "ab": ""})
        assert paths(root, "a\\*") == ["a*"]

    def test_broken_pattern(self, make: Make) -> None:
        assert "broken pattern '[a'" in str(refused(make({}), "[a"))


class TestLinks:
    def test_a_named_link_leads_to_its_target_under_its_own_name(self, make: Make) -> None:
        root = make({"real": "x", "link": "->real"})
        with Context.open(str(root)) as context:
            (found,) = context.find("link")
            (entry,) = context.walk(found)
        assert (found.name, found.path, entry.kind) == ("link", "real", Kind.FILE)

    def test_links_deeper_down_stay_links(self, make: Make) -> None:
        root = make({"d/link": "->../real", "real": ""})
        with Context.open(str(root)) as context:
            assert [entry.kind for entry in context.entries("d")] == [Kind.DIRECTORY, Kind.SYMLINK]

    def test_directories_are_reached_through_links(self, make: Make) -> None:
        root = make({"real/x": "", "link": "->real"})
        assert paths(root, "link/x") == ["real/x"]
        assert paths(root, "link/*") == ["real/x"]

    @pytest.mark.parametrize("target", ["/etc", "../../../../../etc", "/../etc", "d/../../etc"])
    def test_none_leads_out(self, make: Make, target: str) -> None:
        root = make({"d/": "", "out": f"->{target}"})
        for pattern in ("out/passwd", "out/pass*", "out"):
            with Context.open(str(root)) as context:
                try:
                    found = context.entries(pattern)
                except ContextError:
                    found = []
            assert found == []

    def test_an_absolute_link_counts_from_the_root_of_the_context(self, make: Make) -> None:
        root = make({"etc/passwd": "ours", "out": "->/etc"})
        assert paths(root, "out/passwd") == ["etc/passwd"]

    def test_a_circle_is_not_there(self, make: Make) -> None:
        refused(make({"a": "->b", "b": "->a"}), "a")


class TestIgnored:
    def test_left_out(self, make: Make) -> None:
        root = make({".dockerignore": "*.o\nbuild\n", "a.c": "", "a.o": "", "build/x": "", "d/a.o": ""})
        assert paths(root, ".") == ["", ".dockerignore", "Dockerfile", "a.c", "d", "d/a.o"]
        assert paths(root, "*.o") == []

    def test_a_directory_is_there_for_what_is_kept_in_it(self, make: Make) -> None:
        root = make({".dockerignore": "*\n!src/keep\n", "src/keep/a": "", "src/b": "", "other/keep": ""})
        assert paths(root, ".") == ["", "src", "src/keep", "src/keep/a"]
        assert paths(root, "src") == ["src", "src/keep", "src/keep/a"]
        assert paths(root, "s*") == ["src", "src/keep", "src/keep/a"]

    def test_what_holds_nothing_that_is_kept_is_not_there(self, make: Make) -> None:
        root = make({".dockerignore": "*\n!*/keep\n", "src/b": "", "lib/keep": ""})
        assert paths(root, ".") == ["", "lib", "lib/keep"]
        refused(root, "src")

    def test_no_link_leads_around_it(self, make: Make) -> None:
        root = make({".dockerignore": "secret\n", "secret": "", "link": "->secret"})
        refused(root, "link")
        refused(root, "lin*")

    def test_a_link_that_is_left_out_is_not_there_wherever_it_leads(self, make: Make) -> None:
        root = make({".dockerignore": "link*\n", "open": "", "dir/f": "", "link": "->open", "links": "->dir"})
        for path in ("link", "links", "links/f", "links/*"):
            assert refused(root, path).hint == "it is left out by .dockerignore:1 (link*)"
        assert paths(root, "lin*") == []

    def test_exclude_counts_from_each_source(self, make: Make) -> None:
        root = make({"d/a.o": "", "d/e/b.o": "", "d/c": "", "x.o": ""})
        assert paths(root, "d", "*.o") == ["d", "d/c", "d/e", "d/e/b.o"]
        assert paths(root, "d", "**/*.o", "!e/b.o") == ["d", "d/c", "d/e", "d/e/b.o"]
        assert paths(root, "x.o", "*.o") == ["x.o"]


class TestMissing:
    def test_names_the_context_and_what_is_near(self, make: Make) -> None:
        root = make({"src/app.py": ""})
        error = refused(root, "src/ap.py")
        assert str(error) == f'"/src/ap.py" not found in the build context ({root})'
        assert error.hint == "did you mean src/app.py?"

    def test_nothing_near(self, make: Make) -> None:
        assert "paths are relative to the build context" in (refused(make({}), "zzz").hint or "")

    def test_says_who_left_it_out(self, make: Make) -> None:
        root = make({".dockerignore": "# no binaries\n*.bin\n", "a.bin": ""})
        assert refused(root, "a.bin").hint == "it is left out by .dockerignore:2 (*.bin)"

    def test_a_directory_that_is_really_a_file(self, make: Make) -> None:
        refused(make({"a": ""}), "a/b")


_NAMES = st.lists(st.sampled_from(["a", "b", ".c"]), min_size=1, max_size=4).map("/".join)
_PARTS = st.lists(st.sampled_from(["a", "b", "*", "**", "?", ".c"]), min_size=1, max_size=3).map("/".join)
_RULES = st.lists(st.tuples(st.sampled_from(["", "!"]), _PARTS).map("".join), max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.sets(_NAMES, max_size=8), _RULES, _RULES)
def test_the_key_sees_what_the_copy_sees(files: set[str], ignored: list[str], excluded: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        root = Path(directory)
        for name in sorted(files, key=len, reverse=True):  # the longer one makes the shorter a directory
            if not (root / name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).touch()
        rules, excludes = IgnoreRules.parse("\n".join(ignored)), IgnoreRules.of(excluded)
        with Context(root, rules=rules) as context:
            for pattern in (".", "*", "*/*"):
                for found in context.find(pattern):
                    below = f"{found.path}/" if found.path and found.is_dir else found.path
                    source = Source(os.open(root, os.O_PATH), pattern, rules)
                    copied = [f"{below}{item.path}".rstrip("/") for item in walk(source, found, excludes)]
                    os.close(source.root)
                    assert [entry.path for entry in context.walk(found, excludes)] == copied
