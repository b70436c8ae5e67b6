"""Registries that answer anything: the command line ends soon, in two lines and little memory, and keeps nothing."""

import base64
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.usefixtures("netns")]

Answer = Callable[[socket.socket, bytes], None]


class Raw:
    """Listens, reads each request's head, and lets a function answer; it may go on for ever."""

    def __init__(self, answer: Answer) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: list[bytes] = []
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    head += piece
                    if head[0] == 0x16:  # TLS is not spoken here
                        return
                self.seen.append(head)
                self._answer(connection, head)
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def raw() -> Iterator[Callable[[Answer], Raw]]:
    made: list[Raw] = []

    def start(answer: Answer) -> Raw:
        made.append(Raw(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()


def reply(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def endless(start: bytes, more: bytes) -> Answer:
    def answer(connection: socket.socket, head: bytes) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return answer


ANSWERS: dict[str, Answer] = {
    "no HTTP": lambda connection, head: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "nothing": lambda connection, head: None,
    "a web page": lambda connection, head: connection.sendall(reply("200 OK", b"<html>", Content_Type="text/html")),
    "half a body": lambda connection, head: connection.sendall(reply("200 OK", b"x" * 100)[:-50]),
    "headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 8000 + b"\r\n"),
    "a header without end": endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
    "a body without end": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "chunks without end": endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"
    ),
    "a loop": lambda connection, head: connection.sendall(reply("302 Found", Location="/v2/x/manifests/1")),
    "a question for ever": lambda connection, head: connection.sendall(
        reply("401 Unauthorized", WWW_Authenticate='Basic realm="x"')
    ),
    "an error that drives the terminal": lambda connection, head: connection.sendall(
        reply("403 Forbidden", json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[2Jgone"}]}).encode())
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_pull_from_one_that_answers(pybuild: Pybuild, raw: Callable[[Answer], Raw], kind: str) -> None:
    server = raw(ANSWERS[kind])
    with pybuild.unchanged():
        found = pybuild.fails("pull", f"{server.address}/x:1", code=1, hint="", timeout=60)
    assert found.out == ""
    assert "error: " in found.err
    assert "\x1b" not in found.err
    assert found.seconds < 20
    assert found.memory < 150


def test_credentials_do_not_follow_a_redirect(pybuild: Pybuild, raw: Callable[[Answer], Raw], tmp_path: Path) -> None:
    elsewhere = raw(lambda connection, head: connection.sendall(reply("401 No", WWW_Authenticate='Basic realm="x"')))
    secret = base64.b64encode(b"me:hunter2")

    def answer(connection: socket.socket, head: bytes) -> None:
        if secret not in head:
            connection.sendall(reply("401 Unauthorized", WWW_Authenticate='Basic realm="x"'))
        elif b" /v2/ " in head:
            connection.sendall(reply("200 OK"))
        else:
            connection.sendall(reply("307 Elsewhere", Location=f"http://{elsewhere.address}/v2/x/manifests/1"))

    home = raw(answer)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {home.address: {"auth": secret.decode()}}}))
    mine = Pybuild(pybuild.root, {"DOCKER_CONFIG": str(tmp_path)})
    with mine.unchanged():
        mine.fails("pull", f"{home.address}/x:1", code=1)
    assert any(secret in head for head in home.seen)
    assert elsewhere.seen
    assert not any(secret in head or b"authorization" in head.lower() for head in elsewhere.seen)


def test_a_token_service_that_is_endless(pybuild: Pybuild, raw: Callable[[Answer], Raw]) -> None:
    tokens = raw(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
    challenge = f'Bearer realm="http://{tokens.address}/token",service="x"'
    home = raw(lambda connection, head: connection.sendall(reply("401 No", WWW_Authenticate=challenge)))
    with pybuild.unchanged():
        found = pybuild.fails("pull", f"{home.address}/x:1", code=1)
    assert found.memory < 150


def hanging(connection: socket.socket, head: bytes) -> None:
    """Answer that nothing is there, and never take or give a blob."""
    if b" /v2/ " in head:
        connection.sendall(reply("200 OK"))
    elif head.startswith(b"HEAD"):
        connection.sendall(reply("404 Not Found"))
    else:
        threading.Event().wait(30)


@pytest.mark.parametrize("words", [["pull", "-q", "{}/x:1"], ["push", "-q", "{}/busybox:1"]])
def test_ctrl_c_ends_a_transfer(pybuild: Pybuild, raw: Callable[[Answer], Raw], words: list[str]) -> None:
    server = raw(hanging)
    pybuild.ok("tag", "busybox", f"{server.address}/busybox:1")
    with pybuild.unchanged():
        process = pybuild.popen(*(word.format(server.address) for word in words), start_new_session=True)
        wanted = b"GET" if words[0] == "pull" else b"POST"
        began = time.monotonic()
        while not any(head.startswith(wanted) and b" /v2/ " not in head for head in server.seen):
            assert process.poll() is None
            assert time.monotonic() - began < 20
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 6
        assert (process.returncode, out) == (130, "")
        assert "Traceback" not in err
    pybuild.ok("rmi", f"{server.address}/busybox:1")


def test_a_push_to_a_registry_without_room(pybuild: Pybuild, contexts: Contexts, ram_path: Path) -> None:
    small = ram_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "none", str(small)], check=True)
    server = Pybuild(small / "root").popen("registry", "serve", "--addr", "127.0.0.1:0")
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        address = "127.0.0.1:" + line.rpartition("127.0.0.1:")[2].split()[0].rstrip("/,.")
        context = contexts("FROM scratch\nCOPY big /\n", {"big": os.urandom(6 << 20)})
        pybuild.ok("build", "-t", f"{address}/big:1", str(context))
        with pybuild.unchanged():
            pybuild.fails("push", f"{address}/big:1", code=1, says="no space left", hint="the registry has a fault")
        pybuild.fails("pull", f"{address}/big:1", code=1, says="big")  # it goes on answering
        assert server.poll() is None
        pybuild.ok("rmi", f"{address}/big:1")
    finally:
        server.terminate()
        server.communicate(timeout=20)
        subprocess.run(["umount", str(small)], check=True)
