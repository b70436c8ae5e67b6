"""Pushing blobs (distribution-spec "Pushing blobs"), in every way that some client does it."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from registry.model import Digest
from registry.server.state import Settings
from tests.integration.registry.support import Answered, Client, Registry, Served

CONTENT = os.urandom(300_000)
DIGEST = Digest.of(CONTENT)


def pulled(client: Client, digest: Digest = DIGEST, repo: str = "app") -> bytes:
    answer = client.ask("GET", f"/v2/{repo}/blobs/{digest}")
    assert answer.status == 200, answer
    return answer.body


class TestPushInOnePiece:
    def test_by_post_alone(self, registry: Registry) -> None:
        answer = registry.ask("POST", f"/v2/app/blobs/uploads/?digest={DIGEST}", CONTENT)
        assert answer.status == 201
        assert answer.headers["location"] == f"/v2/app/blobs/{DIGEST}"
        assert answer.headers["docker-content-digest"] == str(DIGEST)
        assert pulled(registry) == CONTENT

    def test_by_post_then_put(self, registry: Registry) -> None:
        started = registry.ask("POST", "/v2/app/blobs/uploads/")
        assert (started.status, started.headers["range"]) == (202, "0-0")
        assert started.headers["docker-upload-uuid"] in started.headers["location"]
        answer = registry.ask("PUT", f"{started.headers['location']}?digest={DIGEST}", CONTENT)
        assert (answer.status, answer.headers["location"]) == (201, f"/v2/app/blobs/{DIGEST}")
        assert pulled(registry) == CONTENT

    def test_of_nothing_at_all(self, registry: Registry) -> None:
        assert pulled(registry, registry.push_blob(b"")) == b""

    def test_of_bytes_that_claim_an_encoding_keeps_them_as_they_came(self, registry: Registry) -> None:
        answer = registry.ask("POST", f"/v2/app/blobs/uploads/?digest={DIGEST}", CONTENT, {"Content-Encoding": "gzip"})
        assert answer.status == 201
        assert pulled(registry) == CONTENT

    @pytest.mark.parametrize("spelled", ["", "?digest-algorithm=sha512"])
    def test_under_sha512(self, registry: Registry, spelled: str) -> None:
        digest = Digest.of(CONTENT, "sha512")
        answer = registry.ask("PUT", f"{registry.start(query=spelled)}?digest={digest}", CONTENT)
        assert answer.status == 201
        assert pulled(registry, digest) == CONTENT
        assert registry.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 404

    def test_again_is_welcome(self, registry: Registry) -> None:
        assert registry.push_blob(CONTENT) == registry.push_blob(CONTENT)


class TestPushAsDockerDoes:
    """POST, one PATCH without Content-Range in chunked transfer, an empty PUT."""

    def test_works(self, registry: Registry) -> None:
        location = registry.start()

        def stream() -> Iterator[bytes]:
            for at in range(0, len(CONTENT), 70_000):
                yield CONTENT[at : at + 70_000]

        answer = registry.ask("PATCH", location, stream(), encode_chunked=True)
        assert (answer.status, answer.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
        assert registry.ask("PUT", f"{answer.headers['location']}?digest={DIGEST}").status == 201
        assert pulled(registry) == CONTENT

    def test_in_crumbs_takes_no_longer_than_it_must(self, registry: Registry) -> None:
        """CVE-2025-69229: the cost of tiny chunks must not grow with what is there already."""
        crumbs = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
        with registry.raw() as connection:
            head = f"PATCH {registry.start()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + crumbs)
            assert b"Range: 0-99999\r\n" in connection.recv(10_000)
        assert registry.next_served("PATCH")["milliseconds"] < 5_000


class TestPushInChunks:
    def chunk(self, client: Client, location: str, first: int, content: bytes, method: str = "PATCH") -> Answered:
        return client.ask(method, location, content, {"Content-Range": f"{first}-{first + len(content) - 1}"})

    def test_each_says_how_far_it_came(self, registry: Registry) -> None:
        location = registry.start()
        for first in (0, 100_000):
            answer = self.chunk(registry, location, first, CONTENT[first : first + 100_000])
            assert (answer.status, answer.headers["range"]) == (202, f"0-{first + 99_999}")
            location = answer.headers["location"]
        last = self.chunk(registry, f"{location}?digest={DIGEST}", 200_000, CONTENT[200_000:], "PUT")
        assert last.status == 201
        assert pulled(registry) == CONTENT

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_out_of_order_is_refused_and_the_status_says_where_to_go_on(self, registry: Registry, method: str) -> None:
        location = registry.start()
        self.chunk(registry, location, 0, CONTENT[:1000])
        query = f"?digest={DIGEST}" if method == "PUT" else ""
        for first in (0, 999, 1001):
            refused = self.chunk(registry, location + query, first, CONTENT[first : first + 1000], method)
            assert (refused.status, refused.code) == (416, "BLOB_UPLOAD_INVALID")
            assert (refused.headers["range"], refused.headers["location"]) == ("0-999", location)
        status = registry.ask("GET", location)
        assert (status.status, status.body) == (204, b"")
        assert (status.headers["range"], status.headers["location"]) == ("0-999", location)
        assert status.headers["docker-upload-uuid"] in location
        assert registry.ask("PUT", f"{location}?digest={DIGEST}", CONTENT[1000:]).status == 201
        assert pulled(registry) == CONTENT

    def test_with_a_range_that_is_not_its_length_is_refused(self, registry: Registry) -> None:
        answer = registry.ask("PATCH", registry.start(), b"12345", {"Content-Range": "0-99"})
        assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")


class TestBrokenUpload:
    def cut_off(self, client: Client, location: str, sent: bytes) -> None:
        with client.raw() as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
            connection.sendall(head.encode() + sent)

    def wait_until_at(self, client: Client, location: str, size: int) -> None:
        """The server learns of the broken connection a moment after we broke it."""
        for _ in range(1000):
            if client.ask("GET", location).headers["range"] == f"0-{size - 1}":
                break
        for _ in range(1000):  # until it has let the upload go
            if client.ask("PATCH", location, b"").status == 202:
                return
        pytest.fail("the upload does not reach what was sent")

    def test_goes_on_where_the_connection_broke(self, registry: Registry) -> None:
        location = registry.start()
        self.cut_off(registry, location, CONTENT[:123_456])
        self.wait_until_at(registry, location, 123_456)
        registry.ask("PATCH", location, CONTENT[123_456:], {"Content-Range": f"123456-{len(CONTENT) - 1}"})
        assert registry.ask("PUT", f"{location}?digest={DIGEST}").status == 201
        assert pulled(registry) == CONTENT

    def test_goes_on_at_another_server_with_the_same_root(self, run_registry: Callable[..., Registry]) -> None:
        one, other = run_registry(), run_registry()
        location = one.start()
        one.ask("PATCH", location, CONTENT[:200_000])
        assert other.ask("GET", location).headers["range"] == "0-199999"
        other.ask("PATCH", location, CONTENT[200_000:250_000])
        assert one.ask("PUT", f"{location}?digest={DIGEST}", CONTENT[250_000:]).status == 201
        assert pulled(other) == CONTENT

    def test_with_broken_framing_is_refused_in_the_form_of_the_api(self, registry: Registry) -> None:
        with registry.raw() as connection:
            head = f"PATCH {registry.start()} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + b"5\r\n12345\r\nnonsense\r\n")
            head, _, body = connection.recv(1000).partition(b"\r\n\r\n")
        assert b" 400 " in head
        assert json.loads(body)["errors"][0]["code"] == "BAD_REQUEST"
        assert b"aiohttp" not in head

    def test_of_a_client_that_stops_sending_ends_with_408(self, run_registry: Callable[..., Registry]) -> None:
        registry = run_registry(Settings(idle=0.3, grace=1))
        location = registry.start()
        with registry.raw() as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode() + b"12345")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert registry.ask("GET", location).headers["range"] == "0-4"


class TestBadUpload:
    @pytest.mark.parametrize(
        "digest", [Digest.of(b"other"), "sha256:abc", f"sha256:{'A' * 64}", "md5:" + "0" * 32, "", "sha256:../../x"]
    )
    def test_under_a_wrong_digest_is_refused_and_leaves_no_blob(self, registry: Registry, digest: object) -> None:
        for answer in (
            registry.ask("PUT", f"{registry.start()}?digest={digest}", CONTENT),
            registry.ask("POST", f"/v2/app/blobs/uploads/?digest={digest}", CONTENT),
        ):
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
        assert registry.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 404

    def test_without_a_digest_is_refused(self, registry: Registry) -> None:
        answer = registry.ask("PUT", registry.start(), CONTENT)
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")

    def test_of_an_unknown_algorithm_is_refused(self, registry: Registry) -> None:
        answer = registry.ask("POST", "/v2/app/blobs/uploads/?digest-algorithm=md5")
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")

    @pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
    def test_session_of_another_repository_is_unknown(self, registry: Registry, method: str) -> None:
        """CVE-2026-32589: a session's id alone gives no right to it."""
        location = registry.start("mine").replace("/mine/", "/other/") + f"?digest={DIGEST}"
        answer = registry.ask(method, location, CONTENT if method[0] == "P" else None)
        assert answer.status == 404
        assert answer.code == "BLOB_UPLOAD_UNKNOWN"

    @pytest.mark.parametrize("identity", ["0" * 32, "x", "..", "%2e%2e", "a" * 5000, "1;2"])
    def test_session_that_does_not_exist_is_unknown(self, registry: Registry, identity: str) -> None:
        answer = registry.ask("PATCH", f"/v2/app/blobs/uploads/{identity}", b"x")
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_can_be_cancelled(self, registry: Registry) -> None:
        location = registry.start()
        registry.ask("PATCH", location, CONTENT)
        assert registry.ask("DELETE", location).status == 204
        assert registry.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"

    def test_that_the_disk_has_no_room_for_is_507_and_the_server_goes_on(
        self, root: Path, run_registry: Callable[..., Registry]
    ) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", root], check=True)
        try:
            registry = run_registry()
            answer = registry.ask("PATCH", registry.start(), b"0" * 8_000_000)
            assert answer.status == 507
            assert "space" in answer.json["errors"][0]["message"] or "full" in answer.json["errors"][0]["message"]
            registry.agent.close()  # what is left of the body makes the connection useless
            assert pulled(registry, registry.push_blob(b"1" * 1_000_000)), "what filled the disk was not given up"
            with (root / "filler").open("wb") as filler, suppress(OSError):
                while filler.write(b"0" * 65536):
                    filler.flush()
            registry.agent.close()
            assert registry.ask("POST", f"/v2/app/blobs/uploads/?digest={DIGEST}", CONTENT).status == 507
            (root / "filler").unlink()
            registry.agent.close()
            assert pulled(registry, registry.push_blob(CONTENT)) == CONTENT, "does not recover"
            registry.stop()
        finally:
            subprocess.run(["umount", "-l", root], check=True)


class TestLeaveToSend:
    """RFC 9110 "Expect": the client waits for 100 before it sends a large body."""

    def expecting(self, path: str) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\nExpect: 100-continue\r\n\r\n"
        ).encode()

    def test_is_given_when_the_request_is_good(self, registry: Registry) -> None:
        with registry.raw() as connection:
            connection.sendall(self.expecting(f"/v2/app/blobs/uploads/?digest={DIGEST}"))
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(CONTENT)
            assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")

    def test_is_not_given_when_it_would_be_refused_anyway(self, registry: Registry) -> None:
        with registry.raw() as connection:
            connection.sendall(self.expecting("/v2/app/blobs/uploads/?digest=nonsense"))
            answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Connection: close" in answer


class TestMount:
    def test_links_the_blob_without_sending_it(self, registry: Registry) -> None:
        registry.push_blob(CONTENT, "base")
        answer = registry.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}&from=base")
        assert (answer.status, answer.headers["location"]) == (201, f"/v2/app/blobs/{DIGEST}")
        assert pulled(registry) == CONTENT

    def test_without_a_source_finds_it_anywhere(self, registry: Registry) -> None:
        registry.push_blob(CONTENT, "base")
        assert registry.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}").status == 201
        assert pulled(registry) == CONTENT

    @pytest.mark.parametrize("source", ["empty", "..", "UPPER", "a%00"])
    def test_of_what_the_source_lacks_starts_an_upload(self, registry: Registry, source: str) -> None:
        registry.push_blob(CONTENT, "base")
        answer = registry.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}&from={source}")
        assert answer.status == 202
        assert registry.ask("HEAD", f"/v2/app/blobs/{DIGEST}").status == 404
        assert registry.ask("PUT", f"{answer.headers['location']}?digest={DIGEST}", CONTENT).status == 201

    def test_of_a_malformed_digest_is_refused(self, registry: Registry) -> None:
        assert registry.ask("POST", "/v2/app/blobs/uploads/?mount=sha256:x&from=base").code == "DIGEST_INVALID"


class TestManyUploads:
    def test_at_once_all_arrive(self, registry: Registry) -> None:
        contents = [os.urandom(3_000_000 + number) for number in range(6)]
        together = threading.Barrier(len(contents))

        def push(content: bytes) -> Digest:
            client = Client(registry.port)
            together.wait()
            try:
                return client.push_blob(content)
            finally:
                client.agent.close()

        with ThreadPoolExecutor(len(contents)) as pool:
            digests = list(pool.map(push, contents))
        assert [registry.store.read(digest) for digest in digests] == contents

    def test_of_any_size_take_little_memory(self, serve_program: Callable[..., Served]) -> None:
        server = serve_program("-q")
        server.push_blob(b"warm")
        before = peak_memory(server.process.pid)
        zeros, size = bytes(1_000_000), 150
        digest = hashlib.sha256(zeros * size).hexdigest()
        answer = server.ask(
            "POST", f"/v2/app/blobs/uploads/?digest=sha256:{digest}", (zeros for _ in range(size)), encode_chunked=True
        )
        assert answer.status == 201
        assert peak_memory(server.process.pid) - before < 16 * 1024


class TestCollectionOfGarbage:
    def test_never_takes_what_a_push_or_a_pull_still_needs(self, registry: Registry) -> None:
        done = threading.Event()

        def collect() -> int:
            runs = 0
            while not done.is_set():
                registry.store.collect(grace_seconds=0)
                runs += 1
            return runs

        with ThreadPoolExecutor(1) as pool:
            collecting = pool.submit(collect)
            try:
                for number in range(40):
                    layer = f"layer {number % 3}".encode()  # the same content comes and goes
                    digest = registry.push_image(f"app{number % 4}", layer=layer)
                    assert pulled(registry, Digest.of(layer), f"app{number % 4}") == layer
                    registry.ask("DELETE", f"/v2/app{number % 4}/manifests/{digest}")
                    registry.ask("DELETE", f"/v2/app{number % 4}/blobs/{Digest.of(layer)}")
            finally:
                done.set()
            assert collecting.result() > 0


def peak_memory(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
