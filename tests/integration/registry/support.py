"""A registry to ask, and a client that asks as pushing clients do. The fixtures are in conftest.py."""

import asyncio
import http.client
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.model import Digest
from registry.server.access import AccessLog
from registry.server.listening import listen
from registry.server.serve import RegistryServer
from registry.server.state import Settings
from registry.storage import ContentStore

REPOSITORY = Path(__file__).parents[3]
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]  # lowercase names
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # as JSON is
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code."""
        assert self.headers["content-type"] == "application/json"
        return str(self.json["errors"][0]["code"])


@dataclass
class Client:
    """One connection after another to a registry; `ask` is a request, the rest are what a pushing client does."""

    port: int
    agent: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.agent = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: bool,
    ) -> Answered:
        self.agent.request(method, path, body, dict(headers or {}), **options)
        found = self.agent.getresponse()
        content = found.read()
        return Answered(found.status, {name.lower(): value for name, value in found.getheaders()}, content)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def start(self, repo: str = "app", query: str = "") -> str:
        answer = self.ask("POST", f"/v2/{repo}/blobs/uploads/{query}")
        assert answer.status == 202, answer
        return answer.headers["location"]

    def push_blob(self, content: bytes, repo: str = "app", algorithm: str = "sha256") -> Digest:
        digest = Digest.of(content, algorithm)
        answer = self.ask("PUT", f"{self.start(repo)}?digest={digest}", content)
        assert answer.status == 201, answer
        return digest

    def push_image(
        self, repo: str = "app", tag: str = "1", layer: bytes = b"layer", headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> Digest:  # fmt: skip
        content = self.image(repo, layer, **extra)
        answer = self.put_manifest(content, f"/v2/{repo}/manifests/{tag}", headers=headers)
        assert answer.status == 201, answer
        return Digest.of(content)

    def image(self, repo: str = "app", layer: bytes = b"layer", **extra: object) -> bytes:
        """A manifest whose config and layer are pushed already."""
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self._descriptor(config, "application/vnd.oci.image.config.v1+json", repo),
                "layers": [self._descriptor(layer, "application/vnd.oci.image.layer.v1.tar", repo)],
                **extra,
            }
        ).encode()

    def _descriptor(self, content: bytes, media_type: str, repo: str) -> dict[str, Any]:
        digest = self.push_blob(content, repo)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    def put_manifest(
        self, content: bytes, path: str, media_type: str = OCI_MANIFEST, headers: Mapping[str, str] | None = None
    ) -> Answered:
        return self.ask("PUT", path, content, {"Content-Type": media_type, **(headers or {})})


@dataclass
class Registry(Client):
    """A registry in this process."""

    store: ContentStore
    stop: Callable[[], None]
    log: queue.SimpleQueue[bytes]

    def next_served(self, method: str) -> dict[str, Any]:
        """What the access log says next about a request by `method`; waits for it."""
        while True:
            served: dict[str, Any] = json.loads(self.log.get(timeout=20))["served"]
            if served["method"] == method:
                return served


def run_in_thread(store: ContentStore, settings: Settings) -> Registry:
    listening = listen("127.0.0.1:0", settings.idle)
    port = listening.getsockname()[1]
    started = threading.Event()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stop: list[Callable[[], None]] = []

    async def live() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        server = await RegistryServer(store, settings, AccessLog(lines.put)).start(listening)
        started.set()
        await stopped.wait()
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(live(),), daemon=True)
    thread.start()
    assert started.wait(10)

    def stop_and_wait() -> None:
        if thread.is_alive():
            stop[0]()
            thread.join(20)
            assert not thread.is_alive()
            store.close()
            listening.close()

    return Registry(port, store, stop_and_wait, lines)


@dataclass
class Served(Client):
    """The program `pybuild registry serve`."""

    process: subprocess.Popen[str]
    seen: list[str]  # lines of its stderr

    def wait_for_line(self, part: str) -> str:
        """Read stderr until a line has `part`."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.seen.append(line)
            if part in line:
                return line
        raise AssertionError(f"ended without {part!r}: {self.seen}")

    def end(self, *signals: signal.Signals) -> int:
        for one in signals or (signal.SIGTERM,):
            self.process.send_signal(one)
        return self.process.wait(20)


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pybuild.cli.main", "--root", str(root), "registry", *arguments]
