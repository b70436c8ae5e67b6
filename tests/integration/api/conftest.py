"""A daemon of the test module's own, on a root of its own, and three ways to speak to it: docker, HTTP, bare bytes."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest

from registry.model.image_config import RunConfig
from tests.integration.run.conftest import Pybuild, Result, busybox_layer, end, put_image

DOCKER = "/usr/bin/docker"  # Debian's: 20.10
PATIENCE = 60.0


@dataclass
class Api:
    """One daemon, which may be killed and started again."""

    root: Path
    directory: Path  # of its socket, its log and the client's configuration
    process: "subprocess.Popen[bytes] | None" = None
    http: httpx.Client = field(default_factory=httpx.Client)

    @property
    def socket(self) -> Path:
        return self.directory / "api.sock"

    @property
    def pybuild(self) -> Pybuild:
        return Pybuild(self.root)

    def start(self, *words: str) -> None:
        command = self.pybuild.words("daemon", "-H", f"unix://{self.socket}", *words)
        self.http.close()
        transport = httpx.HTTPTransport(uds=str(self.socket))
        self.http = httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE)
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        until(self.listens, "the daemon does not listen")

    def listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def docker(self, *words: str, stdin: str | None = None) -> Result:
        found = subprocess.run(
            [DOCKER, *words], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True,
            text=True, timeout=PATIENCE, env=self.environment, check=False,
        )  # fmt: skip
        return Result(found.returncode, found.stdout, found.stderr)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.directory / "config"), "DOCKER_BUILDKIT": "0",
        }  # fmt: skip

    def ok(self, *words: str, stdin: str | None = None) -> str:
        found = self.docker(*words, stdin=stdin)
        assert found.code == 0, found.err
        return found.out

    def create(self, *command: str, name: str = "", **config: object) -> str:
        """A container of busybox; its id."""
        body = {"Image": "busybox", "Cmd": list(command), **config}
        found = self.http.post("/containers/create", params={"name": name} if name else {}, json=body)
        assert found.status_code == 201, found.text
        return str(found.json()["Id"])

    def run(self, *command: str, **config: object) -> str:
        """The same, started."""
        made = self.create(*command, **config)
        assert self.http.post(f"/containers/{made}/start").status_code == 204
        return made

    def wait(self, container: str) -> int:
        return int(self.http.post(f"/containers/{container}/wait").json()["StatusCode"])

    def raw(self) -> "Wire":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.socket))
        sock.settimeout(PATIENCE)
        return Wire(sock)


@dataclass
class Wire:
    """HTTP as it lies on the wire."""

    sock: socket.socket
    rest: bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[str, dict[str, str]]:
        """Send a request; the status line and headers of the answer, with lower-case names."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: docker", f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json"] if content else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return status, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}

    def upgrade(self, path: str, body: object = None) -> tuple[str, dict[str, str]]:
        return self.ask("POST", path, body, Connection="Upgrade", Upgrade="tcp")

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def all(self) -> bytes:
        """To the end."""
        while self._more():
            pass
        found, self.rest = self.rest, b""
        return found

    def until(self, mark: bytes) -> bytes:
        while mark not in self.rest:
            assert self._more(), self.rest
        return self.rest

    def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing came (for what must not come; a late one is not found)."""
        return not self.rest and not select.select([self.sock], [], [], seconds)[0]

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        self.rest += data
        return data


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The pieces of a multiplexed stream: which stream, and what."""
    found = []
    while data:
        kind, zeros, size = data[0], data[1:4], struct.unpack(">L", data[4:8])[0]
        assert zeros == b"\0\0\0"
        assert len(data) >= 8 + size, "a frame was cut off"
        found.append((kind, data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def output(data: bytes, kind: int = 1) -> bytes:
    return b"".join(piece for stream, piece in frames(data) if stream == kind)


def until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    directory = Path(tmp_path_factory.mktemp("api"))
    root = Path(tempfile.mkdtemp(prefix="pybuild-api-", dir="/dev/shm"))
    put_image(root, "busybox", busybox_layer(), RunConfig(env=("PATH=/bin",), cmd=("sh",)))
    made = Api(root, directory)
    made.start()
    yield made
    made.http.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        made.stop()
    end(root)
    shutil.rmtree(root, ignore_errors=True)
