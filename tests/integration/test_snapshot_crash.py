"""Whatever line a process dies at, each committed snapshot is whole, and nothing else is left after a sweep."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import builder.snapshots.snapshots
from builder.snapshots import Snapshots

SOURCE = Path(builder.snapshots.snapshots.__file__).read_text()
POINTS = sorted(set(re.findall(r'crash_point\("([^"]+)"\)', SOURCE)))

WRITER = """
import sys
from pathlib import Path
from builder.snapshots import Snapshots
snapshots = Snapshots(sys.argv[1])
for name, parent in (("sha256:a", None), ("sha256:b", "sha256:a"), ("sha256:a", None)):
    active = snapshots.prepare("build-" + name, parent)
    (Path(active.upper) / "file").write_text(name)
    snapshots.commit(active.key, name)
snapshots.prepare("build-dropped", "sha256:b")
snapshots.remove("build-dropped")
"""


@pytest.fixture
def root() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def numbers(root: Path) -> set[str]:
    return {name for name in os.listdir(root / "snapshots") if name.isdecimal()}


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_whole_snapshots_and_nothing_else(root: Path, point: str) -> None:
    dying = {**os.environ, "PYBUILD_CRASH_AT": point}
    died = subprocess.run([sys.executable, "-c", WRITER, root], check=False, env=dying)
    assert died.returncode == -signal.SIGKILL
    with Snapshots(root) as snapshots:
        snapshots.sweep()
        committed = [name for name in ("sha256:a", "sha256:b") if snapshots.exists(name)]
        for name in committed:
            assert (Path(snapshots.view(name)[0]) / "file").read_text() == name
        assert len(numbers(root)) == len(committed)
    subprocess.run([sys.executable, "-c", WRITER, root], check=True)
    with Snapshots(root) as snapshots:
        assert snapshots.exists("sha256:b")
        assert len(numbers(root)) == 2


def test_there_are_points_to_die_at() -> None:
    assert len(POINTS) >= 7
