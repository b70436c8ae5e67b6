"""Cache mounts out of one state root and into another, as CI does it."""

import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.cache.mounts import cache_mounts, held, mount_name, mounts_directory
from builder.cache.transfer import Port, export_mounts, import_mounts
from builder.errors import BuilderError


class Caches:
    """The cache mounts of one state root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[str] = []

    def path(self, mount_id: str) -> Path:
        return mounts_directory(self.root) / mount_name(mount_id)

    def fill(self, mount_id: str, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            file = self.path(mount_id) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def read(self, mount_id: str) -> dict[str, str]:
        top = self.path(mount_id)
        return {str(file.relative_to(top)): file.read_text() for file in sorted(top.rglob("*")) if file.is_file()}

    def export(self, *ports: Port, used: tuple[str, ...] = ()) -> None:
        export_mounts(self.root, ports, used, self.told.append)

    def take(self, *ports: Port) -> None:
        import_mounts(self.root, ports, self.told.append)


@pytest.fixture
def old(ram_path: Path) -> Caches:
    return Caches(ram_path / "old")


@pytest.fixture
def new(ram_path: Path) -> Caches:
    return Caches(ram_path / "new")


@pytest.mark.parametrize("name", ["pip.tar", "pip.tar.gz", "pip.tar.zst"])
def test_one_cache_goes_through_a_file(old: Caches, new: Caches, ram_path: Path, name: str) -> None:
    old.fill("pip", {"wheels/a.whl": "a" * 10_000, "b": ""})
    os.chown(old.path("pip") / "b", 1000, 1001)
    os.chmod(old.path("pip") / "b", 0o640)
    port = Port("pip", ram_path / name)
    old.export(port)
    new.take(port)
    assert new.read("pip") == {"b": "", "wheels/a.whl": "a" * 10_000}
    found = os.stat(new.path("pip") / "b")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1001, 0o640)
    assert [(mount.id, mount.path) for mount in cache_mounts(new.root)] == [("pip", new.path("pip"))]


def test_all_caches_of_a_build_go_through_a_directory(old: Caches, new: Caches, ram_path: Path) -> None:
    for mount_id in ("/root/.cache/pip", "/root/.cache/go", "of another build"):
        old.fill(mount_id, {"id": mount_id})
    old.export(Port("", ram_path / "ci"), used=("/root/.cache/pip", "/root/.cache/go", "/root/.cache/pip"))
    new.take(Port("", ram_path / "ci"))
    assert new.read("/root/.cache/pip") == {"id": "/root/.cache/pip"}
    assert new.read("/root/.cache/go") == {"id": "/root/.cache/go"}
    assert not new.path("of another build").exists()


def test_one_of_a_directory_can_be_chosen(old: Caches, new: Caches, ram_path: Path) -> None:
    old.fill("a", {"x": "1"})
    old.fill("b", {"x": "2"})
    old.export(Port("a", ram_path / "ci"))
    old.export(Port("b", ram_path / "ci"))
    new.take(Port("b", ram_path / "ci"))
    assert new.read("b") == {"x": "2"}
    assert not new.path("a").exists()


def test_what_is_imported_takes_the_place_of_what_is_there(old: Caches, new: Caches, ram_path: Path) -> None:
    old.fill("pip", {"new": "1"})
    new.fill("pip", {"stale": "1"})
    port = Port("pip", ram_path / "pip.tar.zst")
    old.export(port)
    new.take(port)
    assert new.read("pip") == {"new": "1"}
    assert sorted(os.listdir(mounts_directory(new.root))) == [mount_name("pip"), f"{mount_name('pip')}.lock"]


def test_a_first_run_has_no_caches_and_says_so(new: Caches, ram_path: Path) -> None:
    new.take(Port("pip", ram_path / "pip.tar.zst"), Port("", ram_path / "ci"), Port("go", ram_path / "ci"))
    new.export(Port("pip", ram_path / "pip.tar.zst"), Port("", ram_path / "ci"))
    assert new.told == [
        f"no cache mount 'pip' in {ram_path}/pip.tar.zst yet",
        f"no caches in {ram_path}/ci yet",
        f"no cache mount 'go' in {ram_path}/ci yet",
        f"no cache mount 'pip' to write to {ram_path}/pip.tar.zst: it was never used",
        f"no cache mount to write to {ram_path}/ci: no step has one",
    ]
    assert cache_mounts(new.root) == []


def test_a_cache_is_not_read_while_a_step_uses_it(old: Caches, ram_path: Path) -> None:
    old.fill("pip", {"x": "1"})
    place = ram_path / "pip.tar"
    exporting = threading.Thread(target=old.export, args=(Port("pip", place),))
    with held(old.path("pip"), wait=True, shared=True):
        exporting.start()
        exporting.join(0.1)
        assert exporting.is_alive()
        assert not place.exists()
    exporting.join(10)
    assert place.exists()


def archive(place: Path, *members: tarfile.TarInfo, content: bytes = b"") -> None:
    with tarfile.open(place, "w") as made:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            made.addfile(member, io.BytesIO(content))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    "members",
    [
        [member("../../escaped")],
        [member("dir", tarfile.SYMTYPE, "../.."), member("dir/../../../escaped")],
        [member("null", tarfile.CHRTYPE)],
        [member("disk", tarfile.BLKTYPE)],
        [member("passwd", tarfile.LNKTYPE, "../../../../etc/passwd")],
    ],
)
def test_a_hostile_archive_is_refused_and_what_was_there_stays(
    new: Caches, ram_path: Path, members: list[tarfile.TarInfo]
) -> None:
    new.fill("pip", {"mine": "1"})
    archive(ram_path / "bad.tar", *members)
    before = sorted(os.listdir(ram_path))
    with pytest.raises(BuilderError, match=r"bad\.tar"):
        new.take(Port("pip", ram_path / "bad.tar"))
    assert new.read("pip") == {"mine": "1"}
    assert sorted(os.listdir(ram_path)) == before
    assert sorted(os.listdir(mounts_directory(new.root))) == [mount_name("pip"), f"{mount_name('pip')}.lock"]


def test_a_link_out_of_the_cache_writes_nothing_outside(new: Caches, ram_path: Path) -> None:
    (ram_path / "outside").mkdir()
    archive(ram_path / "bad.tar", member("out", tarfile.SYMTYPE, str(ram_path / "outside")), member("out/file"))
    new.take(Port("pip", ram_path / "bad.tar"))
    assert os.listdir(ram_path / "outside") == []


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100])
def test_what_is_no_archive_is_refused(new: Caches, ram_path: Path, content: bytes) -> None:
    (ram_path / "bad.tar.zst").write_bytes(content)
    with pytest.raises(BuilderError, match="can't read the cache mount"):
        new.take(Port("pip", ram_path / "bad.tar.zst"))
    assert cache_mounts(new.root) == []


@pytest.mark.parametrize("index", ["{", "[]", '{"caches": 5}', json.dumps({"caches": {"pip": "../elsewhere.tar"}})])
def test_a_bad_index_is_refused(new: Caches, ram_path: Path, index: str) -> None:
    (ram_path / "ci").mkdir()
    (ram_path / "ci" / "caches.json").write_text(index)
    with pytest.raises(BuilderError, match=r"caches\.json"):
        new.take(Port("", ram_path / "ci"))
