"""Who is measured: ourselves and the peers, each as one command line an operation; all state below one directory."""

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

REGISTRY = "127.0.0.1:5055"
STORE = "--root {home}/root --runroot {home}/run --storage-driver overlay"


class Unavailable(Exception):
    """A peer did not come up; its rows are left out, and the table says so."""


@dataclass
class Peer:
    """`operations` maps a name to a command line with places for {image}, {context}, {tag} and so on."""

    name: str
    home: Path
    operations: dict[str, str]
    env: dict[str, str] = field(default_factory=dict)
    daemon: str = ""
    ready: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def can(self, *operations: str) -> bool:
        return all(operation in self.operations for operation in operations)

    def time(self, operation: str, **places: object) -> float:
        """Run one operation to its end; wall-clock seconds."""
        line = self.operations[operation].format(home=self.home, **places)
        words = ["sh", "-ec", line] if "&&" in line else shlex.split(line)
        start = time.perf_counter()
        done = subprocess.run(
            words, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        took = time.perf_counter() - start
        if done.returncode != 0:
            text = (done.stdout + done.stderr).decode(errors="replace")[-800:]
            raise RuntimeError(f"{self.name} {operation}: exit {done.returncode}: {text}")
        return took

    def peak(self, operation: str, **places: object) -> float:
        """Run one operation to its end; MiB of memory that it had at most, without its children."""
        words = shlex.split(self.operations[operation].format(home=self.home, **places))
        # Between fork and exec a process is as large as its parent, and that counts: so the parent is a small one.
        code = "import os, sys; pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)"
        code += "; _, status, used = os.wait4(pid, 0)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"{code}; print(status, used.ru_maxrss)", *words],
            env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, capture_output=True, check=True,
        )  # fmt: skip
        status, kilobytes = map(int, done.stdout.split()[-2:])
        if status:
            raise RuntimeError(f"{self.name} {operation}: {done.stderr.decode(errors='replace')[-800:]}")
        return kilobytes / 1024

    def up(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if "containers.conf" in self.env.get("CONTAINERS_CONF", ""):
            (self.home / "containers.conf").write_text(
                '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n'
                'events_logger = "none"\n'
            )
        if not self.daemon:
            return
        with (self.home / "log").open("ab") as log:
            words = shlex.split(self.daemon.format(home=self.home))
            self.process = subprocess.Popen(
                words, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.time("ready")
            except RuntimeError:
                time.sleep(0.05)
            else:
                return
        raise Unavailable(f"{self.name} did not come up; see {self.home}/log")

    def down(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()


def pybuild(home: Path) -> Peer:
    command = Path(sys.executable).with_name("pybuild")
    build = f"{command} build -q -t {{tag}} --build-arg BASE={{base}} --network none"
    return Peer(
        "pybuild", home,
        {
            "load": f"{command} load -q -i {{archive}}", "build": f"{build} {{context}}",
            "cold": f"{build} --no-cache {{context}}",
            "oci-gzip": f"{build} --no-cache -o type=oci,dest={{out}} {{context}}",
            "oci-zstd": f"{build} --no-cache --compression zstd -o type=oci,dest={{out}} {{context}}",
            "run": f"{command} run --rm {{image}} true",
            "run-none": f"{command} run --rm --network none {{image}} true",
            "run-d": f"{command} run -d --network none --name {{name}} {{image}} sleep 600",
            "exec": f"{command} exec {{name}} true", "rm": f"{command} rm -f {{name}}",
            "push": f"{command} tag {{tag}} {{to}} && {command} push -q {{to}}",
            "pull": f"{command} pull -q {{image}} && {command} run --rm --network none {{image}} true",
            "forget": f"{command} rmi -f {{image}}",
        },
        {"PYBUILD_ROOT": str(home / "root")},
    )  # fmt: skip


def docker(home: Path) -> Peer:
    """dockerd with its BuildKit, by the docker CLI of the same package (which has the BuildKit client built in)."""
    command = "/usr/bin/docker"
    build = f"{command} build -q -t {{tag}} --build-arg BASE={{base}}"
    return Peer(
        "docker", home,
        {
            "ready": f"{command} version", "load": f"{command} load -q -i {{archive}}",
            "build": f"{build} {{context}}", "cold": f"{build} --no-cache {{context}}",
            "run": f"{command} run --rm {{image}} true",
            "run-none": f"{command} run --rm --network none {{image}} true",
            "run-d": f"{command} run -d --network none --name {{name}} {{image}} sleep 600",
            "exec": f"{command} exec {{name}} true", "rm": f"{command} rm -f {{name}}",
            "push": f"{command} tag {{tag}} {{to}} && {command} push -q {{to}}",
            "pull": f"{command} pull -q {{image}} && {command} run --rm --network none {{image}} true",
            "forget": f"{command} rmi -f {{image}}",
        },
        {"DOCKER_HOST": f"unix://{home}/docker.sock", "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(home / "config")},
        daemon="dockerd --data-root {home}/data --exec-root {home}/exec -H unix://{home}/docker.sock"
        " --pidfile {home}/pid --storage-driver overlay2 --bip 10.213.0.1/24",
    )  # fmt: skip


def podman(home: Path) -> Peer:
    command = f"podman {STORE} --runtime runc --cgroup-manager cgroupfs"
    build = f"{command} build -q --layers --pull=never -t {{tag}} --build-arg BASE={{base}}"
    return Peer(
        "podman", home,
        {
            "load": f"{command} load -q -i {{archive}}", "build": f"{build} {{context}}",
            "cold": f"{build} --no-cache {{context}}",
            "oci-gzip": f"{build} --no-cache {{context}} && {command} push -q {{tag}} oci-archive:{{out}}:x",
            "oci-zstd": f"{build} --no-cache {{context}} && {command} push -q --compression-format zstd {{tag}}"
            " oci-archive:{out}:x",
            "run": f"{command} run --rm {{image}} true",
            "run-none": f"{command} run --rm --network none {{image}} true",
            "run-d": f"{command} run -d --network none --name {{name}} {{image}} sleep 600",
            "exec": f"{command} exec {{name}} true", "rm": f"{command} rm -f -t 0 {{name}}",
            "push": f"{command} push -q --tls-verify=false {{tag}} docker://{{to}}",
            "pull": f"{command} pull -q --tls-verify=false {{image}}"
            f" && {command} run --rm --network none {{image}} true",
            "forget": f"{command} rmi -f {{image}}",
        },
        {"CONTAINERS_CONF": str(home / "containers.conf"), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )  # fmt: skip


def buildah(home: Path) -> Peer:
    build = f"buildah build {STORE} -q --layers --pull-never -t {{tag}} --build-arg BASE={{base}}"
    return Peer(
        "buildah", home,
        {
            "load": f"buildah pull {STORE} -q docker-archive:{{archive}}", "build": f"{build} {{context}}",
            "cold": f"{build} --no-cache {{context}}",
            "oci-gzip": f"{build} --no-cache {{context}} && buildah push {STORE} -q {{tag}} oci-archive:{{out}}:x",
            "oci-zstd": f"{build} --no-cache {{context}} && buildah push {STORE} -q --compression-format zstd {{tag}}"
            " oci-archive:{out}:x",
        },
        {"CONTAINERS_CONF": str(home / "containers.conf")},
    )  # fmt: skip


PEERS = {"pybuild": pybuild, "docker": docker, "podman": podman, "buildah": buildah}
