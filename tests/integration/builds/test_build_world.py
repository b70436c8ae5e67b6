"""What a build asks of the world, and a world that does not give it: registries, web servers, disks, other builds."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Builder, BuildRequest, Output, Secret
from builder.errors import BuilderError, BuildFailed
from registry.model import Digest, Reference
from registry.server.state import Settings
from registry.storage import ContentStore
from runner.kernel import calls
from tests.integration.registry.support import Registry, run_in_thread

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = [pytest.mark.root, pytest.mark.net]
MODIFIED = 1_500_000_000


@dataclass
class WebSite:
    """Files on loopback, with ETags; counts how often each was sent."""

    files: dict[str, bytes]
    port: int = 0
    sent: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture
def site(netns: None) -> Iterator[WebSite]:
    found = WebSite({"dir/file.txt": b"of the web\n"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/").partition("?")[0]
            found.headers.append(dict(self.headers))
            content = found.files.get(path)
            etag = f'"{Digest.of(content or b"").short}"'
            if content is None:
                self.send_error(404)
            elif self.headers.get("If-None-Match") == etag:
                self.send_response(304)
                self.end_headers()
            else:
                found.sent.append(path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", etag)
                self.send_header("Last-Modified", formatdate(MODIFIED, usegmt=True))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            """Not on the tests' stderr."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


class TestAddFromTheWeb:
    def test_a_file_has_the_servers_time_and_belongs_to_root_alone(self, bench: "Bench", site: WebSite) -> None:
        built = bench.build(f"FROM scratch\nADD {site.url('dir/file.txt')} /d/\n")
        entry = {entry.name: entry for entry in built.layer(-1)}["d/file.txt"]
        assert (entry.mode, entry.uid, entry.mtime) == (0o600, 0, MODIFIED)
        assert built.read("d/file.txt") == b"of the web\n"

    def test_it_is_sent_again_only_if_it_changed(self, bench: "Bench", site: WebSite) -> None:
        text = f"FROM scratch\nADD {site.url('dir/file.txt')} /f\n"
        bench.build(text)
        assert bench.build(text).done_again == []
        assert len(site.sent) == 1
        site.files["dir/file.txt"] = b"changed\n"
        assert bench.build(text).read("f") == b"changed\n"

    def test_with_its_checksum_it_is_asked_for_once(self, bench: "Bench", site: WebSite) -> None:
        checksum = Digest.of(b"of the web\n")
        text = f"FROM scratch\nADD --checksum={checksum} {site.url('dir/file.txt')} /f\n"
        bench.build(text)
        assert bench.build(text).done_again == []
        assert len(site.headers) == 1

    def test_another_content_than_the_checksum_is_refused(self, bench: "Bench", site: WebSite) -> None:
        wrong = Digest.of(b"something else")
        with pytest.raises(BuildFailed, match="expected"):
            bench.build(f"FROM scratch\nADD --checksum={wrong} {site.url('dir/file.txt')} /f\n")

    def test_what_is_not_there_is_an_error(self, bench: "Bench", site: WebSite) -> None:
        with pytest.raises(BuildFailed, match="404"):
            bench.build(f"FROM scratch\nADD {site.url('nothing')} /f\n")

    def test_a_secret_named_after_the_host_is_sent(self, bench: "Bench", site: WebSite, ram_path: Path) -> None:
        (ram_path / "token").write_text("abc\n")
        secret = Secret("HTTP_AUTH_TOKEN_127.0.0.1", ram_path / "token")
        bench.build(f"FROM scratch\nADD {site.url('dir/file.txt')} /f\n", secrets={secret.id: secret})
        assert site.headers[0]["Authorization"] == "Bearer abc"


@pytest.fixture
def registry(netns: None, ram_path: Path) -> Iterator[Registry]:
    found = run_in_thread(ContentStore.open(ram_path / "registry"), Settings(grace=1))
    yield found
    found.agent.close()
    found.stop()


class TestRegistries:
    def test_push_and_a_base_image_that_is_not_here(
        self, bench: "Bench", base: str, registry: Registry, ram_path: Path
    ) -> None:
        name = f"127.0.0.1:{registry.port}/team/base:1"
        pushed = bench.build(base, tags=[name], push=True)
        (bench.context / "Dockerfile").write_text(f"FROM {name}\nRUN echo on top > /top\n")
        with ContentStore.open(ram_path / "elsewhere") as store:
            request = BuildRequest(context=str(bench.context), network="none")
            told: list[str] = []
            result = Builder(ram_path / "elsewhere", store).build(request, lambda event: told.append(str(event)))
            assert all(store.has(layer) for layer in pushed.layers)
            assert result.image_id != pushed.result.image_id
        assert any("[internal] pull" in event for event in told)

    def test_pull_asks_for_a_newer_one(self, bench: "Bench", base: str, registry: Registry, ram_path: Path) -> None:
        name = f"127.0.0.1:{registry.port}/base:1"
        bench.build(base + "ENV V=1\n", tags=[name], push=True)
        with ContentStore.open(ram_path / "elsewhere") as store:
            (bench.context / "one").mkdir()
            (bench.context / "one" / "Dockerfile").write_text(f"FROM {name}\n")
            request = BuildRequest(context=str(bench.context / "one"))
            first = Builder(ram_path / "elsewhere", store).build(request)
            bench.build(base + "ENV V=2\n", tags=[name], push=True)
            assert Builder(ram_path / "elsewhere", store).build(request) == first
            newer = BuildRequest(context=str(bench.context / "one"), pull=True)
            assert Builder(ram_path / "elsewhere", store).build(newer).image_id != first.image_id

    def test_an_output_may_name_the_registry(self, bench: "Bench", base: str, registry: Registry) -> None:
        output = Output.parse(f"type=registry,name=127.0.0.1:{registry.port}/x:1")
        built = bench.build(base, outputs=(output,))
        assert [str(tag) for tag in built.result.tags] == [f"127.0.0.1:{registry.port}/x:1"]

    def test_a_base_image_that_is_nowhere_is_named_with_its_line(self, bench: "Bench", registry: Registry) -> None:
        with pytest.raises(BuilderError, match=r"Dockerfile:1: can't get the image 127\.0\.0\.1"):
            bench.build(f"FROM 127.0.0.1:{registry.port}/missing\n")


class TestDisk:
    def test_a_full_disk_is_an_error_and_what_was_there_stays(
        self, bench: "Bench", base: str, ram_path: Path, netns: None
    ) -> None:
        place = ram_path / "small"
        place.mkdir()
        calls.mount("tmpfs", str(place), "tmpfs", 0, "size=12m")
        try:
            with ContentStore.open(place) as store:
                fills = "RUN head -c 30000000 /dev/urandom > /big\n"
                (bench.context / "Dockerfile").write_text(base + fills)
                request = BuildRequest(context=str(bench.context), network="none")
                for _ in range(2):
                    with pytest.raises(BuildFailed, match=r"No space left|disk is full|no space"):
                        Builder(place, store).build(request)
                (bench.context / "Dockerfile").write_text(base)
                assert Builder(place, store).build(request, None).image_id
        finally:
            calls.umount2(str(place), calls.MNT_DETACH)


class TestSideBySide:
    def test_builds_of_the_same_on_one_root_do_not_disturb_each_other(self, bench: "Bench", base: str) -> None:
        (bench.context / "Dockerfile").write_text(base + "FROM base\nRUN echo x > /x\nRUN cat /x > /y\n")
        found: list[object] = []

        def build() -> None:
            request = BuildRequest(
                context=str(bench.context), network="none", tags=(Reference.parse("same:1"),), epoch=1_000_000_000
            )
            try:
                with ContentStore.open(bench.root) as store:
                    found.append(Builder(bench.root, store).build(request))
            except Exception as error:  # noqa: BLE001 -- shown by the assertion below
                found.append(error)

        threads = [threading.Thread(target=build) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(result).__name__ for result in found] == ["BuildResult"] * 4
        assert len({str(result) for result in found}) == 1
