"""A registry by hand, on raw sockets, so that it can answer what no web framework would let it."""

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from registry.model import Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, RootFs


@dataclass
class Seen:
    """A request that came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)


@dataclass
class Reply:
    """What goes back. `cut`: the connection ends after so many bytes of the body, whatever was announced."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    raw: bytes | None = None
    hang: bool = False


Handler = Callable[[Seen], Reply]


def json_reply(value: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


class FakeRegistry:
    """Serves `manifests` and `blobs` as a registry should; rules of `on` come first."""

    def __init__(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Seen] = []
        self.manifests: dict[str, tuple[bytes, str]] = {}  # path/reference
        self.blobs: dict[str, bytes] = {}
        self._rules: list[tuple[str, re.Pattern[str], list[Reply | Handler]]] = []
        self._tls = tls
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.domain = f"{f'[{address}]' if ':' in address else address}:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._done = threading.Event()
        self._start(self._accept)

    def on(self, method: str, pattern: str, *replies: Reply | Handler) -> None:
        """Answer requests whose target matches with these replies in turn, the last one again and again."""
        self._rules.append((method, re.compile(pattern), list(replies)))

    def seen(self, method: str, pattern: str) -> list[Seen]:
        return [one for one in self.requests if one.method == method and re.search(pattern, one.target)]

    def close(self) -> None:
        self._done.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    # -- content ----------------------------------------------------------------------------------------------------

    def add_blob(self, content: bytes) -> Digest:
        digest = Digest.of(content)
        self.blobs[str(digest)] = content
        return digest

    def add_manifest(self, path: str, tag: str | None, content: bytes, media_type: str) -> Digest:
        digest = Digest.of(content)
        self.manifests[f"{path}/{digest}"] = (content, media_type)
        if tag:
            self.manifests[f"{path}/{tag}"] = (content, media_type)
        return digest

    def add_image(
        self, path: str = "app", tag: str | None = "1", layers: Iterable[bytes] = (b"layer",),
        platform: Platform | None = None,
    ) -> Manifest:  # fmt: skip
        layers = list(layers)
        config = ImageConfig(
            platform or Platform("linux", "amd64"), rootfs=RootFs(tuple(Digest.of(layer) for layer in layers))
        ).to_bytes()
        manifest = Manifest(
            MediaType.OCI_MANIFEST,
            Descriptor(MediaType.OCI_CONFIG, self.add_blob(config), len(config)),
            tuple(Descriptor(MediaType.OCI_LAYER, self.add_blob(layer), len(layer)) for layer in layers),
        )
        self.add_manifest(path, tag, manifest.to_bytes(), MediaType.OCI_MANIFEST)
        return manifest

    # -- the wire ---------------------------------------------------------------------------------------------------

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            with connection, connection.makefile("rb") as stream:
                while (seen := _read_request(stream)) is not None:
                    self.requests.append(seen)
                    if not self._send(connection, seen, self._reply(seen)):
                        return

    def _reply(self, seen: Seen) -> Reply:
        for method, pattern, replies in self._rules:
            if method == seen.method and pattern.search(seen.target):
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                return reply(seen) if callable(reply) else reply
        return self._proper(seen)

    def _proper(self, seen: Seen) -> Reply:
        if seen.path == "/v2/":
            return json_reply({})
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", seen.path):
            found = self.manifests.get(f"{match[1]}/{match[2]}")
            if found is not None:
                content, media_type = found
                told = {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(content))}
                return Reply(200, content, told)
            return json_reply({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, 404)
        if match := re.fullmatch(r"/v2/.+/blobs/([^/]+)", seen.path):
            return self.serve_blob(seen, match[1])
        return Reply(404)

    def serve_blob(self, seen: Seen, digest: str) -> Reply:
        content = self.blobs.get(digest)
        if content is None:
            return json_reply({"errors": [{"code": "BLOB_UNKNOWN", "message": "unknown"}]}, 404)
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        if match := re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Reply(206, content[start:], headers)
        return Reply(200, content, headers)

    def _send(self, connection: socket.socket, seen: Seen, reply: Reply) -> bool:
        """Whether the connection can be used again."""
        if reply.hang:
            self._done.wait(20)
            return False
        if reply.raw is not None:
            connection.sendall(reply.raw)
            return False
        headers = dict(reply.headers)
        if isinstance(reply.body, bytes):
            headers.setdefault("Content-Length", str(len(reply.body)))
            body = b"" if seen.method == "HEAD" else reply.body
            _send_head(connection, reply.status, headers)
            connection.sendall(body if reply.cut is None else body[: reply.cut])
            return reply.cut is None
        _send_head(connection, reply.status, headers | {"Transfer-Encoding": "chunked"})
        for piece in reply.body:
            if self._done.is_set():
                return False
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        return True


def _send_head(connection: socket.socket, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())


def _read_request(stream: object) -> Seen | None:
    line = stream.readline()  # type: ignore[attr-defined]  # a buffered reader
    if not line:
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers = {}
    while line := stream.readline().decode().strip():  # type: ignore[attr-defined]  # a buffered reader
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]  # a buffered reader
    if len(body) < int(headers.get("content-length", 0)):
        return None
    return Seen(method, target, headers, body)
