"""COPY --from: what comes from the layers of a mounted stage is what a container of it would see."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.ops.copy import CopyRequest, Source, copy_into
from builder.snapshots import Snapshots
from runner.kernel.mounts import overlay_tree

from .conftest import Rootfs


@pytest.fixture
def stage(space: Path) -> Iterator[Source]:
    """Two layers: the upper one removes gone, adds to d, and links two names to one file."""
    with Snapshots(space / "stage") as snapshots:
        below = snapshots.prepare("build-1", None)
        for name in ("d/a", "gone"):
            path = Path(below.upper) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        snapshots.commit("build-1", "sha256:1")
        above = snapshots.prepare("build-2", "sha256:1")
        fd = overlay_tree(above.lower, above.upper, above.work)
        mounted = Path(f"/proc/self/fd/{fd}")
        (mounted / "gone").unlink()
        (mounted / "d" / "b").write_text("b")
        os.link(mounted / "d" / "b", mounted / "d" / "c")
        os.chown(mounted / "d" / "b", 7, 8)
        os.setxattr(mounted / "d" / "b", "security.capability", bytes.fromhex("01000002" + "00040000" + "00" * 12))
        os.close(fd)
        snapshots.commit("build-2", "sha256:2")
        view = overlay_tree(snapshots.view("sha256:2"))
        yield Source(view, "/", keep_owner=True, where="the stage")
        os.close(view)


def test_whole_trees_come_without_whiteouts_and_with_links_owners_and_capabilities(
    stage: Source, rootfs: Rootfs
) -> None:
    copy_into(rootfs.fd, CopyRequest((stage,), "/x"))
    assert rootfs.tree("x") == {"d": "/", "d/a": "d/a", "d/b": "b", "d/c": "b"}
    assert not list(rootfs.upper.rglob(".wh.*"))
    found = (rootfs / "x/d/b").stat()
    assert (found.st_uid, found.st_gid, found.st_nlink) == (7, 8, 2)
    assert found.st_ino == (rootfs / "x/d/c").stat().st_ino
    assert os.getxattr(rootfs / "x/d/b", "security.capability")


def test_exclude_counts_from_the_directory_that_is_copied(stage: Source, rootfs: Rootfs) -> None:
    copy_into(rootfs.fd, CopyRequest((stage,), "/x", excludes=("d/a",)))
    assert set(rootfs.tree("x")) == {"d", "d/b", "d/c"}
