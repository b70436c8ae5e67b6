"""What each client sends, byte for byte, and what it goes by in the answers.

The real clients are run elsewhere, where they are installed; here stand the habits that their sources show, so that a
change which would break one of them fails here, by name.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest

from registry.model import Digest
from tests.integration.registry.support import OCI_INDEX, OCI_MANIFEST, Answered, Registry

LAYER = os.urandom(200_000)
DIGEST = Digest.of(LAYER)
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
OCTETS = "Content-Type: application/octet-stream"
ZERO = f"sha256:{'0' * 64}"


class Wire:
    """One connection, and nothing between the test and its bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.socket.close()

    def say(self, line: str, *fields: str, body: bytes = b"") -> Answered:
        """Send a request with just these header fields, read its answer."""
        head = "\r\n".join((f"{line} HTTP/1.1", "Host: registry.test:5000", *fields, "", ""))
        self.socket.sendall(head.encode() + body)
        return self.answer(has_body=not line.startswith("HEAD "))

    def answer(self, *, has_body: bool = True) -> Answered:
        status = int(self.reader.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := self.reader.readline().decode().rstrip("\r\n")) != "":
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        length = int(headers.get("content-length", 0)) if has_body and status not in (204, 304) else 0
        return Answered(status, headers, self.reader.read(length))


@pytest.fixture
def wire(registry: Registry) -> Iterator[Wire]:
    with Wire(registry.port) as found:
        yield found


def manifest(**extra: object) -> bytes:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(Digest.of(CONFIG)),
              "size": len(CONFIG)}  # fmt: skip
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(DIGEST), "size": len(LAYER)}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer], **extra}
    ).encode()


def with_digest(location: str, digest: object = DIGEST) -> str:
    """As every client does: the digest is added to whatever query the Location has."""
    return f"{location}{'&' if '?' in location else '?'}digest={str(digest).replace(':', '%3A')}"


def chunks(*parts: bytes) -> bytes:
    """A body in chunked transfer."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class TestDocker:
    AGENT = "User-Agent: docker/27.3.1 go/go1.22.7 kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client)"

    def test_asks_the_base_first_and_reads_the_version_there(self, wire: Wire) -> None:
        answer = wire.say("GET /v2/", self.AGENT, "Accept-Encoding: gzip", "Connection: close")
        assert (answer.status, answer.headers["docker-distribution-api-version"]) == (200, "registry/2.0")

    def test_tries_to_mount_then_streams_one_patch_and_ends_with_an_empty_put(self, wire: Wire) -> None:
        assert wire.say(f"HEAD /v2/app/blobs/{DIGEST}", self.AGENT).status == 404
        mount = f"POST /v2/app/blobs/uploads/?from=library%2Fdebian&mount={str(DIGEST).replace(':', '%3A')}"
        begun = wire.say(mount, self.AGENT, "Content-Length: 0", "Accept-Encoding: gzip")
        assert begun.status == 202
        assert begun.headers["docker-upload-uuid"]
        chunked = (
            b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (LAYER[:70_000], LAYER[70_000:])) + b"0\r\n\r\n"
        )
        sent = wire.say(f"PATCH {begun.headers['location']}", self.AGENT, "Transfer-Encoding: chunked",
                        "Accept-Encoding: gzip", body=chunked)  # fmt: skip
        assert sent.status == 202
        first, last = map(int, sent.headers["range"].split("-"))  # fmt.Sscanf("%d-%d"): nothing else may stand there
        assert (first, last) == (0, len(LAYER) - 1)
        ended = wire.say(f"PUT {with_digest(sent.headers['location'])}", self.AGENT, "Content-Length: 0")
        assert (ended.status, ended.headers["docker-content-digest"]) == (201, str(DIGEST))
        assert int(wire.say(f"HEAD /v2/app/blobs/{DIGEST}", self.AGENT).headers["content-length"]) == len(LAYER)

    def test_pushes_five_layers_side_by_side(self, registry: Registry) -> None:
        layers = [os.urandom(50_000) for _ in range(5)]

        def push(layer: bytes) -> int:
            with Wire(registry.port) as wire:
                begun = wire.say("POST /v2/app/blobs/uploads/", self.AGENT, "Content-Length: 0")
                sent = wire.say(f"PATCH {begun.headers['location']}", "Transfer-Encoding: chunked", body=chunks(layer))
                return wire.say(
                    f"PUT {with_digest(sent.headers['location'], Digest.of(layer))}", "Content-Length: 0"
                ).status

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(push, layers)) == [201] * 5


class TestContainerdAndBuildKit:
    AGENT = "User-Agent: containerd/2.0.0+unknown"
    ACCEPT = f"Accept: {OCI_MANIFEST}, */*"

    def push(self, wire: Wire, content: bytes) -> None:
        digest = Digest.of(content)
        begun = wire.say(f"POST /v2/app/blobs/uploads/?from=base&mount={digest}", self.AGENT, "Content-Length: 0")
        assert begun.status == 202
        ended = wire.say(f"PUT {with_digest(begun.headers['location'], digest)}", self.AGENT,
                         OCTETS, f"Content-Length: {len(content)}", body=content)  # fmt: skip
        assert ended.status == 201

    def test_looks_with_head_and_needs_digest_type_and_length_there(self, registry: Registry, wire: Wire) -> None:
        digest = registry.push_image()
        answer = wire.say("HEAD /v2/app/manifests/1", self.AGENT, self.ACCEPT)
        assert answer.headers["docker-content-digest"] == str(digest)
        assert answer.headers["content-type"] == OCI_MANIFEST
        assert int(answer.headers["content-length"]) > 0

    def test_sends_the_whole_body_in_one_put_after_a_mount_that_failed(self, wire: Wire) -> None:
        self.push(wire, LAYER)
        self.push(wire, CONFIG)
        put = wire.say("PUT /v2/app/manifests/1", f"Content-Type: {OCI_MANIFEST}", f"Content-Length: {len(manifest())}",
                       body=manifest())  # fmt: skip
        assert put.status == 201

    def test_offers_encodings_and_gets_the_bytes_as_they_are(self, registry: Registry, wire: Wire) -> None:
        registry.push_blob(LAYER)
        offered = "Accept-Encoding: zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"
        answer = wire.say(f"GET /v2/app/blobs/{DIGEST}?ns=docker.io", self.AGENT, offered, "Range: bytes=0-")
        assert "content-encoding" not in answer.headers
        assert answer.body == LAYER

    def test_fetches_parts_side_by_side(self, registry: Registry) -> None:
        registry.push_blob(LAYER)

        def part(first: int) -> bytes:
            with Wire(registry.port) as wire:
                answer = wire.say(f"GET /v2/app/blobs/{DIGEST}", self.AGENT, f"Range: bytes={first}-{first + 49_999}")
                assert (answer.status, answer.headers["content-range"]) == (
                    206,
                    f"bytes {first}-{first + 49_999}/200000",
                )
                return answer.body

        with ThreadPoolExecutor(4) as pool:
            assert b"".join(pool.map(part, range(0, 200_000, 50_000))) == LAYER

    def test_pushes_attestations_of_no_platform_and_caches_of_a_type_of_its_own(self, registry: Registry) -> None:
        registry.push_blob(LAYER)
        attestation = registry.image(annotations={"vnd.docker.reference.type": "attestation-manifest"})
        assert registry.put_manifest(attestation, f"/v2/app/manifests/{Digest.of(attestation)}").status == 201
        entry = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(attestation)), "size": len(attestation),
                 "platform": {"architecture": "unknown", "os": "unknown"}}  # fmt: skip
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        assert registry.put_manifest(index, "/v2/app/manifests/latest", OCI_INDEX).status == 201
        cache = registry.push_blob(b'{"layers":[],"records":[]}')
        entries = [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(DIGEST), "size": len(LAYER)},
            {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": str(cache), "size": 26},
        ]
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        assert registry.put_manifest(index, "/v2/app/manifests/cache", OCI_INDEX).status == 201


class TestPodman:
    """containers/image: also skopeo and buildah."""

    AGENT = "User-Agent: containers/5.34.0 (github.com/containers/image)"
    VERSION = "Docker-Distribution-API-Version: registry/2.0"

    def test_takes_only_202_and_201_and_cancels_the_session_of_a_failed_mount(self, wire: Wire) -> None:
        mount = f"POST /v2/app/blobs/uploads/?mount={DIGEST}&from=other"
        tried = wire.say(mount, self.AGENT, self.VERSION, "Content-Length: 0")
        assert tried.status == 202
        assert wire.say(f"DELETE {tried.headers['location']}", self.AGENT, self.VERSION).status == 204
        begun = wire.say("POST /v2/app/blobs/uploads/", self.AGENT, self.VERSION, "Content-Length: 0")
        fields = (self.AGENT, "Transfer-Encoding: chunked", "Content-Type: application/octet-stream", self.VERSION)
        sent = wire.say(f"PATCH {begun.headers['location']}", *fields, body=chunks(LAYER))
        assert (begun.status, sent.status) == (202, 202)
        ended = wire.say(f"PUT {with_digest(sent.headers['location'])}", self.AGENT, "Content-Length: 0",
                         "Content-Type: application/octet-stream")  # fmt: skip
        assert ended.status == 201

    def test_fetches_chunks_in_one_request_and_pairs_them_by_position(self, registry: Registry, wire: Wire) -> None:
        registry.push_blob(LAYER)
        wanted = [(150_000, 150_009), (0, 99), (100, 199), (70_000, 80_000)]  # out of order, and two that touch
        asked = ",".join(f"{first}-{last}" for first, last in wanted)
        answer = wire.say(
            f"GET /v2/app/blobs/{DIGEST}", self.AGENT, f"Range: bytes={asked}", "Accept-Encoding: identity"
        )
        assert answer.status == 206
        found = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", answer.headers["content-type"])
        assert found
        parts = answer.body.split(f"\r\n--{found[1]}".encode())[1:-1]
        assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [LAYER[first : last + 1] for first, last in wanted]


class TestCrane:
    """go-containerregistry."""

    AGENT = "User-Agent: crane/v0.20.2 go-containerregistry/v0.20.2"

    def test_posts_patches_and_puts(self, wire: Wire) -> None:
        assert wire.say("GET /v2/", self.AGENT).status == 200
        begun = wire.say(
            "POST /v2/app/blobs/uploads/", self.AGENT, "Content-Length: 0", "Content-Type: application/json"
        )
        sent = wire.say(f"PATCH {begun.headers['location']}", self.AGENT, f"Content-Length: {len(LAYER)}", body=LAYER)
        assert sent.status == 202
        assert not sent.headers["location"].startswith("http"), "an absolute one may point where the client may not go"
        assert wire.say(f"PUT {with_digest(sent.headers['location'])}", self.AGENT, "Content-Length: 0").status == 201

    def test_needs_three_headers_of_a_manifests_head(self, registry: Registry, wire: Wire) -> None:
        digest = registry.push_image()
        answer = wire.say("HEAD /v2/app/manifests/1", self.AGENT, f"Accept: {OCI_MANIFEST},{OCI_INDEX}")
        assert (answer.headers["content-type"], answer.headers["docker-content-digest"]) == (OCI_MANIFEST, str(digest))
        assert int(answer.headers["content-length"]) == len(registry.ask("GET", "/v2/app/manifests/1").body)


class TestRegctl:
    AGENT = "User-Agent: regclient/regctl (v0.8.0)"

    def test_goes_on_after_416_from_the_location_and_range_there(self, wire: Wire) -> None:
        begun = wire.say("POST /v2/app/blobs/uploads/", self.AGENT, "Content-Length: 0")
        fields = (self.AGENT, "Content-Type: application/octet-stream")
        wire.say(f"PATCH {begun.headers['location']}", *fields, "Content-Length: 1000", "Content-Range: 0-999",
                 body=LAYER[:1000])  # fmt: skip
        wrong = wire.say(f"PATCH {begun.headers['location']}", *fields, "Content-Length: 1000",
                         "Content-Range: 5000-5999",
                         body=LAYER[5000:6000])  # fmt: skip
        assert (wrong.status, wrong.headers["range"]) == (416, "0-999")
        rest = LAYER[1000:]
        done = wire.say(f"PATCH {wrong.headers['location']}", *fields, f"Content-Length: {len(rest)}",
                        f"Content-Range: 1000-{len(LAYER) - 1}", body=rest)  # fmt: skip
        assert (done.status, done.headers["range"]) == (202, f"0-{len(LAYER) - 1}")
        assert wire.say(f"PUT {with_digest(done.headers['location'])}", self.AGENT, "Content-Length: 0").status == 201

    def test_deletes_a_tag_and_believes_only_202(self, registry: Registry, wire: Wire) -> None:
        digest = registry.push_image()
        assert wire.say("DELETE /v2/app/manifests/1", self.AGENT).status == 202
        assert wire.say(f"HEAD /v2/app/manifests/{digest}", self.AGENT).status == 200

    def test_pushes_many_tags_at_once_and_reads_which_were_made(self, registry: Registry, wire: Wire) -> None:
        content = registry.image()
        tags = [f"v{number}" for number in range(12)]
        query = "&".join(f"tag={tag}" for tag in tags)
        answer = wire.say(f"PUT /v2/app/manifests/{Digest.of(content)}?{query}", self.AGENT,
                          f"Content-Type: {OCI_MANIFEST}", f"Content-Length: {len(content)}", body=content)  # fmt: skip
        assert answer.status == 201
        assert answer.headers["oci-tag"].split(", ") == tags


class TestOras:
    """oras-go: also helm."""

    AGENT = "User-Agent: oras/1.2.0"

    def test_asks_for_referrers_of_nothing_to_learn_whether_we_list_them(self, wire: Wire) -> None:
        answer = wire.say(f"GET /v2/never/seen/referrers/{ZERO}", self.AGENT)
        assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)

    def test_pushes_a_chart_by_post_and_put(self, wire: Wire) -> None:
        begun = wire.say("POST /v2/charts/web/blobs/uploads/", "User-Agent: Helm/3.16.0", "Content-Length: 0")
        ended = wire.say(f"PUT {with_digest(begun.headers['location'])}", "User-Agent: Helm/3.16.0",
                         f"Content-Length: {len(LAYER)}", OCTETS, body=LAYER)  # fmt: skip
        assert ended.status == 201


class TestCosign:
    AGENT = "User-Agent: cosign/v2.4.1 (linux; amd64)"

    def test_looks_for_a_signature_and_needs_a_clean_404(self, registry: Registry, wire: Wire) -> None:
        registry.push_image()
        answer = wire.say(f"GET /v2/app/manifests/sha256-{'a' * 64}.sig", self.AGENT, f"Accept: {OCI_MANIFEST}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")

    def test_attaches_a_bundle_as_a_referrer_and_finds_it_by_type(self, registry: Registry, wire: Wire) -> None:
        digest = registry.push_image()
        kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
        subject = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 1}
        content = registry.image(subject=subject, artifactType=kind)
        registry.put_manifest(content, f"/v2/app/manifests/{Digest.of(content)}")
        answer = wire.say(f"GET /v2/app/referrers/{digest}?artifactType={kind.replace('/', '%2F').replace('+', '%2B')}",
                          self.AGENT)  # fmt: skip
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert [entry["artifactType"] for entry in answer.json["manifests"]] == [kind]


class TestSnapshotters:
    """stargz, SOCI and nydus read single files out of layers."""

    def test_need_a_type_and_a_digest_and_several_ranges_at_once(self, registry: Registry, wire: Wire) -> None:
        registry.push_blob(LAYER)
        whole = wire.say(f"GET /v2/app/blobs/{DIGEST}", "Range: bytes=0-1", "Accept-Encoding: identity")
        assert (whole.status, whole.headers["content-type"]) == (206, "application/octet-stream")
        parts = wire.say(f"GET /v2/app/blobs/{DIGEST}", "Range: bytes=0-9,100000-100009", "Accept-Encoding: identity")
        assert parts.status == 206
        assert parts.headers["content-type"].startswith("multipart/byteranges")

    def test_read_the_footer_by_a_range_from_the_end(self, registry: Registry, wire: Wire) -> None:
        registry.push_blob(LAYER)
        answer = wire.say(f"GET /v2/app/blobs/{DIGEST}", "Range: bytes=-51")
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(LAYER[-51:]).digest()


def test_a_session_continues_on_another_server_for_every_way_to_go_on(
    registry: Registry, run_registry: Callable[..., Registry]
) -> None:
    other = run_registry()
    location = registry.start()
    with Wire(registry.port) as here, Wire(other.port) as there:
        here.say(f"PATCH {location}", "Content-Length: 100000", body=LAYER[:100_000])
        assert there.say(f"GET {location}").headers["range"] == "0-99999"
        there.say(f"PATCH {location}", "Content-Length: 100000", body=LAYER[100_000:])
        assert here.say(f"PUT {with_digest(location)}", "Content-Length: 0").status == 201
