"""Layers over layers, as image-spec layer.md has them; archives from tarfile, and other packers' programs."""

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from builder.errors import LayerError
from builder.layers import Compression, apply_layer, write_layer
from builder.snapshots import Snapshot, Snapshots
from registry.model.digest import Digest
from registry.storage import ContentStore

from .conftest import Image, archive, member, tree

SECOND = 1_000_000_000


class TestRoundTrip:
    def test_brings_back_what_was_written(
        self, store: ContentStore, snapshots: Snapshots, active: Snapshot, tmp_path: Path
    ) -> None:
        upper = Path(active.upper)
        (upper / "d" / "closed").mkdir(parents=True)
        (upper / "d" / "closed" / "file").write_text("text")
        (upper / "d" / "closed").chmod(0)
        os.link(upper / "d" / "closed" / "file", upper / "second name")
        (upper / "link").symlink_to("second name")
        os.mkfifo(upper / "fifo", 0o600)
        os.mknod(upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (upper / "ping").write_bytes(b"x" * 3_000_000)
        os.chown(upper / "ping", 1, 2)
        (upper / "ping").chmod(0o4755)
        os.setxattr(upper / "ping", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        os.setxattr(upper / "d", "user.note", b"hi")
        for path in sorted(upper.rglob("*"), reverse=True):
            os.utime(path, ns=(SECOND, 77 * SECOND), follow_symlinks=False)
        layer = write_layer(active, store, Compression.parse("zstd"))
        again = snapshots.prepare("build-again", None)
        with store.open_blob(layer.descriptor.digest) as blob:
            assert apply_layer(blob, again, expected=layer.diff_id) == layer.diff_id
        assert described(again.upper) == described(active.upper)
        assert write_layer(again, store, Compression.parse("zstd")) == layer


def described(top: str) -> dict[str, tuple[object, ...]]:
    """Everything about a tree but inode numbers; hard links as the set of their names."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, set[str]] = {}
    for path in Path(top).rglob("*"):
        seen, relative = path.lstat(), str(path.relative_to(top))
        names.setdefault(seen.st_ino, set()).add(relative)
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        size = seen.st_size if path.is_file() else 0
        found[relative] = (
            seen.st_mode, seen.st_uid, seen.st_gid, size, seen.st_mtime_ns, seen.st_rdev, xattrs,
            frozenset(names[seen.st_ino]) if seen.st_nlink > 1 and path.is_file() else None,
        )  # fmt: skip
    return found


class TestPacking:
    @pytest.mark.parametrize(
        "pack",
        [
            lambda data: data,
            gzip.compress,
            lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512),
            bz2.compress,
            lambda data: lzma.compress(data) + lzma.compress(b""),
            zstandard.ZstdCompressor().compress,
            lambda data: (
                zstandard.compress(data[:1000])
                + b"\x50\x2a\x4d\x18\x03\x00\x00\x00toc"
                + zstandard.compress(data[1000:])
            ),
        ],
        ids=["none", "gzip", "gzip-members", "bzip2", "xz", "zstd", "zstd-chunked"],
    )
    def test_is_told_by_content(self, active: Snapshot, pack: Callable[[bytes], bytes]) -> None:
        plain = archive("d/", ("d/file", "text" * 1000))
        assert apply_layer(io.BytesIO(pack(plain)), active) == Digest.of(plain)
        assert tree(active.upper) == {"d": "/", "d/file": "text" * 1000}


class TestFormats:
    @pytest.mark.parametrize("shape", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names(self, active: Snapshot, shape: int) -> None:
        deep = "/".join(["d" * 40] * 3) + "/" + "f" * 60
        longer = {} if shape == tarfile.USTAR_FORMAT else {"n" * 200: "-> " + "t" * 300}
        links = [member(name, tarfile.SYMTYPE, linkname=text[3:]) for name, text in longer.items()]
        apply_layer(io.BytesIO(archive((deep, "x"), *links, shape=shape)), active)
        found = {name: text for name, text in tree(active.upper).items() if text != "/"}
        assert found == {deep: "x", **longer}

    def test_large_numbers_in_base_256(self, active: Snapshot) -> None:
        given = member("file", uid=4_000_000_000, gid=3_000_000, mtime=-5)
        apply_layer(io.BytesIO(archive(given, shape=tarfile.GNU_FORMAT)), active)
        found = (Path(active.upper) / "file").stat()
        assert (found.st_uid, found.st_gid, found.st_mtime) == (4_000_000_000, 3_000_000, -5)

    def test_times_below_a_second(self, active: Snapshot) -> None:
        given = member("file", pax_headers={"mtime": "12.000000345"})
        apply_layer(io.BytesIO(archive(given)), active)
        assert (Path(active.upper) / "file").stat().st_mtime_ns == 12 * SECOND + 345

    def test_a_pax_size_overrules_the_header(self, active: Snapshot) -> None:
        plain = bytearray(archive(member("first", pax_headers={"size": "5", "comment": "x"})))
        body = b"12345".ljust(512, b"\0")
        plain[1536:1536] = body  # after the PAX header, its record and the header that says 0
        apply_layer(io.BytesIO(bytes(plain)), active)
        assert tree(active.upper) == {"first": "12345"}

    def test_global_headers_as_of_git_archive_change_nothing(self, active: Snapshot) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "0" * 40, "uid": "7"}) as tar:
            tar.addfile(member("file"))
        apply_layer(io.BytesIO(out.getvalue()), active)
        assert (Path(active.upper) / "file").stat().st_uid == 0

    @pytest.mark.parametrize("shape", ["v7", "oldgnu", "gnu", "ustar", "posix"])
    def test_of_gnu_tar(self, active: Snapshot, space: Path, shape: str) -> None:
        (space / "in" / "d").mkdir(parents=True)
        (space / "in" / "d" / "file").write_text("text")
        (space / "in" / "link").symlink_to("d")
        os.link(space / "in" / "d" / "file", space / "in" / "hard")
        made = subprocess.run(
            ["tar", "-C", space / "in", "--format", shape, "-cf", "-", "."], check=True, capture_output=True
        )
        assert apply_layer(io.BytesIO(made.stdout), active) == Digest.of(made.stdout)
        assert tree(active.upper) == tree(space / "in")


class TestDirectories:
    def test_keep_their_times_though_files_come_later(self, active: Snapshot) -> None:
        apply_layer(io.BytesIO(archive(member("d", tarfile.DIRTYPE, mtime=5), "d/a", "d/e/", "d/e/b")), active)
        assert (Path(active.upper) / "d").stat().st_mtime == 5

    def test_that_are_taken_for_granted_are_made(self, active: Snapshot) -> None:
        apply_layer(io.BytesIO(archive("a/b/c")), active)
        assert tree(active.upper) == {"a": "/", "a/b": "/", "a/b/c": ""}
        assert (Path(active.upper) / "a").stat().st_mode & 0o7777 == 0o755

    def test_of_lower_layers_keep_their_looks_when_a_file_comes_into_them(self, image: Image) -> None:
        image.add(member("d", tarfile.DIRTYPE, mode=0o1770, uid=5, gid=6, mtime=9), "d/a")
        upper = Path(image.add("d/b").upper)
        found = (upper / "d").stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime) == (0o1770, 5, 6, 9)
        assert set(image.tree()) == {"d", "d/a", "d/b"}

    def test_more_than_descriptors(self, active: Snapshot) -> None:
        names = [f"d{number}/file" for number in range(300)]
        deep = ["/".join(["x"] * depth) + "/" for depth in range(1, 200)]
        apply_layer(io.BytesIO(archive(*names, *deep, *names)), active)
        assert len(tree(active.upper)) == 600 + 199

    def test_the_root_may_be_among_them(self, active: Snapshot) -> None:
        root = member("./", tarfile.DIRTYPE, mode=0o700, uid=3, mtime=8)
        apply_layer(io.BytesIO(archive(root, "./a")), active)
        found = os.stat(active.upper)
        assert (found.st_mode & 0o7777, found.st_uid, found.st_mtime) == (0o700, 3, 8)
        assert tree(active.upper) == {"a": ""}


class TestWhiteouts:
    """image-spec layer.md, "Whiteouts"."""

    def test_hide_a_file_and_a_directory(self, image: Image) -> None:
        image.add("d/", "d/a", "d/b", "e/", "e/c")
        image.add("d/", "d/.wh.a", ".wh.e")
        assert set(image.tree()) == {"d", "d/b"}

    def test_opaque_hides_every_lower_sibling_but_nothing_of_its_own_layer(self, image: Image) -> None:
        image.add("bin/", "bin/ls", "bin/tools/", "bin/tools/jq", "etc/", "etc/hosts")
        image.add("bin/", "bin/sh", "bin/.wh..wh..opq", "bin/bash")
        assert set(image.tree()) == {"bin", "bin/sh", "bin/bash", "etc", "etc/hosts"}

    def test_opaque_may_come_before_after_and_for_granted_directories(self, image: Image) -> None:
        image.add("a/b/", "a/b/old")
        image.add("a/b/.wh..wh..opq", "a/b/new")
        assert set(image.tree()) == {"a", "a/b", "a/b/new"}

    def test_opaque_for_the_root(self, image: Image) -> None:
        image.add("a", "d/", "d/old")
        image.add("d/", "d/new", ".wh..wh..opq")
        assert set(image.tree()) == {"d", "d/new"}

    @pytest.mark.parametrize("order", [(".wh.d", "d/", "d/new"), ("d/", "d/new", ".wh.d")])
    def test_and_a_new_directory_of_the_name_in_any_order(self, image: Image, order: tuple[str, ...]) -> None:
        image.add("d/", "d/old")
        image.add(*order)
        assert set(image.tree()) == {"d", "d/new"}

    def test_never_hide_files_of_their_own_layer(self, image: Image) -> None:
        image.add(("a", "old"))
        image.add(("a", "new"), ".wh.a")
        assert image.tree() == {"a": "new"}

    def test_of_nothing_leave_nothing_behind(self, image: Image) -> None:
        image.add("d/")
        image.add("d/.wh.ghost", "new/", "new/.wh.ghost", "d/e/", "d/e/.wh.x", "d/e/.wh..wh..opq")
        assert set(image.tree()) == {"d", "d/e", "new"}

    def test_do_not_show_in_a_directory_that_became_opaque(self, image: Image) -> None:
        image.add("d/", "d/a", "d/e/", "d/e/b")
        image.add("d/.wh.a", "d/e/.wh.b", "d/.wh..wh..opq")
        assert set(image.tree()) == {"d", "d/e"}

    def test_then_another_layer_brings_the_name_back(self, image: Image) -> None:
        image.add("d/", "d/old")
        image.add(".wh.d")
        image.add("d/", "d/new")
        image.add("d/newer")
        assert set(image.tree()) == {"d", "d/new", "d/newer"}

    def test_of_aufs_itself_are_skipped(self, image: Image) -> None:
        image.add(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "a")
        assert set(image.tree()) == {"a"}


class TestReplacing:
    def test_a_file_by_a_directory_and_back(self, image: Image) -> None:
        image.add("a/", "a/x", ("b", "file"))
        image.add(("a", "file"), "b/", "b/x")
        assert image.tree() == {"a": "file", "b": "/", "b/x": ""}
        image.add("a/", "a/y")
        assert image.tree() == {"a": "/", "a/y": "", "b": "/", "b/x": ""}

    def test_an_opaque_directory_by_a_file_and_back_within_one_layer(self, image: Image) -> None:
        image.add("d/", "d/old", "d/e/", "d/e/old")
        image.add("d/", "d/.wh..wh..opq", "d/e/", "d/e/.wh..wh..opq", ("d", "file"), "d/", "d/e/", "d/e/new")
        assert image.tree() == {"d": "/", "d/e": "/", "d/e/new": ""}

    def test_within_one_layer_the_last_wins(self, image: Image) -> None:
        image.add("d/", "d/old")
        image.add(("a", "1"), ("a", "2"), "d/", "d/x", ("d", "file"), "d/", "d/y")
        assert image.tree() == {"a": "2", "d": "/", "d/y": ""}


class TestLinksOnTheWay:
    def test_of_lower_layers_lead_within_the_image(self, image: Image) -> None:
        image.add("usr/lib/", member("lib", tarfile.SYMTYPE, linkname="usr/lib"))
        image.add("lib/libc.so", "lib/modules/a.ko")
        assert image.tree() == {
            "usr": "/",
            "usr/lib": "/",
            "usr/lib/libc.so": "",
            "usr/lib/modules": "/",
            "usr/lib/modules/a.ko": "",
            "lib": "-> usr/lib",
        }

    def test_absolute_ones_count_from_the_images_root(self, image: Image) -> None:
        image.add(member("var/run", tarfile.SYMTYPE, linkname="/run"), "run/")
        image.add("var/run/x.pid")
        assert not Path("/run/x.pid").exists()
        assert set(image.tree()) == {"var", "var/run", "run", "run/x.pid"}


class TestHardLinks:
    def test_to_a_file_of_a_lower_layer(self, image: Image) -> None:
        image.add("d/", ("d/file", "text"))
        upper = Path(image.add(member("d/link", tarfile.LNKTYPE, linkname="d/file")).upper)
        assert image.tree() == {"d": "/", "d/file": "text", "d/link": "text"}
        assert (upper / "d" / "file").stat().st_nlink == 2

    def test_to_a_symbolic_link_are_the_link(self, image: Image) -> None:
        image.add(member("a", tarfile.SYMTYPE, linkname="/etc/passwd"), member("b", tarfile.LNKTYPE, linkname="a"))
        assert image.tree() == {"a": "-> /etc/passwd", "b": "-> /etc/passwd"}

    def test_to_nothing_are_refused(self, image: Image) -> None:
        with pytest.raises(LayerError, match="'b' links to 'a', which is not there"):
            image.add(member("b", tarfile.LNKTYPE, linkname="a"))


class TestDiffId:
    def test_covers_what_follows_the_end_mark(self, active: Snapshot) -> None:
        plain = archive("a") + b"trailing" * 100_000
        assert apply_layer(io.BytesIO(gzip.compress(plain)), active) == Digest.of(plain)

    def test_must_be_the_expected_one(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="but the image says sha256:"):
            apply_layer(io.BytesIO(archive("a")), active, expected=Digest.of(b""))
