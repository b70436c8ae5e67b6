"""A registry on loopback for each test: in this process on a thread of its own, or as the program that users start."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.server.state import Settings
from registry.storage import ContentStore
from tests.integration.registry.support import REPOSITORY, Registry, Served, command, run_in_thread


@pytest.fixture
def root() -> Iterator[Path]:
    """A state root in memory: these tests are about the protocol, and fsync on a busy disk is slow."""
    path = Path(tempfile.mkdtemp(prefix="pybuild-registry-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run_registry(root: Path) -> Iterator[Callable[..., Registry]]:
    """Start a registry with given settings; several on one root are fine."""
    running: list[Registry] = []

    def run(settings: Settings | None = None, store: ContentStore | None = None) -> Registry:
        found = run_in_thread(store or ContentStore.open(root), settings or Settings(grace=1))
        running.append(found)
        return found

    yield run
    for one in running:
        one.agent.close()
        one.stop()


@pytest.fixture
def registry(run_registry: Callable[..., Registry]) -> Registry:
    return run_registry()


@pytest.fixture
def serve_program(root: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def serve(*options: str) -> Served:
        process = subprocess.Popen(
            command(root, "serve", "--addr", "127.0.0.1:0", *options),
            stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        found = Served(0, process, [])
        found.port = int(found.wait_for_line("on http://").rpartition(":")[2])
        found.__post_init__()
        running.append(found)
        return found

    yield serve
    for one in running:
        one.agent.close()
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(20)
        assert one.process.stderr is not None
        one.process.stderr.close()
