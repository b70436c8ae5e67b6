"""COPY as BuildKit's newest frontend means it: reference/builder §1.7 and the regression list of §1.12."""

import os
import socket
import stat
from pathlib import Path

import pytest

from builder.dockerfile.ignore import IgnoreRules
from builder.errors import BuilderError, ContextError
from builder.ops.copy import CopyError, Fetched, Inline
from builder.ops.modes import parse_chmod

from .conftest import Copy, Rootfs

SECOND = 1_000_000_000


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / name).write_text(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


class TestDestination:
    def test_with_a_slash_is_a_directory(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="1")
        copy("a", to="/x/y/")
        assert rootfs.tree() == {"x": "/", "x/y": "/", "x/y/a": "1"}

    def test_without_one_is_the_files_name(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="1")
        copy("a", to="/x/y")
        assert rootfs.tree() == {"x": "/", "x/y": "1"}

    def test_that_is_a_directory_already_gets_the_file(
        self, base: Path, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (base / "x").mkdir()
        write(context, a="1")
        copy("a", to="/x")
        assert rootfs.tree() == {"x": "/", "x/a": "1"}

    def test_gets_the_contents_of_a_directory(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d" / "e").mkdir(parents=True)
        write(context / "d", a="1")
        write(context / "d" / "e", b="2")
        copy("d", to="/x")
        copy("d/", to="/y/")
        assert rootfs.tree("x") == rootfs.tree("y") == {"a": "1", "e": "/", "e/b": "2"}

    @pytest.mark.parametrize("sources", [["a", "b"], ["*"]])
    def test_without_a_slash_gets_the_last_of_several_files(
        self, copy: Copy, context: Path, rootfs: Rootfs, sources: list[str]
    ) -> None:
        """As BuildKit does (moby/buildkit#1853); docker's first builder refused it."""
        write(context, a="1", b="2")
        assert copy(*sources, to="/x").overwrote
        assert rootfs.tree() == {"x": "2"}
        assert not copy("a", "b", to="/y/").overwrote

    def test_that_a_source_made_a_directory_takes_the_next_in(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        write(context, a="1")
        assert not copy("d", "a", to="/x").overwrote
        assert rootfs.tree() == {"x": "/", "x/a": "1"}
        with pytest.raises(CopyError, match="non-directory"):
            copy("a", "d", to="/y")

    def test_may_be_new_for_two_directories(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        for name in "de":
            (context / name).mkdir()
            write(context / name, **{name: name})
        copy("d", "e", to="/x")
        assert rootfs.tree("x") == {"d": "d", "e": "e"}

    def test_below_a_file_is_refused(self, base: Path, copy: Copy, context: Path) -> None:
        write(base, etc="a file")
        write(context, a="1")
        with pytest.raises(CopyError, match="/etc/x"):
            copy("a", to="/etc/x/")

    @pytest.mark.parametrize("destination", ["/" + "x" * 300, "/" + "x/" * 3000, "/x\0y", "/" + "x" * 300 + "/"])
    def test_that_no_file_can_have_is_refused(self, copy: Copy, context: Path, destination: str) -> None:
        write(context, a="1")
        with pytest.raises(CopyError, match="can't copy"):
            copy("a", to=destination)
        with pytest.raises(CopyError, match="can't copy"):
            copy(Inline("a", b"1"), to=destination)

    def test_that_is_a_link_is_followed_inside_the_image(
        self, base: Path, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (base / "etc").mkdir()
        (base / "app").symlink_to("/etc")
        write(context, a="1")
        copy("a", to="/app/")
        assert rootfs.tree() == {"etc": "/", "app": "-> /etc", "etc/a": "1"}
        assert not Path("/etc/a").exists()

    def test_that_is_a_link_out_of_the_image_stays_in_it(
        self, base: Path, copy: Copy, context: Path, rootfs: Rootfs, space: Path
    ) -> None:
        (base / "app").symlink_to(f"../../../../../..{space}/outside")
        (base / "file").symlink_to(f"{space}/outside-file")
        write(context, a="1")
        copy("a", to="/app/")
        copy("a", to="/file")
        assert (rootfs / f".{space}/outside/a").read_text() == "1"
        assert (rootfs / f".{space}/outside-file").read_text() == "1"
        assert not (space / "outside").exists()
        assert not (space / "outside-file").exists()


class TestSource:
    def test_cannot_lead_out_of_the_context(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="inside")
        write(context.parent, a="outside")
        copy("../../a", "/../a", to="/x/")
        assert rootfs.tree("x") == {"a": "inside"}

    def test_links_resolve_inside_the_context(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "etc").mkdir()
        write(context / "etc", passwd="inside")
        (context / "absolute").symlink_to("/etc/passwd")
        (context / "climbing").symlink_to("../../../../../../etc/passwd")
        (context / "directory").symlink_to("/etc")
        copy("absolute", "climbing", "directory/passwd", to="/x/")
        assert rootfs.tree("x") == dict.fromkeys(["absolute", "climbing", "passwd"], "inside")

    def test_that_is_missing_is_an_error_with_a_hint(self, copy: Copy, context: Path) -> None:
        write(context, **{"requirements.txt": ""})
        with pytest.raises(ContextError, match=r'"/requirments\.txt" not found') as caught:
            copy("requirments.txt", to="/x/")
        assert caught.value.hint == "did you mean requirements.txt?"

    @pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "a\0b", "a/b"])
    def test_that_cannot_be_is_missing(self, copy: Copy, context: Path, path: str) -> None:
        write(context, a="")
        with pytest.raises(ContextError):
            copy(path, to="/x/")

    def test_that_is_a_link_to_nothing_is_missing(self, copy: Copy, context: Path) -> None:
        (context / "link").symlink_to("nowhere")
        for source in ("link", "l*"):
            with pytest.raises(ContextError, match='"/link" not found'):
                copy(source, to="/x/")

    def test_a_pattern_may_match_nothing(self, copy: Copy, rootfs: Rootfs) -> None:
        assert copy("fil[e]", to="/x/").files == 0
        assert rootfs.tree() == {}

    def test_the_directory_before_a_pattern_must_be_there(self, copy: Copy, context: Path) -> None:
        (context / "d").mkdir()
        assert copy("d/*", to="/x/").files == 0
        with pytest.raises(ContextError, match='"/missing" not found'):
            copy("missing/*", to="/x/")

    def test_patterns_are_go_s(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        write(context, **{"a.txt": "", ".b.txt": "", "c.md": ""})
        write(context / "d", **{"e.txt": ""})
        copy("*.txt", to="/stars/")
        copy("[^a].md", to="/class/")
        copy("*/*.txt", to="/deeper/")
        assert set(rootfs.tree("stars")) == {"a.txt", ".b.txt"}
        assert set(rootfs.tree("class")) == {"c.md"}
        assert set(rootfs.tree("deeper")) == {"e.txt"}

    @pytest.mark.parametrize("pattern", ["a[", "a[b-", "*\\", "d/[]"])
    def test_a_broken_pattern_is_an_error(self, copy: Copy, context: Path, pattern: str) -> None:
        with pytest.raises(ContextError, match="broken pattern"):
            copy(pattern, to="/x/")

    def test_with_a_backslash_in_its_name_needs_no_second_one(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, **{"a\\b": "", "c*d": ""})
        copy("a\\b", "c\\*d", to="/x/")
        assert sorted(path.name for path in (rootfs / "x").iterdir()) == ["a\\b", "c*d"]

    def test_named_directly_is_dereferenced_under_the_links_name(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        write(context, target="text")
        (context / "link1").symlink_to("target")
        copy("link1", to="/named/")
        copy("link*", to="/matched/")
        assert rootfs.tree("named") == rootfs.tree("matched") == {"link1": "text"}

    def test_links_deeper_in_a_tree_stay_links(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        write(context / "d", target="text")
        (context / "d" / "link").symlink_to("target")
        (context / "d" / "out").symlink_to("/etc/passwd")
        copy("d", to="/x")
        assert rootfs.tree("x") == {"target": "text", "link": "-> target", "out": "-> /etc/passwd"}

    def test_a_relative_link_may_be_copied_twice(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        (context / "d" / "link").symlink_to("target")
        copy("d", to="/x")
        copy("d", to="/x")
        assert rootfs.tree("x") == {"link": "-> target"}

    def test_may_be_deep_but_not_without_end(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "/".join("d" * 200)).mkdir(parents=True)
        assert copy(".", to="/x/").files == 200
        (context / "/".join("d" * 400)).mkdir(parents=True)
        with pytest.raises(ContextError, match="nested more than 250 deep"):
            copy(".", to="/y/")


class TestIgnoreRules:
    def test_leave_files_out_of_a_tree(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d" / "node_modules").mkdir(parents=True)
        write(context / "d", a="", b="")
        rules = IgnoreRules.parse("d/b\n**/node_modules\n")
        copy(".", to="/x", source={"ignore": rules})
        assert set(rootfs.tree("x")) == {"d", "d/a"}

    def test_take_back_below_a_directory_that_is_left_out(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        for name in ("keep", "drop"):
            (context / "d" / name).mkdir(parents=True)
            write(context / "d" / name, a="")
        rules = IgnoreRules.parse("d\n!d/keep\n")
        copy(".", to="/x", source={"ignore": rules})
        assert set(rootfs.tree("x")) == {"d", "d/keep", "d/keep/a"}

    def test_a_file_left_out_is_not_there_and_the_error_names_the_rule(self, copy: Copy, context: Path) -> None:
        write(context, secret="")
        with pytest.raises(ContextError, match='"/secret" not found') as caught:
            copy("secret", to="/x/", source={"ignore": IgnoreRules.parse("# ours\nsec*\n")})
        assert caught.value.hint == "it is left out by .dockerignore:2 (sec*)"

    def test_hold_for_patterns_and_for_links(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, secret="", open="")
        (context / "link").symlink_to("open")
        copy("*", to="/x/", source={"ignore": IgnoreRules.parse("secret\nlink\n")})
        assert set(rootfs.tree("x")) == {"open"}

    def test_hold_for_what_links_lead_to(self, copy: Copy, context: Path) -> None:
        write(context, secret="")
        (context / "link").symlink_to("secret")
        for source in ("link", "l*"):
            with pytest.raises(ContextError, match='"/link" not found'):
                copy(source, to="/x/", source={"ignore": IgnoreRules.parse("secret\n")})

    def test_exclude_is_relative_to_each_directory_and_spares_named_files(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        for name in "de":
            (context / name).mkdir()
            write(context / name, **{"a.txt": "", "b.md": ""})
        write(context, **{"c.txt": ""})
        copy("d", "e", "c.txt", to="/x/", excludes=("*.txt",))
        assert set(rootfs.tree("x")) == {"b.md", "c.txt"}


class TestOverwriting:
    def test_a_file_replaces_a_file_or_a_link(self, base: Path, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (base / "x").mkdir()
        write(base / "x", file="old", target="kept")
        (base / "x" / "link").symlink_to("target")
        (context / "d").mkdir()
        write(context / "d", file="new", link="new")
        copy("d", to="/x")
        assert rootfs.tree("x") == {"file": "new", "link": "new", "target": "kept"}

    def test_a_directory_over_a_file_or_link_is_refused(self, base: Path, copy: Copy, context: Path) -> None:
        (base / "usr" / "lib").mkdir(parents=True)
        (base / "lib").symlink_to("usr/lib")
        (context / "d" / "lib").mkdir(parents=True)
        with pytest.raises(CopyError, match="cannot copy to non-directory: /lib"):
            copy("d", to="/")

    def test_a_file_over_a_directory_is_refused(self, base: Path, copy: Copy, context: Path) -> None:
        (base / "x" / "a").mkdir(parents=True)
        (context / "d").mkdir()
        write(context / "d", a="")
        with pytest.raises(CopyError, match="cannot replace the directory a"):
            copy("d", to="/x")

    def test_the_last_of_equal_names_wins(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        for name in "de":
            (context / name).mkdir()
            write(context / name, a=name)
        copy("d/a", "e/a", to="/x/")
        assert rootfs.tree("x") == {"a": "e"}


class TestMetadata:
    def test_files_of_a_context_belong_to_root_those_of_a_stage_keep_their_owner(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        write(context, a="")
        os.chown(context / "a", 7, 8)
        copy("a", to="/context/")
        copy("a", to="/stage/", source={"keep_owner": True})
        assert owner(rootfs / "context/a") == (0, 0)
        assert owner(rootfs / "stage/a") == (7, 8)

    def test_times_and_modes_are_kept(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d" / "e").mkdir(parents=True)
        write(context / "d" / "e", a="x")
        (context / "d" / "e" / "a").chmod(0o4751)
        (context / "d" / "e").chmod(0o1777)
        for path, seconds in (("d/e/a", 100), ("d/e", 200), ("d", 150)):
            os.utime(context / path, ns=(seconds * SECOND, seconds * SECOND + 5))
        copied = copy("d", to="/x")
        assert [mode(rootfs / "x/e"), mode(rootfs / "x/e/a")] == [0o1777, 0o4751]
        assert [(rootfs / path).stat().st_mtime_ns for path in ("x/e", "x/e/a")] == [200 * SECOND + 5, 100 * SECOND + 5]
        assert copied.newest_ns == 200 * SECOND + 5
        assert copied.files == 2

    def test_nothing_depends_on_the_umask(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="")
        (context / "a").chmod(0o666)
        before = os.umask(0o077)
        try:
            copy("a", Inline("h", b""), to="/x/y/")
        finally:
            os.umask(before)
        assert [mode(rootfs / path) for path in ("x", "x/y", "x/y/a", "x/y/h")] == [0o755, 0o755, 0o666, 0o644]

    def test_a_directory_that_nobody_may_enter_is_copied_with_its_content(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (context / "d" / "closed").mkdir(parents=True)
        write(context / "d" / "closed", a="1")
        (context / "d" / "closed").chmod(0)
        copy("d", to="/x")
        assert (mode(rootfs / "x/closed"), (rootfs / "x/closed/a").read_text()) == (0, "1")

    def test_an_existing_destination_keeps_its_own_nested_ones_take_the_sources(
        self, base: Path, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (base / "x" / "e").mkdir(parents=True)
        (base / "x").chmod(0o700)
        os.chown(base / "x", 3, 3)
        (context / "d" / "e").mkdir(parents=True)
        (context / "d").chmod(0o777)
        (context / "d" / "e").chmod(0o770)
        copy("d", to="/x")
        assert (mode(rootfs / "x"), owner(rootfs / "x")) == (0o700, (3, 3))
        assert mode(rootfs / "x/e") == 0o770

    def test_a_new_destination_is_an_ordinary_directory(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        (context / "d").chmod(0o700)
        copy("d", to="/x")
        assert mode(rootfs / "x") == 0o755

    def test_the_destination_has_the_time_of_the_directory_that_came_last(
        self, copy: Copy, context: Path, base: Path, rootfs: Rootfs
    ) -> None:
        for name, seconds in (("old", 1000), ("new", 2000)):
            (context / name).mkdir()
            write(context / name, **{name: ""})
            os.utime(context / name, (seconds, seconds))
        (base / "there").mkdir()
        copy("old", "new", to="/made/deep/")
        copy("old", to="/there/")
        assert [(rootfs / path).stat().st_mtime for path in ("made/deep", "there")] == [2000, 1000]
        copy(".", to="/all/")  # a context's own directory is nobody's
        assert (rootfs / "all").stat().st_mtime > 2000

    def test_hard_links_stay_links_within_one_copy(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d" / "e").mkdir(parents=True)
        write(context / "d", a="1")
        os.link(context / "d" / "a", context / "d" / "e" / "b")
        copy("d", to="/x")
        assert (rootfs / "x/a").stat().st_ino == (rootfs / "x/e/b").stat().st_ino
        assert (rootfs / "x/a").stat().st_nlink == 2

    def test_a_hard_link_is_never_to_what_took_the_first_ones_name(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        for name in "de":
            (context / name).mkdir()
            write(context / name, a=name)
        os.link(context / "d" / "a", context / "d" / "b")
        copy("d/a", "e/a", "d/b", to="/x/")
        assert rootfs.tree("x") == {"a": "e", "b": "d"}

    def test_file_capabilities_and_user_attributes_survive(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="1")
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(context / "a", "security.capability", capability)
        os.setxattr(context / "a", "user.note", b"hi")
        copy("a", to="/x/", chown="5:5")
        assert os.getxattr(rootfs / "x/a", "security.capability") == capability
        assert os.getxattr(rootfs / "x/a", "user.note") == b"hi"

    def test_devices_fifos_and_sockets_are_copied(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        os.mknod(context / "d" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mkfifo(context / "d" / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(context / "d" / "socket"))
        copy("d", to="/x")
        assert (rootfs / "x/null").stat().st_rdev == os.makedev(1, 3)
        assert (rootfs / "x/fifo").is_fifo()
        assert (rootfs / "x/socket").is_socket()

    def test_holes_stay_holes(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        with (context / "disk").open("wb") as file:
            file.truncate(64 << 20)
            file.seek(32 << 20)
            file.write(b"data")
        copy("disk", to="/x/")
        found = (rootfs / "x/disk").stat()
        assert found.st_size == 64 << 20
        assert found.st_blocks * 512 < 1 << 20
        with (rootfs / "x/disk").open("rb") as file:
            file.seek(32 << 20)
            assert file.read(4) == b"data"


class TestChown:
    @pytest.fixture(autouse=True)
    def accounts(self, base: Path) -> None:
        (base / "etc").mkdir()
        (base / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:100:200::/:/bin/sh\n")
        (base / "etc" / "group").write_text("root:x:0:\nweb:x:300:\n")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("app", (100, 200)),
            ("app:web", (100, 300)),
            ("app:", (100, 200)),
            ("7:", (7, 7)),
            ("7", (7, 7)),
            ("7:8", (7, 8)),
            ("7:web", (7, 300)),
            (":web", (0, 300)),
            ("root", (0, 0)),
        ],
    )
    def test_means(self, copy: Copy, context: Path, rootfs: Rootfs, text: str, expected: tuple[int, int]) -> None:
        (context / "d").mkdir()
        write(context / "d", a="")
        (context / "d" / "link").symlink_to("a")
        copy("d", to="/new/dir", chown=text)
        paths = ("new", "new/dir", "new/dir/a", "new/dir/link")
        assert {owner(rootfs / path) for path in paths} == {expected}

    def test_of_an_unknown_name_is_an_error(self, copy: Copy, context: Path) -> None:
        write(context, a="")
        with pytest.raises(BuilderError, match="--chown=nobody: unable to find user nobody"):
            copy("a", to="/x/", chown="nobody")
        with pytest.raises(BuilderError, match="unable to find group staff"):
            copy("a", to="/x/", chown="app:staff")


class TestChownOnScratch:
    def test_root_needs_no_accounts(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="")
        copy("a", to="/x/", chown="root:root")
        assert owner(rootfs / "x/a") == (0, 0)

    def test_other_names_are_an_error(self, copy: Copy, context: Path) -> None:
        write(context, a="")
        with pytest.raises(BuilderError, match="unable to find user app"):
            copy("a", to="/x/", chown="app")


class TestChmod:
    def test_as_a_number_is_everybodys_mode_created_parents_included(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (context / "d" / "e").mkdir(parents=True)
        write(context / "d", a="")
        copy("d", to="/x/y", chmod="711")
        assert {mode(rootfs / path) for path in ("x", "x/y", "x/y/a", "x/y/e")} == {0o711}

    def test_made_directories_inherit_set_gid_and_the_group(
        self, copy: Copy, context: Path, base: Path, rootfs: Rootfs
    ) -> None:
        (base / "x").mkdir()
        os.chown(base / "x", 0, 33)
        (base / "x").chmod(0o2755)
        write(context, a="")
        copy("a", to="/x/y/")
        copy("a", to="/x/z/", chown="5")
        assert [mode(rootfs / path) for path in ("x/y", "x/z")] == [0o2755, 0o2755]
        assert [(rootfs / path).stat().st_gid for path in ("x/y", "x/z", "x/y/a")] == [33, 5, 0]

    def test_special_bits_are_for_what_is_copied_not_for_what_is_made(
        self, copy: Copy, context: Path, rootfs: Rootfs
    ) -> None:
        (context / "d" / "e").mkdir(parents=True)
        copy("d", to="/x/y", chmod="5711")
        assert [mode(rootfs / path) for path in ("x", "x/y", "x/y/e")] == [0o711, 0o711, 0o5711]

    @pytest.mark.parametrize(
        ("text", "before", "after"),
        [
            ("u=rwX,go=rX", 0o700, 0o755),
            ("u=rwX,go=rX", 0o600, 0o644),
            ("+x", 0o644, 0o755),
            ("go-rwx", 0o777, 0o700),
            ("a+r,u+s", 0o100, 0o4544),
            ("g=u", 0o640, 0o660),
            ("u+x-w", 0o644, 0o544),
            ("+t", 0o755, 0o1755),
        ],
    )
    def test_in_words_changes_each_file(
        self, copy: Copy, context: Path, rootfs: Rootfs, text: str, before: int, after: int
    ) -> None:
        write(context, a="")
        (context / "a").chmod(before)
        copy("a", to="/x/", chmod=text)
        assert (mode(rootfs / "x"), mode(rootfs / "x/a")) == (0o755, after)

    def test_words_mean_what_they_mean_to_buildkit(self) -> None:
        """At random, with what BuildKit v0.34.2 (tonistiigi/dchapes-mode) made of them: words, mode, kind, new mode."""
        rows = [line.split(" ") for line in (Path(__file__).parent / "chmod_answers.txt").read_text().splitlines()]
        ours = [
            parse_chmod(row[0])[0](int(row[1], 8) | (stat.S_IFDIR if row[2] == "d" else stat.S_IFREG)) for row in rows
        ]
        wrong = [(*row, f"{new:o}") for row, new in zip(rows, ours, strict=True) if f"{new:o}" != row[3]]
        assert wrong == []
        assert len(rows) > 300

    def test_x_means_directories(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d" / "e").mkdir(parents=True)
        write(context / "d", a="")
        (context / "d" / "a").chmod(0o600)
        (context / "d" / "e").chmod(0o700)
        copy("d", to="/x", chmod="go+X")
        assert [mode(rootfs / path) for path in ("x/e", "x/a")] == [0o711, 0o600]

    @pytest.mark.parametrize("text", ["888", "77777", "u~x", "rwx", "u=", "", "755,u+x"])
    def test_else_is_an_error(self, copy: Copy, context: Path, text: str) -> None:
        write(context, a="")
        if text in {"", "u="}:
            copy("a", to="/x/", chmod=text)
            return
        with pytest.raises(BuilderError, match="invalid --chmod"):
            copy("a", to="/x/", chmod=text)


class TestHeredocsAndDownloads:
    def test_a_heredoc_is_a_file_of_its_name(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        write(context, a="1")
        copy("a", Inline("robots.txt", b"User-agent: *\n"), to="/x/")
        assert rootfs.tree("x") == {"a": "1", "robots.txt": "User-agent: *\n"}
        assert mode(rootfs / "x/robots.txt") == 0o644

    def test_a_download_is_private_and_as_old_as_the_server_says(self, copy: Copy, space: Path, rootfs: Rootfs) -> None:
        write(space, body="page")
        copied = copy(Fetched("index.html", str(space / "body"), 9 * SECOND), to="/x/")
        found = (rootfs / "x/index.html").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o600, 9 * SECOND)
        assert copied.newest_ns == 9 * SECOND
