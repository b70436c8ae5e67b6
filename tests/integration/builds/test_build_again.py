"""A build that would change nothing is answered without one, and any change makes it a build again."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.model import Manifest, MediaType, parse_manifest

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
DOCKERFILE = "FROM busybox:1\nCOPY . /srv/\nRUN cat /srv/file > /made\n"


class Project:
    """A context, its image, and how often it was built."""

    def __init__(self, bench: "Bench") -> None:
        self.bench = bench

    def pybuild(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "pybuild.cli.main", "--root", str(self.bench.root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    def build(self, *words: str) -> tuple[str, bool]:
        """The image's ID, and whether the builder was needed for it."""
        done = self.pybuild("build", "-q", "-t", "app:1", "--network", "none", *words, str(self.bench.context))
        return done.stdout.strip(), "builder.build" in done.stderr

    def settle(self) -> str:
        """Build until there is nothing more to do: files must be some seconds old. The image's ID."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            image, was_built = self.build()
            if not was_built:
                return image
            time.sleep(0.3)
        raise AssertionError("it is built again and again")


@pytest.fixture
def project(bench: "Bench", base: str) -> Project:
    bench.build(base, tags=["busybox:1"])
    bench.write({"Dockerfile": DOCKERFILE, "file": "1", ".dockerignore": "ignored\n", "ignored/file": "1"})
    return Project(bench)


def test_what_changes_an_image_is_built_again(project: Project) -> None:
    image = project.settle()
    # what the store has
    project.pybuild("rmi", "app:1")
    assert project.build() == (image, True)
    assert project.build() == (image, False)
    project.pybuild("tag", "busybox:1", "app:1")
    assert project.build() == (image, True)
    assert project.build() == (image, False)
    # what the command line says
    labelled, was_built = project.build("--label", "a=b")
    assert was_built
    assert labelled != image
    assert project.build() == (image, True)  # the name was the other's
    assert project.build("--no-cache")[1]
    # what the context has, of the same size and with its old time
    image = project.settle()
    file = project.bench.context / "file"
    before = file.stat()
    file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed, was_built = project.build()
    assert was_built
    assert changed != image


def test_a_base_image_of_the_same_name_is_noticed(project: Project) -> None:
    image = project.settle()
    project.pybuild("tag", "app:1", "busybox:1")
    rebased, was_built = project.build()
    assert was_built
    assert rebased != image


def test_why_tells_of_the_build_that_was_not_needed(project: Project, tmp_path: Path) -> None:
    project.settle()
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nRUN echo other\n")
    project.pybuild("build", "-q", "--network", "none", "-t", "other:1", str(tmp_path))
    assert "echo other" in project.pybuild("why").stdout
    assert not project.build()[1]
    told = project.pybuild("why").stdout
    assert "COPY . /srv/" in told
    assert "echo other" not in told


def test_a_lost_layer_is_made_again(project: Project) -> None:
    project.settle()
    store = project.bench.store
    manifest = parse_manifest(store.manifest("app", "1").content, MediaType.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    lost = store.path(manifest.layers[-1].digest)
    lost.unlink()
    assert project.build()[1]
    assert lost.exists()


def test_progress_is_told_as_before(project: Project) -> None:
    project.settle()
    words = ("build", "--progress", "plain", "-t", "app:1", "--network", "none", str(project.bench.context))
    told, again = (project.pybuild(*words) for _ in range(2))
    assert "builder.build" in told.stderr
    assert "builder.build" not in again.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("#")]
    assert lines == [line for line in again.stderr.splitlines() if line.startswith("#")]
    assert any("CACHED" in line for line in lines)
