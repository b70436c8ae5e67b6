"""`pybuild registry`: starting, refusing to start, and stopping without losing what is under way."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.model import Digest
from tests.integration.registry.support import REPOSITORY, Served, command

CONTENT = os.urandom(100_000)
DIGEST = Digest.of(CONTENT)
Serve = Callable[..., Served]


def half_sent(server: Served, location: str) -> socket.socket:
    """A connection in the middle of an upload; the server has the first half."""
    connection = server.raw()
    head = f"PUT {location}?digest={DIGEST} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    connection.sendall(head.encode() + CONTENT[:50_000])
    while server.ask("GET", location).headers["range"] != "0-49999":
        pass
    return connection


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, *arguments), capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False
    )


class TestStop:
    @pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
    def test_lets_an_upload_in_flight_finish(self, serve_program: Serve, told: signal.Signals) -> None:
        server = serve_program()
        with half_sent(server, server.start()) as connection:
            server.process.send_signal(told)
            server.wait_for_line("stopping")
            with pytest.raises(ConnectionRefusedError):
                server.raw()
            connection.sendall(CONTENT[50_000:])
            answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"Connection: close" in answer
        assert server.process.wait(10) == 0
        assert serve_program().ask("GET", f"/v2/app/blobs/{DIGEST}").body == CONTENT

    def test_cuts_off_after_the_grace_what_another_process_can_resume(self, serve_program: Serve) -> None:
        server = serve_program("--grace", "0.2")
        location = server.start()
        with half_sent(server, location):
            assert server.end() == 0
        other = serve_program()
        assert other.ask("GET", location).headers["range"] == "0-49999"
        rest = other.ask("PUT", f"{location}?digest={DIGEST}", CONTENT[50_000:], {"Content-Range": "50000-99999"})
        assert rest.status == 201

    def test_hurries_at_the_second_signal(self, serve_program: Serve) -> None:
        server = serve_program("--grace", "60")
        with half_sent(server, server.start()):
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line("stopping")
            assert server.end() == 0

    def test_does_not_wait_for_idle_connections(self, serve_program: Serve) -> None:
        server = serve_program("--grace", "60")
        assert server.ask("GET", "/v2/").status == 200
        assert server.end() == 0

    def test_that_is_no_stop_but_a_kill_leaves_uploads_resumable(self, serve_program: Serve) -> None:
        server = serve_program()
        location = server.start()
        with half_sent(server, location):
            server.end(signal.SIGKILL)
        assert serve_program().ask("PUT", f"{location}?digest={DIGEST}", CONTENT[50_000:]).status == 201


class TestStart:
    def test_of_a_second_one_on_the_same_root_serves_the_same(self, serve_program: Serve) -> None:
        one, other = serve_program(), serve_program()
        digest = one.push_image()
        assert other.ask("HEAD", "/v2/app/manifests/1").headers["docker-content-digest"] == str(digest)

    def test_on_an_address_that_others_reach_needs_a_word(self, root: Path) -> None:
        found = run(root, "serve", "--addr", "0.0.0.0:0")
        assert found.returncode == 2
        assert "no accounts" in found.stderr
        assert "--insecure-open" in found.stderr

    def test_on_such_an_address_warns_once_it_has_the_word(self, root: Path) -> None:
        """In a network namespace of its own, where nobody can reach it."""
        process = subprocess.Popen(
            ["unshare", "--net", *command(root, "serve", "--addr", "0.0.0.0:0", "--insecure-open")],
            stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        )  # fmt: skip
        assert process.stderr is not None
        warning, serving = process.stderr.readline(), process.stderr.readline()
        process.terminate()
        process.communicate(timeout=20)
        assert "WARNING no accounts" in warning
        assert "on http://0.0.0.0:" in serving

    def test_on_a_taken_port_says_so(self, root: Path, serve_program: Serve) -> None:
        found = run(root, "serve", "--addr", f"127.0.0.1:{serve_program().port}")
        assert found.returncode == 1
        assert found.stderr.startswith("error: can't listen on 127.0.0.1:")
        assert "hint: " in found.stderr

    @pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
    def test_on_nonsense_says_so(self, root: Path, address: str) -> None:
        found = run(root, "serve", "--addr", address, "--insecure-open")
        assert found.returncode in (1, 2)
        assert found.stderr.startswith("error: ")
        assert "Traceback" not in found.stderr

    def test_on_a_root_of_another_version_says_so(self, root: Path) -> None:
        (root / "VERSION").write_text("99\n")
        found = run(root, "serve", "--addr", "127.0.0.1:0")
        assert found.returncode == 1
        assert "version" in found.stderr

    def test_logs_each_request_in_a_line_of_json_unless_told_to_be_quiet(self, serve_program: Serve) -> None:
        server, quiet = serve_program(), serve_program("--quiet")
        for one in (server, quiet):
            one.ask("GET", "/v2/")
            one.end()
        line = server.wait_for_line('"/v2/"')
        assert json.loads(line)["served"]["status"] == 200
        assert quiet.process.stderr is not None
        assert '"/v2/"' not in quiet.process.stderr.read()


class TestCollect:
    def test_keeps_what_is_served_and_says_what_it_freed(self, root: Path, serve_program: Serve) -> None:
        server = serve_program()
        digest = server.push_image()
        for arguments in (("gc", "--dry-run"), ("gc",)):
            found = run(root, *arguments)
            assert (found.returncode, found.stderr) == (0, "")
            assert "0 blobs" in found.stdout
        assert server.ask("GET", f"/v2/app/manifests/{digest}").status == 200
