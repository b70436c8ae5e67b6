"""What a registry may answer, however bad: a clear error or success, bounded, and a store that is as it was."""

import contextlib
import itertools
import json
import random
import re
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.client import ClientSettings, pull
from registry.errors import (
    DigestInvalid,
    DiskFull,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    SizeInvalid,
    TransferError,
    Unauthorized,
)
from registry.model import Descriptor, Digest, Index, Manifest, MediaType, Platform, Reference
from registry.storage import ContentStore
from tests.integration.client.fake import FakeRegistry, Reply, Seen, json_reply

BIG = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def fetch(store: ContentStore, settings: ClientSettings, fake: FakeRegistry) -> Callable[..., Digest]:
    def run(name: str = "app:1", **options: object) -> Digest:
        return pull(store, Reference.parse(f"{fake.domain}/{name}"), settings=settings, **options)

    return run


@pytest.fixture
def refused(store: ContentStore, fetch: Callable[..., Digest]) -> Callable[..., RegistryError]:
    """Pull, expect an error with advice, and prove that nothing of it stays."""

    def run(kind: type[RegistryError], name: str = "app:1", **options: object) -> RegistryError:
        with pytest.raises(kind) as caught:
            fetch(name, **options)
        assert caught.value.hint
        assert store.images() == []
        assert store.untagged() == []
        store.collect(grace_seconds=0)
        assert store.collect(grace_seconds=0, dry_run=True).leftovers == 0
        assert not [path for path in (store.root / "blobs").rglob("*") if path.is_file()]
        return caught.value

    return run


def endless() -> Iterator[bytes]:
    return itertools.repeat(b"x" * 65536)


def hold(fake: FakeRegistry) -> Iterator[bytes]:
    """Nothing, until the registry is closed."""
    fake._done.wait(20)
    yield b""


class TestNonsense:
    def test_a_web_page_is_no_manifest(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        page = Reply(200, b"<html>Welcome to nginx</html>", {"Content-Type": "text/html"})
        fake.on("GET", "/manifests/", page)
        assert "not an image manifest" in str(refused(ManifestInvalid))

    def test_something_that_does_not_speak_http(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        fake.on("GET", "/v2/$", Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"))
        refused(TransferError)

    def test_nobody_there(self, fake: FakeRegistry, refused: Callable[..., RegistryError], waits: list[float]) -> None:
        fake.close()
        refused(TransferError)
        assert waits == []

    def test_an_unknown_image(self, refused: Callable[..., RegistryError], fake: FakeRegistry) -> None:
        assert f"{fake.domain}/app:1" in str(refused(ManifestUnknown))

    def test_escapes_for_a_terminal_in_an_error_are_taken_out(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        fake.add_image()
        evil = json_reply({"errors": [{"code": "DENIED", "message": "\x1b]0;owned\x07no"}]}, 400)
        fake.on("GET", "/manifests/", evil)
        message = str(refused(TransferError))
        assert "\x1b" not in message
        assert "no" in message

    def test_an_unknown_answer_in_a_header(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        fake.add_image()
        fake.on("GET", "/manifests/", Reply(302, b"", {"Location": "gopher://127.0.0.1/"}))
        refused(TransferError)


class TestBrokenBodies:
    def test_a_blob_that_breaks_off_is_resumed_where_it_stood(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], store: ContentStore
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        layer = manifest.layers[0].digest
        cut = 300_000
        fake.on("GET", f"/blobs/{layer}", Reply(200, BIG, cut=cut), lambda seen: fake.serve_blob(seen, str(layer)))
        fetch()
        assert [seen.headers.get("range") for seen in fake.seen("GET", f"/blobs/{layer}")] == [None, f"bytes={cut}-"]
        assert store.path(layer).read_bytes() == BIG

    def test_it_may_break_off_more_often_than_a_request_is_tried_while_it_moves(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], store: ContentStore
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        layer = manifest.layers[0].digest

        def a_little(seen: Seen) -> Reply:
            reply = fake.serve_blob(seen, str(layer))
            reply.cut = 100_000
            return reply

        fake.on("GET", f"/blobs/{layer}", a_little)
        fetch()
        assert store.path(layer).read_bytes() == BIG

    def test_a_registry_that_ignores_ranges_sends_all_again(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], store: ContentStore
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        layer = manifest.layers[0].digest
        fake.on("GET", f"/blobs/{layer}", Reply(200, BIG, cut=300_000), Reply(200, BIG))
        fetch()
        assert store.path(layer).read_bytes() == BIG

    def test_another_range_than_was_asked_for(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        manifest = fake.add_image(layers=[BIG])
        wrong = Reply(206, BIG[10:], {"Content-Range": f"bytes 10-{len(BIG) - 1}/{len(BIG)}"})
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", Reply(200, BIG, cut=300_000), wrong)
        assert "range" in str(refused(TransferError))

    def test_never_more_than_half_a_body(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError], settings: ClientSettings
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", Reply(200, BIG, cut=500_000), Reply(503))
        refused(TransferError)
        assert len(fake.seen("GET", f"/blobs/{manifest.layers[0].digest}")) == settings.tries

    def test_half_a_manifest(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        manifest = fake.add_image()
        fake.on("GET", "/manifests/", Reply(200, manifest.to_bytes(), {"Content-Type": manifest.media_type}, cut=50))
        refused(TransferError)

    def test_a_registry_that_falls_silent(self, fake: FakeRegistry, store: ContentStore, waits: list[float]) -> None:
        fake.on("GET", "/manifests/", Reply(hang=True))
        impatient = ClientSettings(read_timeout=0.1, tries=2, pause=waits.append)
        with pytest.raises(TransferError, match="does not answer in time"):
            pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=impatient)
        assert len(waits) == 1

    def test_a_registry_that_sends_a_byte_now_and_then(
        self, fake: FakeRegistry, store: ContentStore, waits: list[float]
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        tick = threading.Event()

        def drops(seen: Seen) -> Reply:
            return Reply(200, itertools.takewhile(lambda _: not tick.wait(0.1), itertools.repeat(b"x")))

        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", drops)
        impatient = ClientSettings(read_timeout=0.3, tries=2, pause=waits.append)
        with pytest.raises(TransferError, match="next to nothing"):
            pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=impatient)
        tick.set()


class TestEndlessBodies:
    """CVE-2020-1702: what is read whole has a limit."""

    @pytest.fixture(autouse=True)
    def bounded_memory(self) -> Iterator[None]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB

    def test_manifest(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        fake.on("GET", "/manifests/", Reply(200, endless(), {"Content-Type": MediaType.OCI_MANIFEST}))
        assert "more than" in str(refused(TransferError))

    def test_error(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        fake.on("GET", "/manifests/", Reply(400, endless()))
        refused(TransferError)

    def test_greeting(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        fake.on("GET", "/v2/$", Reply(200, endless()))
        refused(TransferError)

    def test_token(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        bearer = f'Bearer realm="http://{fake.domain}/token",service="x"'
        fake.on("GET", "/v2/", Reply(401, b"", {"WWW-Authenticate": bearer}))
        fake.on("GET", "/token", Reply(200, endless()))
        refused(TransferError)

    def test_blob(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        manifest = fake.add_image(layers=[BIG])
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", Reply(200, endless()))
        assert "more than" in str(refused(SizeInvalid))


class TestLies:
    def test_other_bytes_for_a_pinned_digest(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        """CVE-2025-24882."""
        honest = fake.add_image("app", "1")
        fake.add_image("app", "2", layers=[b"other"])
        fake.manifests[f"app/{Digest.of(honest.to_bytes())}"] = fake.manifests["app/2"]
        refused(DigestInvalid, f"app@{Digest.of(honest.to_bytes())}")

    def test_a_digest_in_the_header_that_the_body_does_not_have(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        manifest = fake.add_image()
        told = {"Content-Type": manifest.media_type, "Docker-Content-Digest": f"sha256:{'0' * 64}"}
        fake.on("HEAD", "/manifests/", Reply(404))
        fake.on("GET", "/manifests/", Reply(200, manifest.to_bytes(), told))
        refused(DigestInvalid)

    def test_another_blob_of_the_same_size(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        manifest = fake.add_image(layers=[BIG])
        fake.blobs[str(manifest.layers[0].digest)] = b"y" * len(BIG)
        refused(DigestInvalid)

    @pytest.mark.parametrize("difference", [-1, 1, 10**15])
    def test_a_size_in_the_manifest_that_the_blob_does_not_have(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError], difference: int
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        body = json.loads(manifest.to_bytes())
        body["layers"][0]["size"] += difference
        fake.add_manifest("app", "1", json.dumps(body).encode(), MediaType.OCI_MANIFEST)
        refused(SizeInvalid)

    def test_a_negative_size(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        body = json.loads(fake.add_image().to_bytes())
        body["layers"][0]["size"] = -5
        fake.add_manifest("app", "1", json.dumps(body).encode(), MediaType.OCI_MANIFEST)
        refused(SizeInvalid)

    def test_a_blob_with_a_length_that_is_not_in_the_manifest(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        manifest = fake.add_image(layers=[BIG])
        fake.blobs[str(manifest.layers[0].digest)] = BIG + b"more"
        refused(SizeInvalid)

    @pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "sha256:ABC", "sha256:" + "A" * 64, "md5:00"])
    def test_a_digest_that_is_none(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError], digest: str
    ) -> None:
        """CVE-2024-3727: it must not become a path or a URL."""
        body = json.loads(fake.add_image().to_bytes())
        body["layers"][0]["digest"] = digest
        fake.add_manifest("app", "1", json.dumps(body).encode(), MediaType.OCI_MANIFEST)
        refused(DigestInvalid)
        assert not fake.seen("GET", "/blobs/")

    def test_a_manifest_sent_as_an_index(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        """CVE-2021-41190: type confusion."""
        manifest = fake.add_image()
        fake.add_manifest("app", "1", manifest.to_bytes(), MediaType.OCI_INDEX)
        refused(ManifestInvalid)

    def test_an_image_and_an_index_at_once(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        body = json.loads(fake.add_image().to_bytes()) | {"manifests": []}
        fake.add_manifest("app", "1", json.dumps(body).encode(), MediaType.OCI_MANIFEST)
        assert "both" in str(refused(ManifestInvalid))

    def test_an_index_that_lies_about_the_type_of_a_child(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        child = fake.add_image("app", None).to_bytes()
        entry = Descriptor(MediaType.DOCKER_MANIFEST, Digest.of(child), len(child), platform=Platform("linux", "amd64"))
        index = Index(MediaType.OCI_INDEX, (entry,))
        fake.add_manifest("app", "1", index.to_bytes(), MediaType.OCI_INDEX)
        refused(ManifestInvalid)

    def test_a_config_for_another_number_of_layers(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        manifest = fake.add_image(layers=[b"one", b"two"])
        short = Manifest(manifest.media_type, manifest.config, manifest.layers[:1])
        fake.add_manifest("app", "1", short.to_bytes(), MediaType.OCI_MANIFEST)
        assert "1 layers" in str(refused(ManifestInvalid))

    def test_an_index_that_lists_itself_deep_down_is_bounded(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError]
    ) -> None:
        content, size = fake.add_image("app", None).to_bytes(), 0
        for _ in range(10):
            entry = Descriptor(
                MediaType.OCI_INDEX if size else MediaType.OCI_MANIFEST, Digest.of(content), len(content)
            )
            content, size = Index(MediaType.OCI_INDEX, (entry,)).to_bytes(), size + 1
            fake.add_manifest("app", "1", content, MediaType.OCI_INDEX)
        refused(ManifestInvalid)
        refused(ManifestInvalid, all_platforms=True)


class TestRedirects:
    def test_a_blob_elsewhere_is_fetched_without_credentials(
        self, fake: FakeRegistry, new_fake: Callable[..., FakeRegistry], store: ContentStore, settings: ClientSettings,
        no_credentials: object,
    ) -> None:  # fmt: skip
        from registry.client import Credentials

        elsewhere = new_fake()
        manifest = fake.add_image(layers=[BIG])
        layer = manifest.layers[0].digest
        elsewhere.on("GET", "/bucket", lambda seen: Reply(200, BIG))
        fake.on("GET", "/v2/$", Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        fake.on("GET", f"/blobs/{layer}", Reply(307, b"", {"Location": f"http://{elsewhere.domain}/bucket?sig=1"}))
        me = Credentials("me", "hunter2")
        pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings, credentials=me)
        assert fake.seen("GET", f"/blobs/{layer}")[0].headers["authorization"] == me.basic()
        assert [seen.headers.get("authorization") for seen in elsewhere.requests] == [None]
        assert elsewhere.requests[0].target == "/bucket?sig=1"

    def test_a_redirect_within_the_registry_keeps_them(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        from registry.client import Credentials

        manifest = fake.add_image(layers=[BIG])
        fake.on("GET", "/v2/$", Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", Reply(302, b"", {"Location": "/other"}))
        fake.on("GET", "/other", Reply(200, BIG))
        me = Credentials("me", "hunter2")
        pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings, credentials=me)
        assert fake.seen("GET", "/other")[0].headers["authorization"] == me.basic()

    def test_going_round_in_circles(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        fake.on("GET", "/manifests/", Reply(302, b"", {"Location": "/v2/app/manifests/1"}))
        assert "redirects" in str(refused(TransferError))

    def test_a_foreign_layer_is_fetched_where_it_is_without_credentials(
        self, fake: FakeRegistry, new_fake: Callable[..., FakeRegistry], store: ContentStore, settings: ClientSettings
    ) -> None:
        """CVE-2020-15157: even when that server asks for some."""
        from registry.client import Credentials

        elsewhere = new_fake()
        image = fake.add_image(layers=[BIG])
        url = f"http://{elsewhere.domain}/layer"
        foreign = Descriptor(MediaType.DOCKER_FOREIGN_LAYER, image.layers[0].digest, len(BIG), urls=(url,))
        manifest = Manifest(image.media_type, image.config, (foreign,))
        fake.add_manifest("app", "1", manifest.to_bytes(), MediaType.OCI_MANIFEST)
        del fake.blobs[str(foreign.digest)]
        fake.on("GET", "/v2/$", Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        elsewhere.on("GET", "/layer", Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        me = Credentials("me", "hunter2")
        reference = Reference.parse(f"{fake.domain}/app:1")
        with pytest.raises(TransferError):
            pull(store, reference, settings=settings, credentials=me)
        assert {seen.headers.get("authorization") for seen in elsewhere.requests} == {None}
        elsewhere.on("GET", "/second", Reply(200, BIG))


class TestLoad:
    """A registry that is busy, and says so."""

    def test_it_is_asked_again_after_the_time_that_it_names(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], waits: list[float]
    ) -> None:
        fake.add_image()
        fake.on("HEAD", "/manifests/", Reply(429, b"", {"Retry-After": "7"}), fake._proper)
        fetch()
        assert waits == [7.0]

    def test_also_for_a_blob(self, fake: FakeRegistry, fetch: Callable[..., Digest], waits: list[float]) -> None:
        manifest = fake.add_image(layers=[BIG])
        busy = Reply(503, b"", {"Retry-After": "5"})
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", busy, fake._proper)
        fetch()
        assert waits == [5.0]

    def test_it_can_not_make_us_wait_for_ever(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], waits: list[float], settings: ClientSettings
    ) -> None:
        fake.add_image()
        fake.on("HEAD", "/manifests/", Reply(503, b"", {"Retry-After": "9999999999999"}), fake._proper)
        fetch()
        assert waits == [settings.longest_wait]

    def test_in_the_end_it_is_given_up(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError], settings: ClientSettings
    ) -> None:
        fake.on("HEAD", "/manifests/", Reply(404))
        fake.on("GET", "/manifests/", Reply(429))
        refused(TransferError)
        assert len(fake.seen("GET", "/manifests/")) == settings.tries

    def test_asking_who_we_are_for_ever(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        bearer = f'Bearer realm="http://{fake.domain}/token",service="x",scope="repository:app:pull"'
        fake.on("GET", "/token", json_reply({"token": "abc"}))
        fake.on("GET", "/v2/", Reply(401, b"", {"WWW-Authenticate": bearer}))
        fake.on("HEAD", "/v2/", Reply(401, b"", {"WWW-Authenticate": bearer}))
        assert "pybuild login" in str(refused(Unauthorized).hint)
        assert len(fake.requests) < 10


class TestOtherHashes:
    """Digest confusion: what was asked for under sha512 is verified under sha512."""

    def image(self, fake: FakeRegistry, layer: bytes) -> bytes:
        manifest = fake.add_image(layers=[BIG])
        digest = Digest.of(BIG, "sha512")
        fake.blobs[str(digest)] = layer
        strong = Manifest(manifest.media_type, manifest.config, (Descriptor(MediaType.OCI_LAYER, digest, len(BIG)),))
        content = strong.to_bytes()
        fake.manifests[f"app/{Digest.of(content, 'sha512')}"] = (content, MediaType.OCI_MANIFEST)
        fake.on("GET", "/manifests/", Reply(200, content, {"Content-Type": MediaType.OCI_MANIFEST}))
        return content

    def test_a_layer_and_a_manifest(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], store: ContentStore
    ) -> None:
        pinned = Digest.of(self.image(fake, BIG), "sha512")
        assert fetch(f"app@{pinned}") == pinned
        assert store.path(Digest.of(BIG, "sha512")).read_bytes() == BIG

    def test_another_layer(self, fake: FakeRegistry, refused: Callable[..., RegistryError]) -> None:
        content = self.image(fake, b"y" * len(BIG))
        refused(DigestInvalid, f"app@{Digest.of(content, 'sha512')}")


class TestNoise:
    """Whatever comes over the wire, an error of ours comes out: never a traceback, never an image."""

    @pytest.mark.parametrize("at", ["^/v2/$", "/manifests/", "/blobs/", "^/token"])
    def test_instead_of_an_answer(self, fake: FakeRegistry, store: ContentStore, waits: list[float], at: str) -> None:
        fake.add_image()
        if at == "^/token":
            bearer = f'Bearer realm="http://{fake.domain}/token"'
            fake.on("HEAD", "/manifests/", Reply(401, b"", {"WWW-Authenticate": bearer}))
        rng = random.Random(at)
        answers = [
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
            b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe//\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\njunk",
            b"",
            *(rng.randbytes(rng.randrange(1, 300)) for _ in range(10)),
        ]
        quick = ClientSettings(tries=2, read_timeout=2, pause=waits.append)
        for raw in answers:
            fake._rules.insert(0, ("GET", re.compile(at), [Reply(raw=raw)]))
            # What greets us need not be more than a status; all else must be right.
            with contextlib.suppress(RegistryError) if at == "^/v2/$" else pytest.raises(RegistryError):
                pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=quick)
        assert at == "^/v2/$" or store.images() == []


class TestProxies:
    def test_this_machine_is_reached_without_one(
        self, fake: FakeRegistry, fetch: Callable[..., Digest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.add_image()
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert fetch()

    def test_one_that_can_not_be_used(
        self, fake: FakeRegistry, refused: Callable[..., RegistryError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
        assert "HTTP_PROXY" in str(refused(TransferError).hint)


class TestThisMachine:
    def test_a_full_disk_leaves_nothing_behind(
        self, fake: FakeRegistry, ram_path: Path, settings: ClientSettings
    ) -> None:
        small = ram_path / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], check=True)
        try:
            fake.add_image(layers=[BIG * 4])
            with ContentStore.open(small) as store:
                with pytest.raises(DiskFull) as caught:
                    pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)
                assert caught.value.hint
                assert store.images() == []
                fake.add_image(layers=[b"small"])
                assert pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_a_kill_in_the_middle_leaves_what_the_next_collection_takes(self, fake: FakeRegistry, root: Path) -> None:
        manifest = fake.add_image(layers=[b"first", BIG])
        layer = manifest.layers[1].digest
        half = Reply(200, itertools.chain([BIG[:500_000]], hold(fake)))
        fake.on("GET", f"/blobs/{layer}", half, fake._proper)
        process = subprocess.Popen(self.command(root, fake), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        while not [path for path in root.rglob("*") if path.is_file() and path.stat().st_size == 500_000]:
            assert process.poll() is None
            select.select([], [], [], 0.01)
        process.kill()
        process.communicate(timeout=15)
        with ContentStore.open(root) as store:
            assert store.images() == []
            store.collect(grace_seconds=0)
            assert not [path for path in (root / "blobs").rglob("*") if path.is_file()]
        subprocess.run(self.command(root, fake), check=True, capture_output=True)
        with ContentStore.open(root) as store:
            assert store.path(layer).read_bytes() == BIG

    def test_several_at_once_of_the_same_image(self, fake: FakeRegistry, root: Path) -> None:
        manifest = fake.add_image(layers=[BIG, b"second", b"third"])
        running = [
            subprocess.Popen(self.command(root, fake), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
        ]
        for process in running:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        with ContentStore.open(root) as store:
            assert len(store.images()) == 1
            assert store.path(manifest.layers[0].digest).read_bytes() == BIG

    def command(self, root: Path, fake: FakeRegistry) -> list[str]:
        return [sys.executable, "-m", "pybuild.cli.main", "--root", str(root), "pull", f"{fake.domain}/app:1"]

    def test_ctrl_c_ends_it_at_once(self, fake: FakeRegistry, root: Path) -> None:
        manifest = fake.add_image(layers=[BIG])
        fake.on("GET", f"/blobs/{manifest.layers[0].digest}", Reply(hang=True))
        process = subprocess.Popen(self.command(root, fake), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while not fake.seen("GET", f"/blobs/{manifest.layers[0].digest}"):
            assert process.poll() is None
            select.select([], [], [], 0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in err
        with ContentStore.open(root) as store:
            assert store.images() == []
