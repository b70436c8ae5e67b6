"""What a client sends that is no proper client."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from registry.server.state import Settings
from registry.storage import ContentStore
from tests.integration.registry.support import Client, Registry

HEX = "a" * 64


def send(client: Client, line: str, rest: str = "") -> tuple[int, bytes]:
    """One request as it stands, no library in between to make it proper; its status and body."""
    with client.raw() as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n".encode())
        answer = b""
        # A server that stops reading resets the connection, sometimes right behind its answer.
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def files_below(root: Path) -> set[str]:
    return {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names}


class TestPathTricks:
    @pytest.mark.parametrize(
        "path",
        [
            "/v2/../../etc/passwd", "/v2/app/blobs/../../../etc/passwd", "/v2/%2e%2e/manifests/1",
            "/v2/..%2f..%2fetc/manifests/1", "/v2/app%2fx/manifests/1", "/v2/app%00/manifests/1",
            "/v2/app/manifests/..", "/v2/app/manifests/%2e%2e%2fx", "/v2/app/manifests/a%00b",
            f"/v2/app/blobs/sha256:{HEX.upper()}", "/v2/app/blobs/sha256:../../../../etc/passwd",
            f"/v2/app/blobs/sha256:{HEX}0", f"/v2/app/blobs/SHA256:{HEX}", f"/v2/app/blobs/sha512:{HEX}",
            "/v2/app/blobs/sha256:%2e%2e", f"/v2/app/manifests/sha256:{HEX[1:]}", "/v2//blobs/x", "//v2/app/tags/list",
            "/v2/App/tags/list", "/v2/app/tags/list/../../x", "/v2/" + "a" * 300 + "/tags/list",
        ],
    )  # fmt: skip
    def test_are_refused_before_anything_touches_the_disk(self, registry: Registry, path: str) -> None:
        before = files_below(registry.store.root)
        for method in ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"):
            status, body = send(registry, f"{method} {path}", "Content-Length: 0\r\n")
            assert 400 <= status < 500
            if method != "HEAD":
                assert json.loads(body)["errors"][0]["code"] != "UNKNOWN"
        assert files_below(registry.store.root) == before


class TestNonsense:
    @pytest.mark.parametrize(
        "line",
        ["NONSENSE", "GET", "GET /v2/\0", "\x16\x03\x01\x02", "GET /v2/ HTTP/9.9\r\nX:", f"GET /v2/{'a' * 20_000}"],
    )
    def test_is_answered_as_such_and_the_server_goes_on(self, registry: Registry, line: str) -> None:
        status, body = send(registry, line)
        assert status == 400
        assert json.loads(body)["errors"][0]["code"] == "BAD_REQUEST"
        assert registry.ask("GET", "/v2/").status == 200

    def test_headers_without_end_are_not_kept(self, registry: Registry) -> None:
        assert send(registry, "GET /v2/", "".join(f"X-{number}: y\r\n" for number in range(1000)))[0] == 400
        assert send(registry, "GET /v2/", f"X: {'y' * 100_000}\r\n")[0] == 400

    def test_two_lengths_are_refused(self, registry: Registry) -> None:
        """Request smuggling lives on servers that pick one."""
        assert send(registry, "PUT /v2/app/manifests/1", "Content-Length: 0\r\nContent-Length: 5\r\n")[0] == 400
        both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        assert send(registry, "PUT /v2/app/manifests/1", both)[0] == 400


class TestWrongDoor:
    def test_is_404_with_an_error_in_json(self, registry: Registry) -> None:
        for path in ("/", "/v1/_ping", "/v2/app", "/favicon.ico"):
            answer = registry.ask("GET", path)
            assert (answer.status, answer.code) == (404, "NOT_FOUND")

    def test_with_a_wrong_method_is_405_and_says_which_are_right(self, registry: Registry) -> None:
        answer = registry.ask("DELETE", "/v2/app/tags/list")
        assert (answer.status, answer.code, answer.headers["allow"]) == (405, "UNSUPPORTED", "GET, HEAD")
        assert registry.ask("TRACE", "/v2/").status == 405


class TestBug:
    def test_of_ours_tells_the_client_nothing_and_the_log_everything(
        self, root: Path, run_registry: Callable[..., Registry], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            """A store that lacks one thing."""

            whole = ContentStore.open(root)

            def __getattr__(self, name: str) -> object:
                if name == "manifest":
                    raise AttributeError("Broken")
                return getattr(self.whole, name)

        registry = run_registry(Settings(), store=cast("ContentStore", Broken()))
        answer = registry.ask("GET", "/v2/app/manifests/1")
        assert (answer.status, answer.code) == (500, "UNKNOWN")
        assert b"Broken" not in answer.body
        assert b"Traceback" not in answer.body
        assert "AttributeError" in caplog.text

    def test_in_the_metadata_is_503(self, registry: Registry) -> None:
        registry.store.close()
        answer = registry.ask("GET", "/readyz")
        assert answer.status == 503
        assert registry.ask("GET", "/livez").status == 200


class TestVersionCheck:
    def test_says_which_protocol_this_is_on_every_answer(self, registry: Registry) -> None:
        for method, path in (
            ("GET", "/v2/"),
            ("GET", "/v2"),
            ("HEAD", "/v2/"),
            ("GET", "/v2/app/tags/list"),
            ("PUT", "/v2/"),
        ):
            assert registry.ask(method, path).headers["docker-distribution-api-version"] == "registry/2.0"
        assert registry.ask("GET", "/v2/").status == 200


class TestAccessLog:
    def test_has_a_line_for_each_request_without_its_query(self, registry: Registry) -> None:
        registry.ask("GET", "/v2/app/tags/list?n=1&token=secret", headers={"User-Agent": 'a"\n b'.replace("\n", "")})
        served = registry.next_served("GET")
        assert (served["path"], served["status"], served["remote"]) == ("/v2/app/tags/list", 404, "127.0.0.1")
        assert served["agent"] == 'a" b'
        assert "secret" not in json.dumps(served)
