"""After `--rm` nothing remains: mounts, namespaces, control groups, interfaces, rules, directories, names, volumes."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.roots import runtime_dir
from tests.integration.run.conftest import Pybuild

pytestmark = [pytest.mark.root, pytest.mark.net]


def directories(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if "blobs" not in path.parts} - {
        "meta.db-wal", "meta.db-shm", "snapshots/index.db-wal", "snapshots/index.db-shm"
    }  # fmt: skip


def namespaces() -> set[str]:
    """Those that a process lives in. A namespace in its last moments has none."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for kind in ("mnt", "net", "pid", "ipc", "uts"):
                try:
                    found.add(os.readlink(process / "ns" / kind))
                except OSError:
                    continue
    return found


def told(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def snapshot(root: Path) -> dict[str, Any]:
    return {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "links": told("ip", "-br", "link"),
        "rules": told("nft", "list", "ruleset"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("*/pybuild/*") if path.is_dir()},
        "files": directories(root),
        "run": sorted(os.listdir(runtime_dir(root))),
    }


@pytest.fixture
def before(netns: None, pybuild: Pybuild) -> dict[str, Any]:
    pybuild.ok("run", "--rm", "busybox", "true")  # what the first run of a root makes once, stays
    return snapshot(pybuild.root)


def test_after_a_foreground_run_with_everything(before: dict[str, Any], pybuild: Pybuild) -> None:
    known = namespaces()
    pybuild.ok(
        "run", "--rm", "-p", "18080:80", "-v", "/cache", "-m", "64m", "--pids-limit", "50", "--init", "--name", "all",
        "busybox", "sh", "-c", "echo > /cache/x; mkdir -p /made/here",
    )  # fmt: skip
    after = snapshot(pybuild.root)
    assert after.pop("files") - before["files"] == {"volumes"} - before["files"]
    assert after == {key: value for key, value in before.items() if key != "files"}
    assert namespaces() <= known


def test_after_a_run_that_failed_to_start(before: dict[str, Any], pybuild: Pybuild) -> None:
    assert pybuild("run", "--rm", "-p", "18080:80", "busybox", "nosuch").code == 127
    assert snapshot(pybuild.root) == before


def test_after_a_port_that_was_taken(before: dict[str, Any], pybuild: Pybuild) -> None:
    import socket

    with socket.create_server(("0.0.0.0", 18081)):
        found = pybuild("run", "--rm", "-p", "18081:80", "busybox", "true")
    assert found.code == 125
    assert "port is already allocated" in found.err
    assert snapshot(pybuild.root) == before


def test_after_removal_by_force(before: dict[str, Any], pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "box", "-p", "80", "busybox", "sleep", "600")
    during = snapshot(pybuild.root)
    assert during["links"] != before["links"]
    assert len(during["cgroups"]) > len(before["cgroups"])
    pybuild.ok("rm", "-f", "-v", "box")
    assert snapshot(pybuild.root) == before
