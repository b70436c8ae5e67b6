"""Where contexts come from, and the Dockerfile that goes with them."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from builder.errors import ContextError
from builder.ops.context import Context

Make = Callable[[Mapping[str, str]], Path]


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return found.getvalue()


def member(name: str, content: str = "", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content.encode()


DOCKERFILE = member("Dockerfile", "FROM scratch\n")


def opened(data: bytes, room: Path, dockerfile: str | None = None) -> Context:
    return Context.open("-", stdin=io.BytesIO(data), temporary=room, dockerfile=dockerfile)


def refused(data: bytes, room: Path) -> str:
    with pytest.raises(ContextError) as caught:
        opened(data, room)
    assert list(room.iterdir()) == [], "something was left behind"
    return str(caught.value)


class TestDirectory:
    def test_usual_names_in_order(self, make: Make) -> None:
        root = make({"dockerfile": "FROM b\n", "Containerfile": "FROM c\n"})
        for name in ("Dockerfile", "dockerfile", "Containerfile"):
            with Context.open(str(root)) as context:
                assert context.dockerfile is not None
                assert context.dockerfile.name == name
            (root / name).unlink()
        with pytest.raises(ContextError, match="no Dockerfile"):
            Context.open(str(root))

    def test_another_file_inside(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        root = make({"docker/web": "FROM web\n"})
        with Context.open(str(root), dockerfile=str(root / "docker/web")) as context:
            assert context.dockerfile == (b"FROM web\n", str(root / "docker/web"))
        monkeypatch.chdir(root)
        for written in ("docker/web", "./docker/../docker/web"):
            with Context.open(".", dockerfile=written) as context:
                assert context.dockerfile == (b"FROM web\n", written)

    def test_counts_from_the_context_when_not_here(self, make: Make) -> None:
        with Context.open(str(make({"docker/web": "FROM web\n"})), dockerfile="docker/web") as context:
            assert context.dockerfile == (b"FROM web\n", "docker/web")

    def test_a_file_outside(self, make: Make, room: Path) -> None:
        (room / "else").write_text("FROM else\n")
        with Context.open(str(make({})), dockerfile=str(room / "else")) as context:
            assert context.dockerfile == (b"FROM else\n", str(room / "else"))

    def test_the_default_is_no_way_out(self, make: Make, room: Path) -> None:
        root = make({})
        (room / "secret").write_text("FROM secret\n")
        (root / "Dockerfile").unlink()
        (root / "Dockerfile").symlink_to("../secret")
        with pytest.raises(ContextError, match="no Dockerfile"):
            Context.open(str(root))

    def test_dockerfile_on_standard_input(self, make: Make) -> None:
        root = make({"a": ""})
        with Context.open(str(root), dockerfile="-", stdin=io.BytesIO(b"FROM x\n")) as context:
            assert context.dockerfile == (b"FROM x\n", "Dockerfile")
            assert [entry.path for entry in context.entries("a")] == ["a"]

    def test_what_is_not_there_or_no_context(self, make: Make, room: Path) -> None:
        root = make({})
        with pytest.raises(ContextError, match="No such file") as caught:
            Context.open(str(room / "contex"))
        assert caught.value.hint == f"did you mean {root}?"
        with pytest.raises(ContextError, match="neither a directory nor an archive") as caught:
            Context.open(str(root / "Dockerfile"))
        assert "-f" in (caught.value.hint or "")
        with pytest.raises(ContextError, match="is a directory"):
            Context.open(str(root), dockerfile=str(room))

    def test_directory_given_by_name_has_rules_but_no_dockerfile(self, make: Make) -> None:
        root = make({".dockerignore": "a\n", "a": "", "b": ""})
        (root / "Dockerfile").unlink()
        with Context.directory(str(root)) as context:
            assert context.dockerfile is None
            assert [entry.path for entry in context.entries(".")] == ["", ".dockerignore", "b"]


class TestIgnoreFile:
    def test_the_one_of_the_dockerfile_wins(self, make: Make, room: Path) -> None:
        root = make({".dockerignore": "a", "a": "", "b": "", "web": "FROM x", "web.dockerignore": "b"})
        with Context.open(str(root), dockerfile=str(root / "web")) as context:
            assert context.rules.excluded("b")
            assert not context.rules.excluded("a")
        (room / "out").write_text("FROM x")
        (room / "out.dockerignore").write_text("web")
        with Context.open(str(root), dockerfile=str(room / "out")) as context:
            assert context.rules.excluded("web")

    def test_dockerfile_and_ignore_file_may_be_left_out_themselves(self, make: Make) -> None:
        with Context.open(str(make({".dockerignore": "*"}))) as context:
            assert context.dockerfile is not None
            assert [entry.path for entry in context.entries(".")] == [""]


class TestStandardInput:
    def test_a_dockerfile_alone(self, room: Path) -> None:
        with opened(b"FROM scratch\n", room) as context:
            assert context.dockerfile == (b"FROM scratch\n", "Dockerfile")
            assert [entry.path for entry in context.entries(".")] == [""]
        assert list(room.iterdir()) == []

    @pytest.mark.parametrize(
        "pack",
        [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
        ids=["tar", "gz", "bz2", "xz", "zst"],
    )
    def test_an_archive_however_packed(self, room: Path, pack: Callable[[bytes], bytes]) -> None:
        data = archive(DOCKERFILE, member("d", type=tarfile.DIRTYPE, mode=0o750), member("d/f", "x", mode=0o640))
        with opened(pack(data), room) as context:
            directory, file = context.entries("d")
            assert (directory.mode, file.mode, file.size) == (0o750, 0o640, 1)
            assert file.mtime_ns == directory.mtime_ns == 1_600_000_000 * 10**9
        assert list(room.iterdir()) == []

    def test_a_file_is_an_archive_too(self, room: Path) -> None:
        path = room / "context.tar"
        path.write_bytes(archive(DOCKERFILE, member("web", "FROM web\n")))
        with Context.open(str(path), dockerfile="web", temporary=room) as context:
            assert context.dockerfile == (b"FROM web\n", "web")

    def test_an_archive_never_names_files_of_the_machine(self, room: Path) -> None:
        (room / "outside").write_text("FROM x\n")
        with pytest.raises(ContextError, match="no Dockerfile"):
            opened(archive(DOCKERFILE), room, str(room / "outside"))

    def test_empty_or_two_things_at_once(self, room: Path) -> None:
        assert "standard input is empty" in refused(b"", room)
        with pytest.raises(ContextError, match="-f names another one"):
            opened(b"FROM x\n", room, "other")
        with pytest.raises(ContextError, match="can't be both"):
            opened(b"", room, "-")

    def test_without_dockerfile(self, room: Path) -> None:
        assert "has no Dockerfile" in refused(archive(member("a")), room)

    def test_members_of_one_name_the_last_wins(self, room: Path) -> None:
        with opened(archive(DOCKERFILE, member("a", "1"), member("a", "22")), room) as context:
            assert context.entries("a")[0].size == 2

    def test_hard_links(self, room: Path) -> None:
        data = archive(DOCKERFILE, member("a", "1"), member("b", type=tarfile.LNKTYPE, linkname="a"))
        with opened(data, room) as context:
            assert context.entries("a")[0].inode == context.entries("b")[0].inode

    def test_a_directory_without_permissions_is_cleaned_up(self, room: Path) -> None:
        opened(archive(DOCKERFILE, member("d/x"), member("d", type=tarfile.DIRTYPE, mode=0)), room).close()
        assert list(room.iterdir()) == []


class TestHostileArchives:
    @pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x", ".."])
    def test_no_name_leads_out(self, room: Path, name: str) -> None:
        assert "leads out of its root" in refused(archive(DOCKERFILE, member(name, "x")), room)

    def test_absolute_names_count_from_the_root(self, room: Path) -> None:
        with opened(archive(DOCKERFILE, member("/etc/x", "1")), room) as context:
            assert [entry.path for entry in context.entries("etc/x")] == ["etc/x"]

    @pytest.mark.parametrize("target", ["/", "/tmp", "../../..", "/dev/shm"])
    def test_nothing_is_written_through_a_link(self, room: Path, target: str) -> None:
        data = archive(DOCKERFILE, member("l", type=tarfile.SYMTYPE, linkname=target), member("l/pybuild-escaped", "x"))
        with opened(data, room) as context:
            assert context.entries("l/pybuild-escaped")[0].size == 1  # within the context's own root
        assert not any(os.path.exists(f"{place}/pybuild-escaped") for place in ("", "/tmp", "/dev/shm", "/dev"))

    @pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "l/passwd"])
    def test_no_hard_link_leads_out(self, room: Path, target: str) -> None:
        link = member("l", type=tarfile.SYMTYPE, linkname="/etc")
        refused(archive(DOCKERFILE, link, member("h", type=tarfile.LNKTYPE, linkname=target)), room)

    @pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
    def test_no_devices(self, room: Path, kind: bytes) -> None:
        assert "is a device or FIFO" in refused(archive(DOCKERFILE, member("null", type=kind)), room)

    def test_cut_off(self, room: Path) -> None:
        data = archive(DOCKERFILE, member("a", "x" * 5000))
        assert "ends too early" in refused(data[:3000], room)
        refused(gzip.compress(data)[:-200], room)

    def test_damaged(self, room: Path) -> None:
        refused(b"\x1f\x8b\x08" + b"nonsense" * 100, room)

    def test_a_bomb(self, room: Path) -> None:
        bomb = zstandard.ZstdCompressor()
        block = bytes(1 << 20)
        info = tarfile.TarInfo("zeros")
        info.size = 100 << 30
        stream = bomb.compressobj()
        data = stream.compress(info.tobuf()) + b"".join(stream.compress(block) for _ in range(600)) + stream.flush()
        assert len(data) < 100_000
        refused(data, room)
