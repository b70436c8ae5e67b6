"""Layer archives made to do harm: they are refused, nothing outside the snapshot is touched, nothing is left behind."""

import io
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import LayerError
from builder.layers import Limits, apply_layer, unpack_image
from builder.snapshots import Snapshot, Snapshots
from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, RootFs
from registry.model.platform import native
from registry.storage import ContentStore

GIB = 1 << 30


@pytest.fixture
def space() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def snapshots(space: Path) -> Iterator[Snapshots]:
    with Snapshots(space / "root") as found:
        yield found


@pytest.fixture
def active(snapshots: Snapshots) -> Snapshot:
    return snapshots.prepare("build-active", None)


@pytest.fixture
def outside(space: Path) -> Path:
    directory = space / "outside"
    directory.mkdir()
    (directory / "precious").write_text("untouched")
    return directory


def entry(name: str, kind: bytes = tarfile.REGTYPE, text: str = "", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, 0o755, len(text)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, text.encode()


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def apply(active: Snapshot, *entries: tuple[tarfile.TarInfo, bytes], limits: Limits | None = None) -> None:
    apply_layer(io.BytesIO(archive(*entries)), active, limits=limits)


class TestNamesThatLeadOut:
    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil", "./../evil", "a/b/../../../evil", ".."])
    @pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
    def test_with_dots_are_refused(self, active: Snapshot, name: str, kind: bytes) -> None:
        with pytest.raises(LayerError, match="leads out of its root"):
            apply(active, entry(name, kind, linkname="x"))
        assert os.listdir(active.upper) == []
        assert not Path(active.upper, "..", "evil").exists()

    def test_absolute_ones_land_in_the_image(self, active: Snapshot, outside: Path) -> None:
        apply(active, entry(f"{outside}/precious", text="changed"), entry("//etc//x", text="1"))
        assert (outside / "precious").read_text() == "untouched"
        assert Path(f"{active.upper}{outside}/precious").read_text() == "changed"
        assert Path(active.upper, "etc/x").read_text() == "1"

    @pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "d/.wh..."])
    def test_whiteouts_of_what_is_no_name_are_refused(self, active: Snapshot, name: str) -> None:
        with pytest.raises(LayerError, match="whiteout"):
            apply(active, entry("d", tarfile.DIRTYPE), entry(name))

    @pytest.mark.parametrize("name", ["d/.wh.x/f", ".wh.x/y/.wh.f", "link/f"])
    def test_whiteouts_are_never_directories(self, active: Snapshot, name: str) -> None:
        with pytest.raises(LayerError, match="is a whiteout"):
            apply(active, entry("link", tarfile.SYMTYPE, linkname=".wh.y"), entry(name))
        assert ".wh.y" not in os.listdir(active.upper)

    def test_a_whiteout_behind_a_link_stays_in_the_image(self, active: Snapshot, outside: Path) -> None:
        apply(active, entry("link", tarfile.SYMTYPE, linkname=str(outside)), entry("link/.wh.precious"))
        assert (outside / "precious").read_text() == "untouched"

    def test_longer_than_a_path_may_be_are_refused(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="longer than 4096 bytes"):
            apply(active, entry("/".join(["d" * 200] * 30)))
        with pytest.raises(LayerError, match="File name too long"):
            apply(active, entry("d" * 300))


class TestLinksThatLeadOut:
    @pytest.mark.parametrize("climb", [True, False], ids=["relative", "absolute"])
    def test_are_followed_inside_the_image_only(self, active: Snapshot, outside: Path, climb: bool) -> None:
        target = "../" * 40 + str(outside).lstrip("/") if climb else str(outside)
        apply(active, entry("link", tarfile.SYMTYPE, linkname=target), entry("link/precious", text="changed"))
        assert (outside / "precious").read_text() == "untouched"
        assert Path(f"{active.upper}{outside}/precious").read_text() == "changed"

    def test_are_replaced_and_never_written_through(self, active: Snapshot, outside: Path) -> None:
        apply(
            active,
            entry("precious", tarfile.SYMTYPE, linkname=str(outside / "precious")),
            entry("precious", text="changed"),
        )
        assert (outside / "precious").read_text() == "untouched"
        assert not Path(active.upper, "precious").is_symlink()

    def test_of_a_lower_layer_do_neither(self, snapshots: Snapshots, outside: Path) -> None:
        below = snapshots.prepare("build-below", None)
        apply(below, entry("d", tarfile.SYMTYPE, linkname=str(outside)))
        snapshots.commit("build-below", "sha256:below")
        above = snapshots.prepare("build-above", "sha256:below")
        apply(above, entry("d/precious", text="changed"), entry("d/new", text="1"), entry("d/.wh.precious"))
        assert (outside / "precious").read_text() == "untouched"
        assert os.listdir(outside) == ["precious"]

    @pytest.mark.parametrize("target", ["../../outside/precious", "{outside}/precious", "link/precious"])
    def test_hard_ones_are_refused(self, active: Snapshot, outside: Path, target: str) -> None:
        with pytest.raises(LayerError, match=r"leads out|is not there"):
            apply(
                active,
                entry("link", tarfile.SYMTYPE, linkname=str(outside)),
                entry("hard", tarfile.LNKTYPE, linkname=target.format(outside=outside)),
            )
        assert (outside / "precious").stat().st_nlink == 1

    def test_in_a_circle_are_refused(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="too many symbolic links"):
            apply(
                active,
                entry("a", tarfile.SYMTYPE, linkname="b"),
                entry("b", tarfile.SYMTYPE, linkname="a"),
                entry("a/x"),
            )

    def test_a_directory_does_not_change_what_its_name_linked_to(self, active: Snapshot, outside: Path) -> None:
        apply(
            active,
            entry("d", tarfile.SYMTYPE, linkname=str(outside)),
            entry("d", tarfile.DIRTYPE, mode=0o777, uid=12, mtime=1),
        )
        assert outside.stat().st_uid == 0
        assert outside.stat().st_mode & 0o777 == 0o755


class TestMarksAndDevices:
    def test_devices_are_made_in_the_image_only(self, active: Snapshot) -> None:
        apply(active, entry("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0))
        assert Path(active.upper, "dev/sda").is_block_device()

    def test_overlays_mark_of_a_deleted_file_is_no_device(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="0:0"):
            apply(active, entry("passwd", tarfile.CHRTYPE, devmajor=0, devminor=0))

    def test_attributes_of_overlay_and_of_the_host_are_not_taken(self, active: Snapshot) -> None:
        names = ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.opaque", "security.selinux"]
        headers = {f"SCHILY.xattr.{name}": "/" for name in [*names, "trusted.x"]}
        apply(active, entry("d", tarfile.DIRTYPE, pax_headers=headers), entry("f", pax_headers=headers))
        for name in "df":
            assert os.listxattr(Path(active.upper, name)) == []


class TestBombs:
    def test_of_100_gb_of_zeros_in_100_kb_is_refused_at_once(self, active: Snapshot) -> None:
        info, _ = entry("zeros")
        info.size = 100 * 10**9
        packer = zstandard.ZstdCompressor(level=1).compressobj()
        bomb = packer.compress(info.tobuf(tarfile.PAX_FORMAT)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        # a block of 128 KiB that repeats one byte takes 4 bytes: 3 of header (type 1, size), then the byte
        bomb += (0x2 | 128 * 1024 << 3).to_bytes(3, "little") + b"\0"
        bomb += ((0x2 | 128 * 1024 << 3).to_bytes(3, "little") + b"\0") * 25_000
        assert len(bomb) < 101_000
        began = time.monotonic()
        with pytest.raises(LayerError, match="claims 100000000000 bytes"):
            apply_layer(io.BytesIO(bomb), active)
        info.size = 50 * 10**9  # within what one file may have
        packer = zstandard.ZstdCompressor(level=1).compressobj()
        start = packer.compress(info.tobuf(tarfile.PAX_FORMAT)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        with pytest.raises(LayerError, match="more than 1100 times its size") as caught:
            apply_layer(io.BytesIO(start + bomb[-100_000:]), active)
        assert (caught.value.hint or "").startswith("it looks like a decompression bomb")
        assert time.monotonic() - began < 5
        assert Path(active.upper, "zeros").stat().st_blocks == 0  # nothing of it was ever written

    def test_beyond_the_absolute_limit_are_refused(self, active: Snapshot) -> None:
        packed = zlib.compress(archive(*(entry(str(n), text="x" * 100_000) for n in range(20))), wbits=31)
        with pytest.raises(LayerError, match="more than 0 GiB"):
            apply_layer(io.BytesIO(packed), active, limits=Limits(size=1_000_000))

    def test_of_entries_are_refused(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="more than 10 entries"):
            apply(active, *(entry(str(number)) for number in range(11)), limits=Limits(entries=10))

    def test_of_extended_headers_are_refused(self, active: Snapshot) -> None:
        with pytest.raises(LayerError, match="extended header claims"):
            apply(active, entry("a", pax_headers={"comment": "x" * (2 << 20)}))


class TestLies:
    def test_about_a_size_end_too_early(self, active: Snapshot) -> None:
        info, _ = entry("a")
        info.size = 10_000
        with pytest.raises(LayerError, match="ends too early"):
            apply_layer(io.BytesIO(info.tobuf() + b"x" * 512), active)

    @pytest.mark.parametrize("cut", [100, 512, 700, 1500])
    def test_archives_cut_anywhere_are_refused(self, active: Snapshot, cut: int) -> None:
        whole = archive(entry("a", text="x" * 900), entry("b", text="y" * 900))
        if cut == 512:
            cut = 513
        with pytest.raises(LayerError):
            apply_layer(io.BytesIO(whole[:cut]), active)

    @pytest.mark.parametrize(
        "pack",
        [lambda data: zlib.compress(data, wbits=31), zstandard.ZstdCompressor(write_checksum=True).compress],
        ids=["gzip", "zstd"],
    )
    def test_packed_data_cut_off_or_damaged_is_refused(self, active: Snapshot, pack: Callable[[bytes], bytes]) -> None:
        packed = pack(archive(entry("a", text=os.urandom(5000).hex())))
        with pytest.raises(LayerError):
            apply_layer(io.BytesIO(packed[: len(packed) // 2]), active)
        damaged = bytearray(packed)
        damaged[len(damaged) // 2] ^= 0xFF
        damaged[len(damaged) // 2 + 1] ^= 0xFF
        with pytest.raises(LayerError):
            apply_layer(io.BytesIO(bytes(damaged)), active)

    def test_nonsense_is_refused(self, active: Snapshot) -> None:
        for nonsense in (b"<html>" * 1000, b"\xff" * 5000, os.urandom(5000), b"\x1f\x8b\x08" + b"x" * 5000):
            with pytest.raises(LayerError):
                apply_layer(io.BytesIO(nonsense), active)

    @pytest.mark.parametrize(
        ("at", "value"),
        [
            (124, b"-0000000001\0"),
            (124, b"9999999999\0\0"),
            (124, b"\xff" * 12),
            (108, b"\xff" * 8),
            (156, b"S"),
            (156, b"Z"),
        ],
    )
    def test_headers_of_wrong_numbers_or_kinds_are_refused(self, active: Snapshot, at: int, value: bytes) -> None:
        block = bytearray(entry("a")[0].tobuf(tarfile.USTAR_FORMAT))
        block[at : at + len(value)] = value
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        with pytest.raises(LayerError):
            apply_layer(io.BytesIO(bytes(block) + bytes(1024)), active)

    @pytest.mark.parametrize(
        "record", [b"99 path=x\n", b"x path=y\n", b"9 path=x ", b"3 a\n", b"12 size=abc\n", b"9 size=-\n"]
    )
    def test_broken_pax_records_are_refused(self, active: Snapshot, record: bytes) -> None:
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, len(record)
        data = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + archive(entry("a"))
        with pytest.raises(LayerError):
            apply_layer(io.BytesIO(data), active)


class TestNoise:
    SAMPLE = archive(
        entry("d", tarfile.DIRTYPE),
        entry("d/file", text="text" * 200),
        entry("d/link", tarfile.SYMTYPE, linkname="../e"),
        entry("d/hard", tarfile.LNKTYPE, linkname="d/file"),
        entry("e/.wh..wh..opq"),
        entry("dev", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("pax", uid=3_000_000, mtime=1.5, pax_headers={"SCHILY.xattr.user.note": "x"}),
    )

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(SAMPLE) // 512 - 1), st.integers(0, 511), st.binary(max_size=12)), max_size=4
        )
    )
    def test_in_headers_that_add_up_is_refused_or_stays_inside(self, changes: list[tuple[int, int, bytes]]) -> None:
        data = bytearray(self.SAMPLE)
        for block, at, noise in changes:
            start = block * 512
            end = min(at + len(noise), 512)
            data[start + at : start + end] = noise[: end - at]
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
        with TemporaryDirectory(dir="/dev/shm") as directory, Snapshots(directory) as snapshots:
            active = snapshots.prepare("build-noise", None)
            with suppress(LayerError):
                apply_layer(io.BytesIO(bytes(data)), active)
            assert set(os.listdir(directory)) == {"snapshots"}
            assert set(os.listdir(os.path.dirname(active.upper))) == {"fs", "work"}

    def test_of_depth_is_no_more_than_an_error(self, snapshots: Snapshots) -> None:
        deep = entry("d/" * 1900 + "f", text="x")
        apply(snapshots.prepare("build-1", None), deep)
        snapshots.commit("build-1", "sha256:1")
        above = snapshots.prepare("build-2", "sha256:1")
        apply(above, deep)
        with pytest.raises(LayerError, match="no directory"):
            apply(above, entry("f"), entry("f/" * 2000 + "f"))
        for name in ("build-2", "sha256:1"):
            snapshots.remove(name)  # and to remove it takes no more than that either


class TestTimeWasters:
    """Archives that would make a careless reader do the square of their length in work."""

    def test_of_names_and_marks_again_and_again(self, snapshots: Snapshots) -> None:
        below = snapshots.prepare("build-below", None)
        apply(below, *(entry(f"d/{number}") for number in range(1000)))
        snapshots.commit("build-below", "sha256:below")
        above = snapshots.prepare("build-above", "sha256:below")
        began = time.monotonic()
        apply(
            above,
            *(entry(f"d/.wh.{number}") for number in range(1000)),
            *(entry(f"e/{number}", tarfile.DIRTYPE) for number in range(5000)),
            *([entry("d/.wh..wh..opq"), entry("e/.wh..wh..opq"), entry("again")] * 5000),
            *([entry("f/f", tarfile.DIRTYPE), entry("f"), entry("f", tarfile.DIRTYPE)] * 1000),
        )
        assert time.monotonic() - began < 20
        assert os.listdir(os.path.join(above.upper, "d")) == []

    def test_of_opaque_directories_as_deep_as_names_go(self, snapshots: Snapshots) -> None:
        below = snapshots.prepare("build-below", None)
        apply(below, entry("d/" * 1900 + "f"))
        snapshots.commit("build-below", "sha256:below")
        above = snapshots.prepare("build-above", "sha256:below")
        apply(above, entry("d/" * 1900 + ".wh.f"), entry("d/.wh..wh..opq"))
        for name in ("build-above", "sha256:below"):
            snapshots.remove(name)


class TestUnpack:
    def test_of_a_hostile_image_leaves_no_snapshot(self, space: Path, snapshots: Snapshots) -> None:
        with ContentStore.open(space / "root") as store:
            content = archive(entry("a"), entry("../evil"))
            layer = Descriptor(MediaType.OCI_LAYER, store.put(content), len(content))
            manifest = Manifest(MediaType.OCI_MANIFEST, Descriptor(MediaType.OCI_CONFIG, layer.digest, 0), (layer,))
            config = ImageConfig(native(), rootfs=RootFs((Digest.of(content),)))
            with pytest.raises(LayerError):
                unpack_image(store, snapshots, manifest, config)
        assert not snapshots.exists(str(Digest.of(content)))
        assert not [name for name in os.listdir(snapshots.root) if name.isdecimal()]
