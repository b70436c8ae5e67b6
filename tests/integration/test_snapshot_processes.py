"""Several processes that prepare, commit, view, remove and sweep at once never see or leave half a snapshot."""

import os
import subprocess
import sys
from pathlib import Path

from builder.snapshots import Snapshots

WORKER = """
import random, sys
from pathlib import Path
from builder.errors import SnapshotError
from builder.snapshots import Snapshots

root, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
names = [f"sha256:{number}" for number in range(8)]
snapshots = Snapshots(root)
committed = 0
for turn in range(60):
    try:
        parent = random.choice([None, *filter(snapshots.exists, names)])
        active = snapshots.prepare(f"build-{seed}-{turn}", parent)
        for directory in active.lower[:-1] if parent is None else active.lower:
            assert (Path(directory) / "file").read_text() == "whole"
        (Path(active.upper) / "file").write_text("whole")
        if random.random() < 0.7:
            snapshots.commit(active.key, random.choice(names))
            committed += 1
        else:
            snapshots.remove(active.key)
        if random.random() < 0.3:
            snapshots.sweep(lambda name: random.random() < 0.7, idle_seconds=0)
        if random.random() < 0.1:
            snapshots.remove(random.choice(names))
    except SnapshotError as error:
        # what the others do may come between a look and the deed, but then the answer says so
        if "in use" not in str(error) and "there is no snapshot" not in str(error):
            raise
assert committed, "nobody did what is tested"
"""


def test_many_at_once(ram_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", WORKER, ram_path, str(seed)]) for seed in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    with Snapshots(ram_path) as snapshots:
        snapshots.sweep()
        present = [name for name in os.listdir(snapshots.root) if name.isdecimal()]
        committed = [name for name in (f"sha256:{number}" for number in range(8)) if snapshots.exists(name)]
        assert len(present) == len(committed)  # none, if the last ones swept all
        for name in present:
            assert (snapshots.root / name / "fs" / "file").read_text() == "whole"
