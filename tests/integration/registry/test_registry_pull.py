"""Reading blobs (distribution-spec "Pulling blobs"; RFC 9110 ranges and conditions)."""

import email.parser
import os
from collections.abc import Callable

import pytest

from registry.model import Digest
from registry.server.state import Settings
from tests.integration.registry.support import Answered, Registry

SMALL = os.urandom(5000)
LARGE = os.urandom(400_000)


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Small blobs come from memory, large ones from the kernel; nobody must see a difference."""
    found: bytes = request.param
    return found


def get(registry: Registry, content: bytes, headers: dict[str, str] | None = None, method: str = "GET") -> Answered:
    return registry.ask(method, f"/v2/app/blobs/{Digest.of(content)}", headers=headers)


class TestBlob:
    def test_comes_whole_with_headers_that_let_it_be_kept_for_ever(self, registry: Registry, content: bytes) -> None:
        digest = registry.push_blob(content)
        for _ in range(2):
            answer = get(registry, content)
            assert (answer.status, answer.body) == (200, content)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-length"] == str(len(content))
            assert answer.headers["docker-content-digest"] == str(digest)
            assert answer.headers["etag"] == f'"{digest}"'
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["accept-ranges"] == "bytes"

    def test_head_has_the_same_headers_and_no_body(self, registry: Registry, content: bytes) -> None:
        registry.push_blob(content)
        head, whole = get(registry, content, method="HEAD"), get(registry, content)
        assert (head.status, head.body) == (200, b"")
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}

    def test_that_the_client_has_is_not_sent_again(self, registry: Registry, content: bytes) -> None:
        digest = registry.push_blob(content)
        for tag in (f'"{digest}"', f'W/"{digest}"', f'"x", "{digest}"', "*"):
            answer = get(registry, content, {"If-None-Match": tag})
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["etag"] == f'"{digest}"'
        assert get(registry, content, {"If-None-Match": '"sha256:other"'}).status == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_that_is_not_there_is_404(self, registry: Registry, method: str) -> None:
        answer = get(registry, b"never pushed", method=method)
        assert answer.status == 404
        assert answer.body == b"" if method == "HEAD" else answer.code == "BLOB_UNKNOWN"

    def test_of_another_repository_is_not_there(self, registry: Registry, content: bytes) -> None:
        """CVE-2024-39897: content that the disk has is not content that this repository has."""
        registry.push_blob(content, "other")
        for method in ("HEAD", "GET", "DELETE"):
            assert get(registry, content, method=method).status == 404

    def test_deleted_is_gone_at_once_here_and_stays_elsewhere(self, registry: Registry, content: bytes) -> None:
        """CVE-2026-35172: what another repository keeps warm does not come back."""
        for repo in ("app", "other"):
            registry.push_blob(content, repo)
        assert get(registry, content, method="DELETE").status == 202
        assert registry.ask("GET", f"/v2/other/blobs/{Digest.of(content)}").body == content
        assert [get(registry, content, method=method).status for method in ("GET", "HEAD", "DELETE")] == [404] * 3


class TestRange:
    @pytest.mark.parametrize(
        ("asked", "first", "last"), [("0-0", 0, 0), ("500-1499", 500, 1499), ("4990-9", 0, 0), ("-500", -500, None)]
    )
    def test_of_one(self, registry: Registry, content: bytes, asked: str, first: int, last: int | None) -> None:
        registry.push_blob(content)
        answer = get(registry, content, {"Range": f"bytes={asked}"})
        if asked == "4990-9":
            assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(content)}")
            assert answer.code == "RANGE_INVALID"
            return
        size = len(content)
        start, end = first % size, size - 1 if last is None else last
        assert (answer.status, answer.body) == (206, content[start : end + 1])
        assert answer.headers["content-range"] == f"bytes {start}-{end}/{size}"
        assert answer.headers["content-length"] == str(end - start + 1)

    def test_over_the_end_is_cut(self, registry: Registry, content: bytes) -> None:
        registry.push_blob(content)
        size = len(content)
        answer = get(registry, content, {"Range": f"bytes={size - 10}-{size + 10}"})
        assert (answer.status, answer.body) == (206, content[-10:])
        assert answer.headers["content-range"] == f"bytes {size - 10}-{size - 1}/{size}"

    def test_of_an_empty_blob_is_the_whole_of_it(self, registry: Registry) -> None:
        registry.push_blob(b"")
        answer = get(registry, b"", {"Range": "bytes=0-"})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert get(registry, b"", method="HEAD").headers["content-length"] == "0"

    def test_is_heeded_only_for_the_content_that_if_range_names(self, registry: Registry, content: bytes) -> None:
        digest = registry.push_blob(content)
        assert get(registry, content, {"Range": "bytes=0-9", "If-Range": f'"{digest}"'}).status == 206
        assert get(registry, content, {"Range": "bytes=0-9", "If-Range": '"other"'}).body == content

    def test_of_several_comes_in_parts(self, registry: Registry, content: bytes) -> None:
        registry.push_blob(content)
        answer = get(registry, content, {"Range": "bytes=100-199,0-9,4000-"})
        assert answer.status == 206
        assert parts(answer) == [
            (f"bytes 100-199/{len(content)}", content[100:200]),
            (f"bytes 0-9/{len(content)}", content[:10]),
            (f"bytes 4000-{len(content) - 1}/{len(content)}", content[4000:]),
        ]

    def test_of_a_thousand_is_served_as_podman_needs_it(self, registry: Registry) -> None:
        registry.push_blob(LARGE)
        firsts = range(100_000, 100_000 + 1024 * 20, 20)
        answer = get(registry, LARGE, {"Range": "bytes=" + ",".join(f"{at}-{at + 9}" for at in firsts)})
        assert [body for _, body in parts(answer)] == [LARGE[at : at + 10] for at in firsts]

    def test_that_makes_no_sense_is_ignored(self, registry: Registry, content: bytes) -> None:
        registry.push_blob(content)
        assert get(registry, content, {"Range": "lines=1-2"}).body == content


def parts(answer: Answered) -> list[tuple[str, bytes]]:
    """(Content-Range, bytes) of each part of a multipart answer."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert answer.headers["content-length"] == str(len(answer.body))
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    assert answer.body.endswith(b"--" + boundary + b"--\r\n")
    assert email.parser.BytesHeaderParser().parsebytes(head).get_content_maintype() == "multipart"
    found = []
    for part in answer.body.split(b"\r\n--" + boundary)[1:-1]:
        fields, _, body = part.partition(b"\r\n\r\n")
        named = email.parser.BytesHeaderParser().parsebytes(fields.removeprefix(b"\r\n"))
        assert named["Content-Type"] == "application/octet-stream"
        found.append((named["Content-Range"], body))
    return found


class TestSlowReader:
    def test_is_given_up_by_the_kernel(self, run_registry: Callable[..., Registry]) -> None:
        registry = run_registry(Settings(idle=0.2, grace=1))
        content = bytes(32_000_000)
        digest = registry.push_blob(content)
        with registry.raw() as connection:
            connection.sendall(f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            served = registry.next_served("GET")
        assert served["milliseconds"] > 200


class TestHttp10:
    def test_client_is_served_and_its_connection_closed(self, registry: Registry) -> None:
        digest = registry.push_blob(LARGE)
        with registry.raw() as connection:
            connection.sendall(f"GET /v2/app/blobs/{digest} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(100_000), b""))
        assert answer.endswith(LARGE)


class TestPipeline:
    def test_of_requests_is_answered_in_order(self, registry: Registry) -> None:
        digests = [registry.push_blob(content) for content in (SMALL, LARGE, b"")]
        asked = [f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n" for digest in digests]
        with registry.raw() as connection:
            connection.sendall(("\r\n".join([*asked[:2], f"{asked[2]}Connection: close\r\n"]) + "\r\n").encode())
            answer = b"".join(iter(lambda: connection.recv(100_000), b""))
        assert answer.index(SMALL) < answer.index(LARGE)
        assert answer.count(b"HTTP/1.1 200 OK") == 3
