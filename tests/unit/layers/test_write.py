"""What a layer holds, told by Python's tarfile, GNU tar and the decompressors that everybody has."""

import io
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import LayerError, SnapshotError
from builder.layers import Compression, Layer, apply_layer, write_layer, write_tree
from builder.snapshots import Snapshot, Snapshots
from builder.solver.scheduler import Canceled
from registry.model.digest import Digest
from registry.storage import ContentStore

from .conftest import tree

GZIP = Compression.parse("gzip")
PLAIN = Compression.parse("uncompressed")
SECOND = 1_000_000_000

Overlay = Callable[[Snapshot], Path]


def members(store: ContentStore, layer: Layer) -> dict[str, tarfile.TarInfo]:
    with store.open_blob(layer.descriptor.digest) as blob, tarfile.open(fileobj=blob, mode="r:*") as tar:
        return {info.name: info for info in tar}


def written(store: ContentStore, snapshot: Snapshot) -> dict[str, tarfile.TarInfo]:
    return members(store, write_layer(snapshot, store, PLAIN))


class TestEntries:
    def test_are_sorted_parents_first_without_the_root(self, store: ContentStore, active: Snapshot) -> None:
        upper = Path(active.upper)
        for name in ("b", "a/z", "a/b/c"):
            (upper / name).mkdir(parents=True)
        (upper / "a.txt").touch()
        assert list(written(store, active)) == ["a", "a/b", "a/b/c", "a/z", "a.txt", "b"]

    def test_keep_mode_owner_and_whole_seconds(self, store: ContentStore, active: Snapshot) -> None:
        file = Path(active.upper) / "file"
        file.write_text("text")
        os.chown(file, 70_000, 4_000_000_000)
        file.chmod(0o6751)
        os.utime(file, ns=(0, 5 * SECOND + 999_999_999))
        (Path(active.upper) / "tmp").mkdir()
        (Path(active.upper) / "tmp").chmod(0o1777)
        found = written(store, active)
        info = found["file"]
        assert (info.mode, info.uid, info.gid, info.size) == (0o6751, 70_000, 4_000_000_000, 4)
        assert info.mtime == 5
        assert (info.uname, info.gname) == ("", "")
        assert (found["tmp"].mode, found["tmp"].isdir()) == (0o1777, True)

    def test_of_every_kind(self, store: ContentStore, active: Snapshot) -> None:
        upper = Path(active.upper)
        (upper / "link").symlink_to("/some/where")
        os.mkfifo(upper / "fifo")
        os.mknod(upper / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
        os.mknod(upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(upper / "socket"))
        found = written(store, active)
        assert found["link"].linkname == "/some/where"
        assert found["fifo"].isfifo()
        assert (found["disk"].type, found["disk"].devmajor, found["disk"].devminor) == (tarfile.BLKTYPE, 259, 70_000)
        assert (found["null"].type, found["null"].devmajor, found["null"].devminor) == (tarfile.CHRTYPE, 1, 3)
        assert "socket" not in found

    def test_of_one_file_with_two_names_are_a_file_and_a_link(self, store: ContentStore, active: Snapshot) -> None:
        upper = Path(active.upper)
        (upper / "z").write_text("text")
        (upper / "a").mkdir()
        os.link(upper / "z", upper / "a" / "b")
        found = written(store, active)
        assert found["a/b"].isreg()
        assert (found["z"].type, found["z"].linkname, found["z"].size) == (tarfile.LNKTYPE, "a/b", 0)

    def test_keep_capabilities_and_user_attributes_only(self, store: ContentStore, active: Snapshot) -> None:
        file = Path(active.upper) / "file"
        file.touch()
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(file, "security.capability", capability)
        os.setxattr(file, "user.note", b"a=b\n")
        os.setxattr(file, "trusted.overlay.origin", b"x")
        os.setxattr(file, "user.overlay.origin", b"x")
        os.setxattr(file, "trusted.private", b"x")
        headers = written(store, active)["file"].pax_headers
        assert headers == {
            "SCHILY.xattr.security.capability": capability.decode(errors="surrogateescape"),
            "SCHILY.xattr.user.note": "a=b\n",
        }

    @pytest.mark.parametrize(
        "name",
        [
            b"a" * 100,
            b"a" * 101,
            b"a" * 255,
            b"/".join([b"d" * 50] * 3) + b"/" + b"f" * 90,
            b"/".join([b"d" * 200] * 10),
            "grün/猫".encode(),
            b"not\xff\xfeutf8",
            b"new\nline",
            b" lead and trail ",
        ],
    )
    def test_may_have_any_name(self, store: ContentStore, snapshots: Snapshots, active: Snapshot, name: bytes) -> None:
        path = os.fsencode(active.upper) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("x")
        os.symlink(name, os.fsencode(active.upper) + b"/~link")
        layer = write_layer(active, store, PLAIN)
        assert os.fsdecode(name) in members(store, layer)
        assert members(store, layer)["~link"].linkname == os.fsdecode(name)
        again = snapshots.prepare("build-again", None)
        with store.open_blob(layer.descriptor.digest) as blob:
            assert apply_layer(blob, again) == layer.diff_id
        assert tree(again.upper) == tree(active.upper)

    def test_may_be_nested_as_deep_as_paths_go(self, store: ContentStore, active: Snapshot) -> None:
        os.makedirs(active.upper + "/d" * 600)
        assert len(written(store, active)) == 600

    def test_are_left_where_they_are_when_the_build_ends(self, store: ContentStore, active: Snapshot) -> None:
        (Path(active.upper) / "large").write_bytes(bytes(50 << 20))
        pieces: list[int] = []

        def check() -> None:
            pieces.append(1)
            if len(pieces) == 3:
                raise Canceled("the build ends")

        with pytest.raises(Canceled):
            write_layer(active, store, GZIP, check=check)
        assert len(pieces) == 3
        assert list(store.blobs()) == []

    def test_cannot_be_called_like_a_whiteout(self, store: ContentStore, active: Snapshot) -> None:
        (Path(active.upper) / ".wh.passwd").touch()
        with pytest.raises(LayerError, match=r"/\.wh\.passwd can't be stored"):
            write_layer(active, store, PLAIN)

    def test_none_at_all_is_a_layer_too(self, store: ContentStore, active: Snapshot) -> None:
        layer = write_layer(active, store, GZIP)
        assert (layer.files, layer.newest_ns, members(store, layer)) == (0, 0, {})
        # what `tar c -T /dev/null` of two zero blocks hashes to, known from countless images
        assert layer.diff_id == Digest.of(bytes(1024))


class TestOverlayMarks:
    @pytest.fixture
    def step(self, snapshots: Snapshots) -> Snapshot:
        """A step on an image that has d/{a,b} and file."""
        base = snapshots.prepare("build-base", None)
        (Path(base.upper) / "d").mkdir()
        for name in ("d/a", "d/b", "file"):
            (Path(base.upper) / name).write_text(name)
        snapshots.commit("build-base", "sha256:base")
        return snapshots.prepare("build-step", "sha256:base")

    def test_a_removed_file_and_directory_are_whiteouts(
        self, store: ContentStore, step: Snapshot, overlay: Overlay
    ) -> None:
        mounted = overlay(step)
        (mounted / "file").unlink()
        shutil.rmtree(mounted / "d")
        found = written(store, step)
        assert list(found) == [".wh.d", ".wh.file"]
        assert all(info.isreg() and info.size == 0 for info in found.values())

    def test_a_directory_made_anew_is_opaque(self, store: ContentStore, step: Snapshot, overlay: Overlay) -> None:
        mounted = overlay(step)
        shutil.rmtree(mounted / "d")
        (mounted / "d").mkdir()
        (mounted / "d" / "c").touch()
        assert list(written(store, step)) == ["d", "d/.wh..wh..opq", "d/c"]

    def test_a_change_brings_its_directories_along(self, store: ContentStore, step: Snapshot, overlay: Overlay) -> None:
        (overlay(step) / "d" / "a").write_text("new")
        assert list(written(store, step)) == ["d", "d/a"]

    def test_whiteouts_may_be_spelt_as_attributes(self, store: ContentStore, active: Snapshot) -> None:
        gone = Path(active.upper) / "gone"
        gone.touch()
        os.setxattr(gone, "trusted.overlay.whiteout", b"y")
        assert list(written(store, active)) == [".wh.gone"]

    def test_a_moved_directory_without_its_content_is_refused(self, store: ContentStore, active: Snapshot) -> None:
        (Path(active.upper) / "moved").mkdir()
        os.setxattr(Path(active.upper) / "moved", "trusted.overlay.redirect", b"/elsewhere")
        with pytest.raises(SnapshotError, match="/moved has overlay marks"):
            write_layer(active, store, PLAIN)


class TestClamp:
    def test_makes_the_steps_own_times_the_epoch_here_and_in_the_archive(
        self, store: ContentStore, active: Snapshot
    ) -> None:
        upper = Path(active.upper)
        (upper / "d").mkdir()
        (upper / "d" / "old").touch()
        (upper / "d" / "new").touch()
        (upper / "d" / "link").symlink_to("old")
        os.utime(upper / "d" / "old", ns=(0, 100 * SECOND))
        layer = write_layer(active, store, PLAIN, clamp=(200 * SECOND, 50 * SECOND))
        assert {name: info.mtime for name, info in members(store, layer).items()} == {
            "d": 50,
            "d/link": 50,
            "d/new": 50,
            "d/old": 100,
        }
        assert layer.newest_ns == 100 * SECOND
        for name, seconds in {".": 50, "d": 50, "d/link": 50, "d/new": 50, "d/old": 100}.items():
            assert (upper / name).lstat().st_mtime_ns == seconds * SECOND


def fill(top: Path) -> None:
    """Twelve MiB: enough blocks to keep several threads busy. The same each time, in an order of the caller's mood."""
    for number in range(12):
        (top / f"d{number}").mkdir()
        (top / f"d{number}" / "file").write_bytes(b"".join(b"%d,%d;" % (number, n) for n in range(120_000)))
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(SECOND, SECOND))


class TestSameBytes:
    @pytest.mark.parametrize("algorithm", ["gzip", "zstd", "uncompressed"])
    def test_for_the_same_tree_on_any_number_of_cores(
        self, store: ContentStore, snapshots: Snapshots, active: Snapshot, space: Path, algorithm: str
    ) -> None:
        fill(Path(active.upper))
        layer = write_layer(active, store, Compression.parse(algorithm))
        script = (
            "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
            "from pathlib import Path\n"
            "from builder.layers import Compression, write_layer\n"
            "from builder.snapshots import Snapshots\n"
            "from registry.storage import ContentStore\n"
            "root = Path(sys.argv[1])\n"
            "snapshot = Snapshots(root).get('build-active')\n"
            "print(write_layer(snapshot, ContentStore.open(root), Compression.parse(sys.argv[2])).descriptor.digest)\n"
        )
        again = subprocess.run(
            [sys.executable, "-c", script, space, algorithm], check=True, capture_output=True, text=True
        )
        assert again.stdout.strip() == str(layer.descriptor.digest)

    def test_whatever_order_the_files_were_made_in(self, store: ContentStore, snapshots: Snapshots) -> None:
        layers = []
        for number, names in enumerate(("abc", "cab")):
            snapshot = snapshots.prepare(f"build-{number}", None)
            for name in names:
                (Path(snapshot.upper) / name).write_text(name)
                os.utime(Path(snapshot.upper) / name, ns=(SECOND, SECOND + number))
            layers.append(write_layer(snapshot, store, GZIP))
        assert layers[0] == Layer(layers[1].descriptor, layers[1].diff_id, SECOND, 3)


class TestPacking:
    @pytest.mark.parametrize(
        ("algorithm", "level", "unpack"),
        [
            ("gzip", None, ["gzip", "-dc"]),
            ("gzip", 1, ["gzip", "-dc"]),
            ("gzip", 9, ["gzip", "-dc"]),
            ("zstd", None, ["zstd", "-dc"]),
            ("zstd", 10, ["zstd", "-dc"]),
            ("uncompressed", None, ["cat"]),
        ],
    )
    def test_is_read_by_everybody(
        self, store: ContentStore, active: Snapshot, algorithm: str, level: int | None, unpack: list[str]
    ) -> None:
        fill(Path(active.upper))
        layer = write_layer(active, store, Compression.parse(algorithm, level))
        with store.open_blob(layer.descriptor.digest) as blob:
            content = subprocess.run(unpack, stdin=blob, capture_output=True, check=True).stdout
        assert Digest.of(content) == layer.diff_id
        listing = subprocess.run(["tar", "tf", "-"], input=content, capture_output=True, check=True).stdout.split()
        assert listing[:3] == [b"d0/", b"d0/file", b"d1/"]
        assert layer.descriptor.size == store.size(layer.descriptor.digest)
        assert (
            layer.descriptor.media_type
            == {
                "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
                "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
                "uncompressed": "application/vnd.oci.image.layer.v1.tar",
            }[algorithm]
        )

    def test_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(LayerError, match="unknown compression 'lzma'"):
            Compression.parse("lzma")
        with pytest.raises(LayerError, match="no level 77"):
            Compression.parse("zstd", 77)


class TestWriteTree:
    def test_writes_a_mounted_root_as_it_looks(self, snapshots: Snapshots, active: Snapshot, overlay: Overlay) -> None:
        (Path(active.upper) / "lower").write_text("1")
        snapshots.commit(active.key, "sha256:a")
        step = snapshots.prepare("build-step", "sha256:a")
        mounted = overlay(step)
        (mounted / "upper").write_text("2")
        out = io.BytesIO()
        assert write_tree(int(mounted.name), out) == 2
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            assert tar.getnames() == ["lower", "upper"]
