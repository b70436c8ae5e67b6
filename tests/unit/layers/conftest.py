"""A store, snapshots and archives made by Python's own tarfile, which shares no code with ours."""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from builder.layers import apply_layer
from builder.snapshots import Snapshot, Snapshots
from registry.storage import ContentStore
from runner.kernel.mounts import overlay_tree

Member = tuple[str, str | bytes | None] | tarfile.TarInfo


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive(*members: str | tuple[str, str] | tarfile.TarInfo, shape: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar: "dir/" is a directory, "name" an empty file, (name, text) a file, a TarInfo itself."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=shape) as tar:
        for given in members:
            if isinstance(given, tarfile.TarInfo):
                tar.addfile(given, io.BytesIO(b"x" * given.size) if given.size else None)
            elif isinstance(given, tuple):
                content = given[1].encode()
                tar.addfile(member(given[0], size=len(content)), io.BytesIO(content))
            elif given.endswith("/"):
                tar.addfile(member(given.rstrip("/"), tarfile.DIRTYPE))
            else:
                tar.addfile(member(given))
    return out.getvalue()


def tree(top: Path | str) -> dict[str, str]:
    """Everything below a directory: contents of files, targets of links, "/" for directories."""
    found: dict[str, str] = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                text = f"-> {path.readlink()}"
            elif stat.S_ISREG(mode):
                text = path.read_text()
            else:
                text = "/" if stat.S_ISDIR(mode) else "special"
            found[str(path.relative_to(top))] = text
    return found


@pytest.fixture
def space() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def store(space: Path) -> Iterator[ContentStore]:
    with ContentStore.open(space) as found:
        yield found


@pytest.fixture
def snapshots(space: Path) -> Iterator[Snapshots]:
    with Snapshots(space) as found:
        yield found


@pytest.fixture
def active(snapshots: Snapshots) -> Snapshot:
    return snapshots.prepare("build-active", None)


class Image:
    """Layers one over the other; `tree()` is what a container would see."""

    def __init__(self, snapshots: Snapshots) -> None:
        self.snapshots = snapshots
        self.top: str | None = None
        self._count = 0

    def add(self, *members: str | tuple[str, str] | tarfile.TarInfo, raw: bytes | None = None) -> Snapshot:
        self._count += 1
        snapshot = self.snapshots.prepare(f"build-{self._count}", self.top)
        apply_layer(io.BytesIO(archive(*members) if raw is None else raw), snapshot)
        self.top = f"sha256:{self._count}"
        self.snapshots.commit(snapshot.key, self.top)
        return snapshot

    def tree(self) -> dict[str, str]:
        return self.look(tree)

    def look(self, at: Callable[[Path], dict[str, str]]) -> dict[str, str]:
        fd = overlay_tree((*self.snapshots.view(self.top), *self.snapshots.view(None)))
        try:
            return at(Path(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)


@pytest.fixture
def image(snapshots: Snapshots) -> Image:
    return Image(snapshots)


@pytest.fixture
def overlay(snapshots: Snapshots) -> Iterator[Callable[[Snapshot], Path]]:
    """Mount an active snapshot, as a step of a build has it."""
    mounted: list[int] = []

    def mount(snapshot: Snapshot) -> Path:
        mounted.append(overlay_tree(snapshot.lower, snapshot.upper, snapshot.work))
        return Path(f"/proc/self/fd/{mounted[-1]}")

    yield mount
    for fd in mounted:
        os.close(fd)
