"""A root filesystem to copy into: an overlay mount as a build has it, on tmpfs, gone when the test ends."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from builder.ops.copy import Copied, CopyRequest, Fetched, Inline, Source, copy_into
from builder.snapshots import Snapshots
from runner.kernel.mounts import overlay_tree

Tree = dict[str, str]


@dataclass
class Rootfs:
    """`fd` is the mounted tree, `below` the base image's directory (fill it first), `upper` what the copy changed."""

    fd: int
    upper: Path

    def __truediv__(self, path: str) -> Path:
        return Path(f"/proc/self/fd/{self.fd}") / path

    def tree(self, top: str = ".") -> Tree:
        return tree(self / top)


def tree(top: Path) -> Tree:
    """Everything below a directory: contents of files, targets of links, "/" for directories."""
    found: Tree = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = Path(directory, name)
            relative = str(path.relative_to(top))
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[relative] = f"-> {path.readlink()}"
            elif stat.S_ISREG(mode):
                found[relative] = path.read_text()
            else:
                found[relative] = "/" if stat.S_ISDIR(mode) else "special"
    return found


@pytest.fixture
def space() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def base(space: Path) -> Path:
    """What the image below holds: fill it before asking for `rootfs`."""
    directory = space / "base"
    directory.mkdir()
    return directory


@pytest.fixture
def context(space: Path) -> Path:
    directory = space / "context"
    directory.mkdir()
    return directory


@pytest.fixture
def rootfs(space: Path, base: Path) -> Iterator[Rootfs]:
    with Snapshots(space) as snapshots:
        active = snapshots.prepare("build-test", None)
        fd = overlay_tree((str(base),), active.upper, active.work)
        try:
            yield Rootfs(fd, Path(active.upper))
        finally:
            os.close(fd)


Copy = Callable[..., Copied]


@pytest.fixture
def copy(rootfs: Rootfs, context: Path) -> Iterator[Copy]:
    """`copy("a", "b", to="/dst/", chown=…)` as `COPY a b /dst/` does; `source=dict(…)` adds to every Source."""
    root = os.open(context, os.O_PATH | os.O_DIRECTORY)

    def run(
        *sources: str | Source | Inline | Fetched, to: str, source: dict[str, object] | None = None, **words: object
    ) -> Copied:
        given = tuple(
            Source(root, word, **(source or {})) if isinstance(word, str) else word  # type: ignore[arg-type]  # a test's shorthand
            for word in sources
        )
        return copy_into(rootfs.fd, CopyRequest(given, to, **words))  # type: ignore[arg-type]  # the same

    yield run
    os.close(root)
