"""A state root of the test's own with a busybox image in it, and the command line to run on it."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.engine.roots import runtime_dir
from registry.model import ImageConfig, Reference
from registry.model.image_config import RootFs, RunConfig
from registry.model.platform import native
from registry.storage import ContentStore
from runner.container.protocol import receive

_PASSWD = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def busybox_layer() -> bytes:
    """An archive with the machine's static busybox, a link for each applet, and a few files."""
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:

        def add(
            name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", mode: int = 0o755, target: str = ""
        ) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
            archive.addfile(entry, io.BytesIO(data))

        for directory in ("bin", "etc", "root", "home", "home/user", "data", "data/deep"):
            add(directory, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        add("bin/busybox", data=Path("/bin/busybox").read_bytes())
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", tarfile.SYMTYPE, target="busybox")
        add("etc/passwd", data=_PASSWD, mode=0o644)
        add("etc/group", data=b"root:x:0:\nuser:x:1000:\nextra:x:1001:user\n", mode=0o644)
        add("data/seed", data=b"from the image\n", mode=0o640)
        add("data/deep/link", tarfile.SYMTYPE, target="/etc/passwd")
    return content.getvalue()


def put_image(root: Path, name: str, layer: bytes, config: RunConfig) -> None:
    """Write an image of one layer straight into the store."""
    reference = Reference.parse(name).tagged
    with ContentStore.open(root) as store:
        diff_id = store.put(layer)
        content = ImageConfig(native(), config, RootFs((diff_id,))).to_bytes()
        config_digest = store.put(content)
        for digest in (diff_id, config_digest):
            store.link_blob(reference.repository, digest)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": str(config_digest), "size": len(content)},
            "layers": [{"mediaType": _LAYER, "digest": str(diff_id), "size": len(layer)}],
        }
        store.put_manifest(
            reference.repository, json.dumps(manifest).encode(), _MANIFEST, tags=[reference.tag or "latest"]
        )


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Pybuild:
    """The command line on one state root."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pybuild.cli.main", "--root", str(self.root), *words]

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 30) -> Result:
        found = subprocess.run(
            self.words(*words), input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True,
            text=True, timeout=timeout, env={**os.environ, **self.env}, check=False,
        )  # fmt: skip
        return Result(found.returncode, found.stdout, found.stderr)

    def ok(self, *words: str, stdin: str | None = None) -> str:
        """Its output; the test fails when it fails."""
        found = self(*words, stdin=stdin)
        assert found.code == 0, found.err
        return found.out

    def popen(self, *words: str, **settings: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self.words(*words), **settings)  # type: ignore[call-overload,no-any-return]  # passed on as given

    def inspect(self, name: str) -> dict[str, dict[str, object]]:
        return json.loads(self.ok("inspect", name))[0]  # type: ignore[no-any-return]  # JSON

    def supervisor(self) -> int:
        """The process id of the running supervisor."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(runtime_dir(self.root) / "supervisor.sock"))
            packet = receive(sock)
            assert packet is not None
            assert packet.message is not None
            return int(packet.message["hello"])


def end(root: Path) -> None:
    """Remove every container of a root, and end its supervisor."""
    pybuild = Pybuild(root)
    if names := pybuild.ok("ps", "-aq").split():
        pybuild.ok("rm", "-f", "-v", *names)
    directory = runtime_dir(root)
    for process in own_processes(directory):
        with contextlib.suppress(ProcessLookupError):  # a clean-up that has just ended
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


def own_processes(directory: Path) -> Sequence[int]:
    """Supervisor and keeper of a run directory: their standard error is its log."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "fd/2").readlink() == directory / "supervisor.log":
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


@pytest.fixture(scope="session")
def layer() -> bytes:
    return busybox_layer()


@pytest.fixture(scope="module")
def module_root(layer: bytes) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="pybuild-run-", dir="/dev/shm"))
    put_image(root, "busybox", layer, RunConfig(env=("PATH=/bin",), cmd=("sh",)))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def pybuild(module_root: Path) -> Iterator[Pybuild]:
    """On a root that the tests of a module share; its containers and its supervisor end with each test."""
    yield Pybuild(module_root)
    end(module_root)
