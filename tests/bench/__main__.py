"""`make bench`: ourselves beside the peers in the same run, as whole client commands.

Peers take turns within each run (A B C A B C …), so that a drift of the machine hits all alike. Everything happens in
network and mount namespaces of its own, on a new journaled file system: on ext4 without a journal creating files slows
down after deletes, which would measure the order of the rows.

    python -m tests.bench [--rows start,B1,R1,…] [--runs N] [--quick] [--out FILE]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import contexts, registries
from tests.bench.peers import PEERS, REGISTRY, Peer, Unavailable
from tests.interop.peers import remove_cgroups

INSIDE = "PYBUILD_BENCH_DIR"


@dataclass
class Table:
    """Measured values: row → peer → values; `higher` for rows where more is better."""

    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def put(self, row: str, peer: str, value: float, unit: str) -> None:
        self.rows.setdefault(row, {}).setdefault(peer, []).append(value)
        self.units[row] = unit
        sys.stderr.write(f"{row:28} {peer:16} {value:10.4g} {unit}\n")

    def print(self) -> None:
        for row, values in self.rows.items():
            unit = self.units[row]
            better: Callable[[Iterable[float]], float] = max if unit.endswith("/s") else min
            medians = {peer: statistics.median(found) for peer, found in values.items()}
            others = [median for peer, median in medians.items() if peer != "pybuild"]
            cells = "   ".join(
                f"{peer} {medians[peer]:.4g} [{min(found):.4g}-{max(found):.4g}]" for peer, found in values.items()
            )
            ratio = ""
            if "pybuild" in medians and others:
                best = better(others)
                times = medians["pybuild"] / best if better is max else best / medians["pybuild"]
                ratio = f"   = {times:.2f}x the best peer"
            sys.stdout.write(f"{row:28} {unit:6} {cells}{ratio}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", default="start,parse,B1s,B1,B2,B4,B5,R5,B3,R1,R3,P1,P2,G1")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: shows that it works")
    parser.add_argument("--out", type=Path, help="also write the values as JSON")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        return _in_a_sandbox()
    work = Path(os.environ[INSIDE])
    runs = 1 if options.quick else options.runs
    sizes = {"files": 500, "big": 16 << 20} if options.quick else {"files": 10_000, "big": 1 << 30}
    made = contexts.prepare(work / "contexts", **sizes)
    table = Table()
    wanted = options.rows.split(",")
    peers = [PEERS[name](work / name) for name in options.peers.split(",")]
    try:
        peers = [peer for peer in peers if _up(peer, work)]
        for row in wanted:
            if row in ROWS:
                ROWS[row](table, peers, made, runs)
        if "G1" in wanted:
            registries.measure(table.put, work, runs, quick=options.quick)
    finally:
        for peer in peers:
            peer.down()
        for name in ("docker", "libpod_parent"):
            remove_cgroups(name)
    table.print()
    if options.out:
        options.out.write_text(json.dumps(table.rows, indent=1))
    return 0


def _in_a_sandbox() -> int:
    """Run this program again in namespaces of its own, on a loop-mounted file system that goes with them."""
    top = Path(tempfile.mkdtemp(prefix="pybuild-bench-", dir="/var/tmp"))
    script = (
        "umount /sys/fs/cgroup/unified 2>/dev/null || true; ip link set lo up\n"
        'truncate -s 40G "$1.img"; mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$1.img"\n'
        'loop=$(losetup --find --show "$1.img"); mount "$loop" "$1"; losetup -d "$loop"; rm -f "$1.img"\n'
        'shift; exec "$@"\n'
    )
    again = [sys.executable, "-m", "tests.bench", *sys.argv[1:]]
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(top), *again]
    try:
        return subprocess.run(command, env={**os.environ, INSIDE: str(top)}, check=False).returncode
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _up(peer: Peer, work: Path) -> bool:
    """Start a peer and give it the base image, which we make ourselves."""
    archive = work / "base.tar"
    try:
        if not archive.exists():
            ours = PEERS["pybuild"](work / "maker")
            contexts.busybox(work / "busybox")
            ours.time("build", tag="bench/base:1", base="none", context=work / "busybox")
            ours.operations["save"] = f"{Path(sys.executable).with_name('pybuild')} save -o {{out}} bench/base:1"
            ours.time("save", out=archive)
        peer.up()
        peer.time("load", archive=archive)
    except (Unavailable, RuntimeError) as error:
        sys.stderr.write(f"left out: {error}\n")
        return False
    return True


BASE = "bench/base:1"
Row = Callable[[Table, list[Peer], dict[str, Path], int], None]


def turns(peers: list[Peer], runs: int, *operations: str) -> Iterable[Peer]:
    """Each peer that can do it, one after the other, `runs` times; what is dirty is written out before each."""
    for _ in range(runs):
        for peer in peers:
            if peer.can(*operations):
                os.sync()
                yield peer


def start(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """The command line's own cost: `pybuild --version` beside an interpreter that does nothing."""
    del peers, made
    command = Path(sys.executable).with_name("pybuild")
    lines = {
        "pybuild": f"{command} --version",
        "python -I -c pass": f"{sys.executable} -I -c pass",
        "docker --version": "/usr/bin/docker --version",
        "podman --version": "podman --version",
    }
    for _ in range(5 * runs):
        for name, line in lines.items():
            table.put("start: --version", name, 1e3 * Peer(name, Path(), {"it": line}).time("it"), "ms")


def parse(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """The parser alone, once it is loaded; no peer lets this part be timed by itself."""
    del peers, made
    from builder.dockerfile import parse_dockerfile

    content = Path("Containerfiles/pybuild/Dockerfile").read_bytes()
    parse_dockerfile(content)
    for _ in range(20 * runs):
        start = time.perf_counter()
        parse_dockerfile(content)
        table.put(f"parse {content.count(bytes([10]))} lines", "pybuild", 1e3 * (time.perf_counter() - start), "ms")


def cached(name: str, context: str) -> Row:
    def row(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
        for peer in turns(peers, 2, "build"):
            peer.time("build", tag=f"bench/{context}:1", base=BASE, context=made[context])
        for peer in turns(peers, runs, "build"):
            took = peer.time("build", tag=f"bench/{context}:1", base=BASE, context=made[context])
            table.put(name, peer.name, took, "s")

    return row


def cold(name: str, context: str) -> Row:
    def row(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
        for peer in turns(peers, runs, "cold"):
            took = peer.time("cold", tag=f"bench/{context}:1", base=BASE, context=made[context])
            table.put(name, peer.name, took, "s")

    return row


def run_step(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """What one more RUN costs: a build with 21 of them less a build with one, by twenty."""
    for peer in turns(peers, runs, "cold"):
        one, many = (
            peer.time("cold", tag=f"bench/{name}:1", base=BASE, context=made[name]) for name in ("one-run", "many-runs")
        )
        table.put("R5 one more RUN", peer.name, 1e3 * (many - one) / 20, "ms")


def export(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    for kind in ("oci-gzip", "oci-zstd"):
        for peer in turns(peers, runs, kind):
            out = peer.home / "image.tar"
            took = peer.time(kind, tag="bench/big:1", base=BASE, context=made["big"], out=out)
            table.put(f"B3 large file to {kind}", peer.name, took, "s")
            table.put(f"B3 size of {kind}", peer.name, out.stat().st_size / (1 << 20), "MiB")
            out.unlink()


def containers(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    del made
    for operation, label in (("run-none", "R1 run --network none"), ("run", "R1 run")):
        for peer in turns(peers, 5 * runs, operation):
            table.put(label, peer.name, 1e3 * peer.time(operation, image=BASE), "ms")


def execs(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    del made
    able = [peer for peer in peers if peer.can("run-d", "exec", "rm")]
    for peer in able:
        peer.time("run-d", name="bench-exec", image=BASE)
    for peer in turns(able, 5 * runs, "exec"):
        table.put("R3 exec", peer.name, 1e3 * peer.time("exec", name="bench-exec"), "ms")
    for peer in able:
        peer.time("rm", name="bench-exec")


def push(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """A new tag and its one large layer to an empty Debian registry, for everybody the same one."""
    for peer in turns(peers, 1, "push"):
        peer.time("build", tag="bench/big:1", base=BASE, context=made["big"])
    for attempt in range(runs):
        for peer in turns(peers, 1, "push"):
            with registries.distribution(peer.home / f"registry-{attempt}", REGISTRY):
                table.put("P1 push", peer.name, peer.time("push", tag="bench/big:1", to=f"{REGISTRY}/big:1"), "s")
            shutil.rmtree(peer.home / f"registry-{attempt}")


def pull(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """Fetch an image with many small files and start it once: includes unpacking, for everybody."""
    home = peers[0].home.parent
    maker = PEERS["pybuild"](home / "maker")
    maker.time("build", tag="bench/files:1", base=BASE, context=made["files"])
    with registries.distribution(home / "registry-pull", REGISTRY):
        image = f"{REGISTRY}/files:1"
        maker.time("push", tag="bench/files:1", to=image)
        for number, peer in enumerate(turns(peers, runs, "pull")):
            # Ours keeps layers for a while after they are forgotten, so each turn gets a state root that is new.
            env = {**peer.env, "PYBUILD_ROOT": str(peer.home / f"pull-{number}")}
            fresh = Peer(peer.name, peer.home, peer.operations, env)
            table.put("P2 pull and first run", peer.name, fresh.time("pull", image=image), "s")
            fresh.time("forget", image=image)


ROWS: dict[str, Row] = {
    "start": start,
    "parse": parse,
    "B1s": cached("B1s cached, one file", "small"),
    "B1": cached("B1 cached, 10k files", "files"),
    "B2": cold("B2 cold, 10k files, 5 RUN", "files"),
    "B4": cold("B4 four stages of 2 s", "stages"),
    "B5": cold("B5 RUN makes 20k files", "made"),
    "R5": run_step,
    "B3": export,
    "R1": containers,
    "R3": execs,
    "P1": push,
    "P2": pull,
}

if __name__ == "__main__":
    raise SystemExit(main())
