"""Registries on loopback in a network of the test's own, and a client that does not wait."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from registry.client import ClientSettings
from registry.storage import ContentStore
from tests.integration.client.fake import FakeRegistry


@pytest.fixture
def root(ram_path: Path) -> Path:
    return ram_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[ContentStore]:
    with ContentStore.open(root) as opened:
        yield opened


@pytest.fixture
def waits() -> list[float]:
    """How long the client would have waited before each further try."""
    return []


@pytest.fixture
def settings(waits: list[float]) -> ClientSettings:
    return ClientSettings(backoff=0.01, read_timeout=10, pause=waits.append)


@pytest.fixture
def new_fake(netns: None) -> Iterator[Callable[..., FakeRegistry]]:
    made: list[FakeRegistry] = []

    def new(*arguments: object, **options: object) -> FakeRegistry:
        made.append(FakeRegistry(*arguments, **options))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture
def fake(new_fake: Callable[..., FakeRegistry]) -> FakeRegistry:
    return new_fake()


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's real credentials; the test's own config.json goes to the result."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def distribution(netns: None) -> Iterator[Callable[[str], str]]:
    """Docker's own registry (version 2.8); a function from more configuration to its domain."""
    running: list[subprocess.Popen[bytes]] = []
    directory = Path(tempfile.mkdtemp(prefix="pybuild-distribution-", dir="/dev/shm"))

    def run(more: str = "") -> str:
        domain = f"127.0.0.1:{5100 + len(running)}"
        config = directory / f"{len(running)}.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory}/{len(running)}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{domain}'}}\n{more}\n"
        )
        running.append(
            subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
        _wait_for(f"http://{domain}/v2/")
        return domain

    yield run
    for process in running:
        process.kill()
        process.wait(20)
    shutil.rmtree(directory)


@pytest.fixture
def ours(netns: None, ram_path: Path) -> Iterator[Callable[[], str]]:
    """Our own registry, as the program that users start."""
    running: list[subprocess.Popen[bytes]] = []

    def run() -> str:
        domain = f"127.0.0.1:{5200 + len(running)}"
        command = [sys.executable, "-m", "pybuild.cli.main", "--root", str(ram_path / f"served-{len(running)}")]
        running.append(
            subprocess.Popen([*command, "registry", "serve", "--quiet", "--addr", domain], stderr=subprocess.DEVNULL)
        )
        _wait_for(f"http://{domain}/v2/")
        return domain

    yield run
    for process in running:
        process.kill()
        process.wait(20)


@pytest.fixture(params=["ours", "distribution"])
def registry_domain(request: pytest.FixtureRequest) -> str:
    """Each of the two registries in turn."""
    domain = request.getfixturevalue(request.param)()
    assert isinstance(domain, str)
    return domain


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(url)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
