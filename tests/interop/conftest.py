"""Real peers beside us: a dockerd, a podman and a registry, all in one network namespace of the module's own."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.kernel import calls
from runner.kernel.netlink import Netlink, link_up
from tests.interop.peers import Tool, background, remove_cgroups, serving, wait_until


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pybuild-interop-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def net() -> Iterator[None]:
    """The module's own network namespace; every peer that is started from here lives in it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    calls.unshare(calls.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.run(link_up(socket.if_nametoindex("lo")))
    yield
    calls.setns(before, calls.CLONE_NEWNET)
    os.close(before)


@pytest.fixture(scope="module")
def pybuild(work: Path, net: None) -> Tool:
    """Our command on a state root of the module's own."""
    return Tool((sys.executable, "-m", "pybuild.cli.main"), {"PYBUILD_ROOT": str(work / "root")})


@pytest.fixture(scope="module")
def registry(work: Path, net: None) -> Iterator[str]:
    """Our registry; the value is its host:port."""
    with serving([sys.executable, "-m", "pybuild.cli.main", "registry", "serve", "--addr", "127.0.0.1:5000",
                  "--root", str(work / "registry")], work / "registry.log", "http://127.0.0.1:5000/v2/"):  # fmt: skip
        yield "127.0.0.1:5000"


@pytest.fixture(scope="module")
def docker_registry(work: Path, net: None) -> Iterator[str]:
    """Docker's registry 2.8 as Debian ships it."""
    config = work / "docker-registry.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {work}/docker-registry\n  delete:\n"
        "    enabled: true\nhttp:\n  addr: 127.0.0.1:5001\n"
    )
    with serving(["docker-registry", "serve", str(config)], work / "docker-registry.log", "http://127.0.0.1:5001/v2/"):
        yield "127.0.0.1:5001"


@pytest.fixture(scope="module")
def docker(work: Path, net: None) -> Iterator[Tool]:
    """The docker CLI with a dockerd of the module's own: no bridge, no rules, mounts in a namespace of its own."""
    home = work / "dockerd"
    home.mkdir()
    endpoint = f"unix://{home}/docker.sock"
    command = ["unshare", "--mount", "--propagation", "private", "dockerd", "--data-root", str(home / "data"),
               "--exec-root", str(home / "exec"), "--pidfile", str(home / "pid"), "--host", endpoint,
               "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2",
               "--cgroup-parent=/pybuild-interop"]  # fmt: skip
    tool = Tool(
        ("/usr/bin/docker", "--host", endpoint), {"DOCKER_CONFIG": str(home / "config"), "DOCKER_BUILDKIT": "0"}
    )
    with background(command, home / "log"):
        wait_until(lambda: tool.run("version").returncode == 0, "dockerd did not start", log=home / "log")
        yield tool
    remove_cgroups("pybuild-interop")


@pytest.fixture(scope="module")
def podman(work: Path, net: None) -> Tool:
    """podman with storage of the module's own; runc, since crun refuses hybrid cgroup trees and its limits."""
    (work / "auth.json").write_text("{}")
    return Tool(
        ("podman", "--root", str(work / "podman"), "--runroot", str(work / "podman-run"), "--runtime", "runc",
         "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", "--events-backend", "file"),
        {"CONTAINERS_CONF": str(_podman_conf(work)), "REGISTRY_AUTH_FILE": str(work / "auth.json")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def buildah(work: Path, podman: Tool) -> Tool:
    return Tool(
        (
            "buildah",
            "--root",
            str(work / "podman"),
            "--runroot",
            str(work / "podman-run"),
            "--storage-driver",
            "overlay",
        ),
        {**podman.env, "BUILDAH_ISOLATION": "chroot", "BUILDAH_RUNTIME": "runc"},
    )


@pytest.fixture(scope="module")
def skopeo(net: None) -> Tool:
    return Tool(("skopeo",))


def _podman_conf(work: Path) -> Path:
    """Debian's default limits are above what this kernel may grant; podman would fail on them."""
    made = work / "containers.conf"
    made.write_text('[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n')
    return made


@pytest.fixture(scope="module")
def ctr(work: Path, net: None) -> Iterator[Tool]:
    """containerd's own client with a containerd of the module's own."""
    home = work / "containerd"
    home.mkdir()
    config = home / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{home}/sock"\n[ttrpc]\naddress = "{home}/ttrpc"\n'
    )
    tool = Tool(("ctr", "--address", f"{home}/sock"))
    command = ["unshare", "--mount", "--propagation", "private", "containerd", "--config", str(config)]
    with background(command, home / "log"):
        wait_until(lambda: tool.run("version").returncode == 0, "containerd did not start", log=home / "log")
        yield tool
