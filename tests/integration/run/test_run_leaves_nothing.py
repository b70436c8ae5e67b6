"""After `--rm` nothing remains: mounts, namespaces, control groups, interfaces, rules, directories, names, volumes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.roots import runtime_dir
from tests.integration.run.conftest import Pybuild, own_processes

GROUP = f"pybuild-test-{os.getpid()}"  # of our own: other suites may be running
IN_GROUP = ("--cgroup-parent", GROUP)
pytestmark = [pytest.mark.root, pytest.mark.net]


def directories(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if "blobs" not in path.parts} - {
        "meta.db-wal", "meta.db-shm", "snapshots/index.db-wal", "snapshots/index.db-shm"
    }  # fmt: skip


def held_namespaces(root: Path) -> list[str]:
    """Those that our processes hold open; beside them only processes of the container and mounts could."""
    return [
        link
        for process in own_processes(runtime_dir(root))
        for fd in os.listdir(f"/proc/{process}/fd")
        if ":[" in (link := os.readlink(f"/proc/{process}/fd/{fd}")) and link.startswith(("net", "mnt", "pid:", "ipc"))
    ]


def told(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def snapshot(root: Path) -> dict[str, Any]:
    return {
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root.name in line],
        "links": told("ip", "-br", "link"),
        "rules": told("nft", "list", "ruleset"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{GROUP}/*") if path.is_dir()),
        "namespaces": held_namespaces(root),
        "files": directories(root),
        "run": sorted(os.listdir(runtime_dir(root))),
    }


@pytest.fixture
def before(netns: None, pybuild: Pybuild) -> Iterator[dict[str, Any]]:
    pybuild.ok("run", *IN_GROUP, "--rm", "busybox", "true")  # what the first run of a root makes once, stays
    yield snapshot(pybuild.root)
    for group in Path("/sys/fs/cgroup").glob(f"*/{GROUP}"):
        group.rmdir()


def test_after_a_foreground_run_with_everything(before: dict[str, Any], pybuild: Pybuild) -> None:
    pybuild.ok(
        "run", *IN_GROUP, "--rm", "-p", "18080:80", "-v", "/cache", "-m", "64m", "--pids-limit", "50", "--init",
        "busybox", "sh", "-c", "echo > /cache/x; mkdir -p /made/here",
    )  # fmt: skip
    after = snapshot(pybuild.root)
    assert after.pop("files") - before["files"] == {"volumes"} - before["files"]
    assert after == {key: value for key, value in before.items() if key != "files"}


def test_after_a_run_that_failed_to_start(before: dict[str, Any], pybuild: Pybuild) -> None:
    assert pybuild("run", *IN_GROUP, "--rm", "-p", "18080:80", "busybox", "nosuch").code == 127
    assert snapshot(pybuild.root) == before


def test_after_a_port_that_was_taken(before: dict[str, Any], pybuild: Pybuild) -> None:
    import socket

    with socket.create_server(("0.0.0.0", 18081)):
        found = pybuild("run", *IN_GROUP, "--rm", "-p", "18081:80", "busybox", "true")
    assert found.code == 125
    assert "port is already allocated" in found.err
    assert snapshot(pybuild.root) == before


def test_after_removal_by_force(before: dict[str, Any], pybuild: Pybuild) -> None:
    pybuild.ok("run", *IN_GROUP, "-d", "--name", "box", "-p", "80", "busybox", "sleep", "600")
    during = snapshot(pybuild.root)
    assert during["links"] != before["links"]
    assert len(during["cgroups"]) > len(before["cgroups"])
    pybuild.ok("rm", "-f", "-v", "box")
    assert snapshot(pybuild.root) == before


def test_after_supervisor_and_keeper_were_killed(before: dict[str, Any], pybuild: Pybuild) -> None:
    pybuild.ok("run", *IN_GROUP, "-d", "--rm", "--name", "box", "-p", "80", "busybox", "sleep", "600")
    pid = int(str(pybuild.inspect("box")["State"]["Pid"]))
    for process in [*own_processes(runtime_dir(pybuild.root)), pid]:
        os.kill(process, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        pass
    assert pybuild.ok("ps", "-a").count("\n") == 1
    after = snapshot(pybuild.root)
    assert {key: value for key, value in after.items() if key != "run"} == {
        key: value for key, value in before.items() if key != "run"
    }
