"""Hostile layers by every way in: load, pull, FROM, ADD, a context that is an archive. Each is refused, in bounded time
and memory, and leaves nothing behind, in the store and outside of it."""

import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from registry.model.platform import native
from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = pytest.mark.root

_OCI = "application/vnd.oci.image."
Made = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, text: bytes = b"", **fields: object) -> Made:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, 0o755, len(text)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, text


def archive(*entries: Made) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zero_bomb() -> bytes:
    """100 GB of zeros in 100 KB: zstd says a block of 128 KiB of one byte in 4 bytes."""
    info, _ = entry("zeros")
    info.size = 50 * 10**9
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    start = packer.compress(info.tobuf(tarfile.PAX_FORMAT)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return start + ((0x2 | 128 * 1024 << 3).to_bytes(3, "little") + b"\0") * 25_000


def half_header_lie() -> bytes:
    info, _ = entry("a")
    info.size = 10_000
    return info.tobuf() + b"x" * 512


REFUSED = {
    "dots": archive(entry("../evil", text=b"evil")),
    "dots inside": archive(entry("a/../../../evil", text=b"evil")),
    "hard link out": archive(entry("a", tarfile.LNKTYPE, linkname="../../../../etc/shadow")),
    "hard link through a link": archive(
        entry("etc", tarfile.SYMTYPE, linkname="/etc"), entry("a", tarfile.LNKTYPE, linkname="etc/shadow")
    ),
    "cut off": archive(entry("a", text=b"x" * 5000))[:3000],
    "a size that lies": half_header_lie(),
    "a bomb": zero_bomb(),
    "gzip cut off": gzip.compress(archive(entry("a", text=os.urandom(5000))))[:-400],
}
CONFINED = {
    "an absolute name": archive(entry("/tmp/pybuild-evil", text=b"evil")),
    "a link out, written through": archive(
        entry("out", tarfile.SYMTYPE, linkname="/tmp"), entry("out/pybuild-evil", text=b"evil")
    ),
    "a link that climbs, written through": archive(
        entry("out", tarfile.SYMTYPE, linkname="../../../../../../../tmp"), entry("out/pybuild-evil", text=b"evil")
    ),
    "a device": archive(entry("tmp/sda", tarfile.BLKTYPE, devmajor=8, devminor=0)),
    "one name twice": archive(entry("tmp/a", text=b"first"), entry("tmp/a", text=b"second")),
}


def image_of(
    layer: bytes, *, media_type: str = "layer.v1.tar", said: dict[str, object] | None = None
) -> dict[str, bytes]:
    """Blobs of an image, the manifest under the name `manifest`; `said` are lies about the layer."""
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "os": "linux", "architecture": native().architecture, "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }).encode()  # fmt: skip
    config_digest = "sha256:" + hashlib.sha256(config).hexdigest()
    entry_ = {"mediaType": _OCI + media_type, "digest": digest, "size": len(layer), **(said or {})}
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": _OCI + "manifest.v1+json", "layers": [entry_],
        "config": {"mediaType": _OCI + "config.v1+json", "digest": config_digest, "size": len(config)},
    }).encode()  # fmt: skip
    return {digest: layer, config_digest: config, "manifest": manifest, str(entry_["digest"]): layer}


def layout_of(image: dict[str, bytes], directory: Path) -> Path:
    """An OCI layout."""
    manifest = image["manifest"]
    blobs = {**image, "sha256:" + hashlib.sha256(manifest).hexdigest(): manifest}
    blobs.pop("manifest")
    (directory / "blobs/sha256").mkdir(parents=True)
    for digest, content in blobs.items():
        (directory / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(content)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps({
        "schemaVersion": 2, "mediaType": _OCI + "index.v1+json", "manifests": [{
            "mediaType": _OCI + "manifest.v1+json", "digest": "sha256:" + hashlib.sha256(manifest).hexdigest(),
            "size": len(manifest), "annotations": {"org.opencontainers.image.ref.name": "evil:1"},
        }],
    }))  # fmt: skip
    return directory


@pytest.fixture
def outside() -> Iterator[None]:
    """Nothing of the machine has changed."""
    shadow = Path("/etc/shadow").stat()
    yield
    assert not [path for path in ("/evil", "/tmp/pybuild-evil", "/tmp/sda") if os.path.lexists(path)]
    after = Path("/etc/shadow").stat()
    assert (after.st_nlink, after.st_mtime_ns) == (shadow.st_nlink, shadow.st_mtime_ns)


@pytest.fixture
def mine(ram_path: Path, busybox_archive: Path) -> Iterator[Pybuild]:
    pybuild = Pybuild(ram_path / "root")
    pybuild.ok("load", "-i", str(busybox_archive))
    yield pybuild
    pybuild.end()


@pytest.mark.parametrize("layer", REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("outside")
class TestAHostileLayer:
    def test_of_an_image_never_becomes_a_container(self, pybuild: Pybuild, tmp_path: Path, layer: bytes) -> None:
        with pybuild.unchanged():
            found = pybuild("load", "-i", str(layout_of(image_of(layer), tmp_path / "layout")))
            pybuild.told(found.err)
            if found.code == 0:
                run = pybuild.fails("run", "--rm", "--network", "none", "evil:1", code=125, says="layer")
                assert run.seconds < 8
                assert run.memory < 150
                pybuild.ok("rmi", "evil:1")

    def test_in_add_fails_the_build(self, pybuild: Pybuild, contexts: Contexts, layer: bytes) -> None:
        context = contexts("FROM scratch\nADD evil.tar /a/b/\n", {"evil.tar": layer})
        with pybuild.unchanged():
            found = pybuild.fails("build", "--network", "none", "-t", "evil", str(context), code=4, says="ADD evil.tar")
        assert found.seconds < 8
        assert found.memory < 150

    def test_as_a_context_is_refused(self, pybuild: Pybuild, layer: bytes) -> None:
        with pybuild.unchanged():
            found = pybuild("build", "-f", "Dockerfile", "-", stdin=layer)
        assert found.code in {1, 3}
        pybuild.told(found.err)
        assert found.seconds < 8
        assert found.memory < 150


@pytest.mark.parametrize("layer", CONFINED.values(), ids=CONFINED)
@pytest.mark.usefixtures("outside")
class TestALayerThatTries:
    def test_stays_inside(self, mine: Pybuild, contexts: Contexts, tmp_path: Path, layer: bytes) -> None:
        mine.ok("load", "-i", str(layout_of(image_of(layer), tmp_path / "layout")))
        found = mine("run", "--rm", "--network", "none", "evil:1")
        assert found.code in {125, 127}
        mine.told(found.err)

    def test_in_add_stays_inside(self, mine: Pybuild, contexts: Contexts, layer: bytes) -> None:
        context = contexts("FROM scratch\nADD evil.tar /a/b/\n", {"evil.tar": layer})
        found = mine("build", "--network", "none", "-t", "evil", str(context))
        assert found.code in {0, 4}
        mine.told(found.err)


LIES: dict[str, tuple[dict[str, object], str]] = {
    "size": ({"size": 5}, "5"),
    "digest": ({"digest": "sha256:" + "0" * 64}, "sha256:000000"),
    "negative size": ({"size": -1}, ""),
    "no digest": ({"digest": "../../../etc/passwd"}, "etc/passwd"),
}


class TestLies:
    @pytest.mark.parametrize("lie", LIES)
    def test_in_a_manifest_that_is_loaded(self, pybuild: Pybuild, tmp_path: Path, lie: str) -> None:
        said, told = LIES[lie]
        image = image_of(archive(entry("a", text=b"x")), said=said)
        image = {name: content for name, content in image.items() if name == "manifest" or len(name) == 71}
        with pybuild.unchanged():
            pybuild.fails("load", "-i", str(layout_of(image, tmp_path / "layout")), code=1, says=told)

    @pytest.mark.parametrize("lie", LIES)
    def test_in_a_manifest_that_is_pulled(
        self, pybuild: Pybuild, serve: Callable[[dict[str, bytes]], str], lie: str
    ) -> None:
        said, _ = LIES[lie]
        where = serve(image_of(archive(entry("a", text=b"x")), said=said))
        with pybuild.unchanged():
            pybuild.fails("pull", f"{where}/evil:1", code=1)
            pybuild.fails("run", "--rm", f"{where}/evil:1", code=125)

    def test_a_media_type_changes_nothing(self, mine: Pybuild, serve: Callable[[dict[str, bytes]], str]) -> None:
        """A layer is what its bytes say; another name for them is not believed, and harms nobody."""
        where = serve(image_of(archive(entry("x", text=b"#!")), media_type="layer.v1.tar+gzip"))
        found = mine("run", "--rm", "--network", "none", f"{where}/evil:1")
        assert found.code in {125, 126, 127}
        mine.told(found.err)


@pytest.fixture
def serve(netns: None) -> Iterator[Callable[[dict[str, bytes]], str]]:
    """A registry that serves one image under any name."""
    servers = []

    def start(image: dict[str, bytes]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                content = image["manifest"] if "/manifests/" in self.path else image.get(name, b"")
                self.send_response(200 if content or self.path == "/v2/" else 404)
                self.send_header("Content-Type", _OCI + "manifest.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815 -- http.server's name

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_zeros_without_end_are_no_archive(pybuild: Pybuild) -> None:
    done = pybuild("load", "-i", "/dev/zero")
    assert done.code == 1
    assert "follow the archive's end mark" in done.err
