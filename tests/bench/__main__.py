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
ROW_SECONDS = 90.0  # a row that took longer begins no further round
# how many times better than the best peer of the same run a row is meant to be, by the beginning of its name
TARGETS = {
    "B1s": 3.0, "B1 ": 2.8, "B2": 3.9, "B3 large file to oci-gzip": 4.5, "B3 large file to oci-zstd": 2.9, "B4": 1.12,
    "B5": 1.6, "R5": 5.0, "P1b": 3.2, "P1 ": 1.5, "P2": 2.5, "P3": 2.9, "R1 run --network none": 5.5, "R1 run": 8.0,
    "R3": 4.0, "G1 GET manifest": 2.0, "G1 GET 4 KiB": 10.0, "G1 GET 64 MiB": 1.0, "G1 PUT": 6.0, "G1 tags, all": 2.6,
    "G1 tags, n=100": 12.0,
}  # fmt: skip


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
                target = next((found for name, found in TARGETS.items() if row.startswith(name)), None)
                ratio += f" (target {target:g}x)" if target is not None else ""
            sys.stdout.write(f"{row:28} {unit:6} {cells}{ratio}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", default="start,parse,B1s,B1,B2,B4,B5,R5,B3,P1,P1b,P2,P3,M,R1,R3,G1")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=25, help="rows that would begin later are left out")
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
    ends = time.monotonic() + 60 * options.minutes
    wanted = options.rows.split(",")
    peers = [PEERS[name](work / name) for name in options.peers.split(",")]
    try:
        peers = [peer for peer in peers if _up(peer, work)]
        for row in wanted:
            if row in ROWS and time.monotonic() < ends:
                ROWS[row](table, peers, made, runs)
            elif row in ROWS:
                sys.stderr.write(f"left out: {row}: the {options.minutes:g} minutes are over\n")
        if "G1" in wanted and time.monotonic() < ends:
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
    began = time.monotonic()
    for _ in range(runs):
        if time.monotonic() - began > ROW_SECONDS:
            return
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


def build_and_push(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """From nothing to the registry, which is fair to those who compress when they push."""
    for number, peer in enumerate(turns(peers, runs, "cold", "push")):
        home = peer.home / f"registry-cold-{number}"
        with registries.distribution(home, REGISTRY):
            took = peer.time("cold", tag="bench/large:1", base=BASE, context=made["large"])
            took += peer.time("push", tag="bench/large:1", to=f"{REGISTRY}/large:1")
            table.put("P1b cold build and push", peer.name, took, "s")
        shutil.rmtree(home)


def memory(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """The largest process of a cold build over the size of a layer and over the number of its files."""
    del runs
    size, count = (made["big"] / "big.bin").stat().st_size, sum(1 for _ in made["files"].glob("site/*/*"))
    contexts.mixed_file(
        contexts.empty(made["big"].parent / "big-16th", "FROM scratch\nCOPY big.bin /\n") / "big.bin", size // 16
    )
    for name, files in (("tenth", count // 10), ("tenfold", count * 10)):
        contexts.source_tree(
            contexts.empty(made["files"].parent / name, "FROM scratch\nCOPY site /site\n") / "site", files
        )
    shown = [("big-16th", f"{size >> 24} MiB"), ("big", f"{size >> 20} MiB")]
    shown += [("tenth", f"{count // 10} files"), ("tenfold", f"{count * 10} files")]
    for name, what in shown:
        for peer in turns([peer for peer in peers if not peer.daemon], 1, "cold"):
            peak = peer.peak("cold", tag=f"bench/{name}:1", base=BASE, context=made["big"].parent / name)
            table.put(f"M peak memory, {what}", peer.name, peak, "MiB")


def push(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
    """A new tag and its four large layers to an empty Debian registry, for everybody the same one."""
    for peer in turns(peers, 1, "push"):
        peer.time("build", tag="bench/large:1", base=BASE, context=made["large"])
    for attempt in range(runs):
        for peer in turns(peers, 1, "push"):
            with registries.distribution(peer.home / f"registry-{attempt}", REGISTRY):
                table.put("P1 push", peer.name, peer.time("push", tag="bench/large:1", to=f"{REGISTRY}/large:1"), "s")
            shutil.rmtree(peer.home / f"registry-{attempt}")


def pull(name: str, context: str) -> Row:
    """Fetch an image and start it once: includes unpacking, for everybody."""

    def row(table: Table, peers: list[Peer], made: dict[str, Path], runs: int) -> None:
        home = peers[0].home.parent
        maker = PEERS["pybuild"](home / "maker")
        maker.time("build", tag=f"bench/{context}:1", base=BASE, context=made[context])
        with registries.distribution(home / f"registry-pull-{context}", REGISTRY):
            image = f"{REGISTRY}/{context}:1"
            maker.time("push", tag=f"bench/{context}:1", to=image)
            for number, peer in enumerate(turns(peers, runs, "pull")):
                # Ours keeps layers for a while after they are forgotten, so each turn gets a state root that is new.
                root = peer.home / f"pull-{context}-{number}"
                fresh = Peer(peer.name, peer.home, peer.operations, {**peer.env, "PYBUILD_ROOT": str(root)})
                table.put(name, peer.name, fresh.time("pull", image=image), "s")
                fresh.time("forget", image=image)
                shutil.rmtree(root, ignore_errors=True)

    return row


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
    "P1b": build_and_push,
    "P2": pull("P2 pull of 1 GiB and first run", "large"),
    "P3": pull("P3 pull of 30k files and first run", "many"),
    "M": memory,
}

if __name__ == "__main__":
    raise SystemExit(main())
