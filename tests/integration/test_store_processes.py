"""Several processes on one root at once: same content, other content, tags, and a collector in between."""

import os
import subprocess
import sys
from pathlib import Path

import registry
from registry.model import Digest
from registry.storage import ContentStore

PROGRAM = """
import sys
from pathlib import Path
from registry.model import Descriptor, Digest, Index, MediaType
from registry.storage import ContentStore

root, me = Path(sys.argv[1]), sys.argv[2]
with ContentStore.open(root) as store:
    for turn in range(20):
        shared, own = b"shared %d" % (turn % 4), f"own {me} {turn}".encode()
        with store.lease() as lease:
            listed = tuple(
                Descriptor(MediaType.OCI_LAYER, store.put(content, lease=lease), len(content))
                for content in (shared, own)
            )
            content = Index(MediaType.OCI_INDEX, listed).to_bytes()
            store.put_manifest("app", content, MediaType.OCI_INDEX, tags=[me, "contested"], adopt=True)
        if turn % 5 == 4:
            store.collect(grace_seconds=0, untagged_seconds=0)
"""


def run_all(root: Path, names: list[str], program: str = PROGRAM) -> None:
    """All at once, from the making of the root on."""
    environment = {**os.environ, "PYTHONPATH": str(Path(registry.__file__).parent.parent)}
    running = [
        subprocess.Popen([sys.executable, "-c", program, root, name], env=environment, stderr=subprocess.PIPE)
        for name in names
    ]
    for process in running:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint.decode()


def test_nobody_loses_anything(ram_path: Path) -> None:
    names = ["one", "two", "three", "four"]
    run_all(ram_path / "root", names)
    with ContentStore.open(ram_path / "root") as store:
        assert store.tags("app") == sorted([*names, "contested"])
        last = {store.manifest("app", name).digest for name in names}
        assert store.manifest("app", "contested").digest in last
        for name in names:
            assert store.read(Digest.of(f"own {name} 19".encode()))
        store.collect(grace_seconds=0, untagged_seconds=0)
        kept = {Digest.of(b"shared 3"), *(Digest.of(f"own {name} 19".encode()) for name in names)}
        assert {path.name for path in (ram_path / "root").glob("blobs/sha256/*/*")} == {each.encoded for each in kept}
        assert os.listdir(ram_path / "root" / "uploads") == []


def test_a_store_that_is_opened_twice_in_a_process_stays_locked_against_others(ram_path: Path) -> None:
    """POSIX locks go when a process closes any descriptor of the file, so nobody but SQLite may open it."""
    root = ram_path / "root"
    with ContentStore.open(root) as store:
        store.cache_put(Digest.of(b"before"), b"1")
        ContentStore.open(root).close()
        run_all(root, ["other"])  # when it leaves it would take the log along, if it thought to be the last one
        store.cache_put(Digest.of(b"after"), b"2")
        program = (
            "import sys\nfrom pathlib import Path\nfrom registry.model import Digest\n"
            "from registry.storage import ContentStore\n"
            "with ContentStore.open(Path(sys.argv[1])) as store:\n"
            "    assert store.cache_get(Digest.of(b'after')) == b'2'\n"
        )
        run_all(root, ["reader"], program)
