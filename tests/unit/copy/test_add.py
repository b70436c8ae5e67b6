"""ADD of archives: unpacked by content, members placed like a copy's files, and never outside the image."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from builder.errors import LayerError
from builder.ops.copy import Copied, Fetched
from builder.snapshots.trees import remove_tree

from .conftest import Copy, Rootfs

Add = Callable[..., Copied]


def archive(*members: tuple[str, bytes, dict[str, object]], text: str = "text") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, fields in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(text) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


FILE, DIR, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
SIMPLE = archive(("d", DIR, {}), ("d/file", FILE, {"uid": 7, "gid": 8, "mode": 0o640, "mtime": 99}))


@pytest.fixture
def add(copy: Copy, context: Path) -> Add:
    """ADD a file of this content."""

    def run(content: bytes, *, to: str, name: str = "blob", **words: object) -> Copied:
        (context / name).write_bytes(content)
        return copy(name, to=to, source={"unpack": True}, **words)

    return run


class TestAnArchive:
    @pytest.mark.parametrize(
        "pack",
        [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
        ids=["plain", "gzip", "bzip2", "xz", "zstd"],
    )
    def test_is_unpacked_whatever_its_name(self, add: Add, rootfs: Rootfs, pack: Callable[[bytes], bytes]) -> None:
        add(pack(SIMPLE), to="/x", name="picture.png")
        assert rootfs.tree() == {"x": "/", "x/d": "/", "x/d/file": "text"}

    def test_keeps_owners_modes_and_times(self, add: Add, rootfs: Rootfs) -> None:
        copied = add(SIMPLE, to="/x/")
        found = (rootfs / "x/d/file").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777, found.st_mtime) == (7, 8, 0o640, 99)
        assert (copied.files, copied.newest_ns) == (2, 99 * 10**9)

    def test_gives_all_members_to_chown(self, add: Add, rootfs: Rootfs) -> None:
        add(SIMPLE, to="/x/", chown="5:6")
        for path in ("x", "x/d", "x/d/file"):
            found = (rootfs / path).stat()
            assert (found.st_uid, found.st_gid) == (5, 6)

    def test_and_what_lies_below_it_are_not_reached_by_chmod(self, add: Add, rootfs: Rootfs) -> None:
        add(archive(("d/deep/f", FILE, {})), to="/new/x/", chmod="711")
        modes = {(rootfs / path).stat().st_mode & 0o7777 for path in ("new", "new/x", "new/x/d", "new/x/d/deep")}
        assert modes == {0o755}

    def test_directories_that_an_archive_only_implies_belong_to_root(self, add: Add, rootfs: Rootfs) -> None:
        add(archive(("d/file", FILE, {})), to="/x/", chown="5:6")
        assert [(rootfs / path).stat().st_uid for path in ("x", "x/d", "x/d/file")] == [5, 0, 5]

    def test_leaves_the_destinations_own_mode_alone(self, base: Path, add: Add, rootfs: Rootfs) -> None:
        (base / "x").mkdir(mode=0o711)
        add(archive(("./", DIR, {"mode": 0o777, "uid": 9}), ("./file", FILE, {})), to="/x")
        found = (rootfs / "x").stat()
        assert (found.st_mode & 0o7777, found.st_uid) == (0o711, 0)

    def test_lays_itself_over_what_is_there(self, base: Path, add: Add, rootfs: Rootfs) -> None:
        (base / "d" / "sub").mkdir(parents=True)
        (base / "d" / "old").write_text("old")
        (base / "d" / "file").mkdir()
        add(archive(("d", DIR, {"mode": 0o700}), ("d/file", FILE, {}), ("d/old", FILE, {})), to="/")
        assert rootfs.tree() == {"d": "/", "d/sub": "/", "d/file": "text", "d/old": "text"}
        assert (rootfs / "d").stat().st_mode & 0o7777 == 0o700

    def test_may_have_links_of_both_kinds(self, add: Add, rootfs: Rootfs) -> None:
        content = archive(
            ("file", FILE, {}), ("hard", HARD, {"linkname": "./file"}), ("soft", LINK, {"linkname": "/etc/passwd"})
        )
        add(content, to="/x")
        assert rootfs.tree("x") == {"file": "text", "hard": "text", "soft": "-> /etc/passwd"}
        assert (rootfs / "x/file").stat().st_nlink == 2

    def test_from_the_web_is_unpacked_only_when_asked(self, copy: Copy, space: Path, rootfs: Rootfs) -> None:
        (space / "body").write_bytes(SIMPLE)
        copy(Fetched("a.tar", str(space / "body")), to="/kept/")
        copy(Fetched("a.tar", str(space / "body"), unpack=True), to="/unpacked/")
        assert set(os.listdir(rootfs / "kept")) == {"a.tar"}
        assert set(rootfs.tree("unpacked")) == {"d", "d/file"}

    def test_in_a_directory_stays_one(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "d").mkdir()
        (context / "d" / "a.tar").write_bytes(SIMPLE)
        copy("d", to="/x/", source={"unpack": True})
        assert (rootfs / "x/a.tar").read_bytes() == SIMPLE

    def test_of_copy_stays_an_archive(self, copy: Copy, context: Path, rootfs: Rootfs) -> None:
        (context / "a.tar").write_bytes(SIMPLE)
        copy("a.tar", to="/x/")
        assert (rootfs / "x/a.tar").read_bytes() == SIMPLE


class TestWhatIsNoArchive:
    @pytest.mark.parametrize(
        "content",
        [b"", b"text", gzip.compress(b"just a log file"), bytes(2000), b"\x1f\x8b\x08broken", os.urandom(3000)],
    )
    def test_is_copied_as_it_is(self, add: Add, rootfs: Rootfs, content: bytes) -> None:
        add(content, to="/x/", name="logs.tar.gz")
        assert (rootfs / "x/logs.tar.gz").read_bytes() == content


class TestAHostileArchive:
    @pytest.fixture
    def outside(self, space: Path) -> Path:
        directory = space / "outside"
        directory.mkdir()
        (directory / "precious").write_text("untouched")
        return directory

    @pytest.mark.parametrize("name", ["../evil", "d/../../evil", "/../evil"])
    def test_does_not_climb_out_of_the_destination(self, add: Add, rootfs: Rootfs, name: str) -> None:
        with pytest.raises(LayerError, match="leads out of its root"):
            add(archive((name, FILE, {})), to="/x/y/")
        assert "evil" not in os.listdir(rootfs / "x")

    def test_does_not_write_through_its_links(self, add: Add, rootfs: Rootfs, outside: Path) -> None:
        content = archive(
            ("link", LINK, {"linkname": str(outside)}),
            ("link/precious", FILE, {}),
            ("climb", LINK, {"linkname": "../" * 30 + str(outside)[1:]}),
            ("climb/second", FILE, {}),
        )
        add(content, to="/x/")
        assert os.listdir(outside) == ["precious"]
        assert (outside / "precious").read_text() == "untouched"
        assert (rootfs / f".{outside}/second").read_text() == "text"

    def test_does_not_link_to_what_is_outside(self, add: Add, outside: Path) -> None:
        content = archive(("link", LINK, {"linkname": str(outside)}), ("hard", HARD, {"linkname": "link/precious"}))
        with pytest.raises(LayerError):
            add(content, to="/x/")
        assert (outside / "precious").stat().st_nlink == 1

    def test_may_be_deep(self, add: Add, rootfs: Rootfs) -> None:
        deep = "d/" * 1900
        assert add(archive((f"{deep}a", FILE, {}), (f"{deep}b", FILE, {})), to="/x/").files == 2
        remove_tree(str(rootfs.upper))  # deeper than the fixture can remove

    def test_that_was_cut_off_is_an_error(self, add: Add) -> None:
        with pytest.raises(LayerError):
            add(gzip.compress(SIMPLE)[:-30], to="/x/")
