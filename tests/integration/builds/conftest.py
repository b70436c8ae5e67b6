"""A place to build in: a state root and a context in memory, an image with busybox, and eyes for what came out."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builder.build import Builder, BuildRequest, BuildResult
from builder.cache.mounts import mount_name
from builder.progress import Event, Listener, StepDone, StepLog, StepStarted
from registry.archive.unpacking import Limits, unpacked
from registry.model import Digest, ImageConfig, Manifest, Reference, parse_manifest
from registry.storage import ContentStore
from tests.gitserver import Hub, serving

BUSYBOX = Path("/bin/busybox")
BASE = 'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


@dataclass
class Built:
    """One build's result, and what it told."""

    result: BuildResult
    events: list[Event]
    store: ContentStore

    @property
    def manifest(self) -> Manifest:
        found = self.store.find_manifests("manifest", str(self.result.digest))
        stored = self.store.manifest(found[0][0], self.result.digest)
        parsed = parse_manifest(stored.content, stored.media_type)
        assert isinstance(parsed, Manifest)
        return parsed

    @property
    def config(self) -> ImageConfig:
        return ImageConfig.parse(self.store.read(self.result.image_id))

    @property
    def layers(self) -> list[Digest]:
        return [layer.digest for layer in self.manifest.layers]

    def layer(self, number: int) -> list[tarfile.TarInfo]:
        """The entries of one layer; -1 is the last."""
        with self.store.open_blob(self.layers[number]) as blob:
            content = b"".join(unpacked(blob, Limits()))
        return list(tarfile.open(fileobj=io.BytesIO(content)))

    def names(self, number: int = -1) -> list[str]:
        return [entry.name for entry in self.layer(number)]

    def read(self, name: str) -> bytes:
        """A file of the image, from the topmost layer that has it."""
        for digest in reversed(self.layers):
            with self.store.open_blob(digest) as blob:
                content = io.BytesIO(b"".join(unpacked(blob, Limits())))
            with tarfile.open(fileobj=content) as archive:
                if name in archive.getnames():
                    file = archive.extractfile(name)
                    assert file is not None
                    return file.read()
        raise KeyError(name)

    @property
    def output(self) -> str:
        return "\n".join(event.line for event in self.events if isinstance(event, StepLog))

    @property
    def steps(self) -> list[tuple[str, bool]]:
        """Names of steps without their numbers, and whether each was cached, in the order in which they ended."""
        names = {event.step: event.name for event in self.events if isinstance(event, StepStarted)}
        return [
            (names[event.step].rpartition("] ")[2], event.cached)
            for event in self.events
            if isinstance(event, StepDone)
        ]

    @property
    def done_again(self) -> list[str]:
        return [name for name, cached in self.steps if not cached]


@dataclass
class Bench:
    root: Path
    context: Path
    store: ContentStore
    events: list[Event] = field(default_factory=list)

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def build(
        self,
        dockerfile: str,
        /,
        *,
        tags: Sequence[str] = (),
        files: Mapping[str, str | bytes] | None = None,
        listener: Listener = lambda event: None,
        **words: object,
    ) -> Built:
        """Build without a network, unless told otherwise."""

        def listen(event: Event) -> None:
            self.events.append(event)
            listener(event)

        self.write({"Dockerfile": dockerfile, **(files or {})})
        self.events = []
        options = {"network": "none", "context": str(self.context), **words}
        request = BuildRequest(tags=tuple(Reference.parse(tag).tagged for tag in tags), **options)
        result = Builder(self.root, self.store).build(request, listen)
        return Built(result, list(self.events), self.store)

    @property
    def told(self) -> str:
        return "\n".join(str(event) for event in self.events)

    def leftovers(self) -> dict[str, object]:
        """What must be the same after a build, however it ended."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return {
            "mounts": sorted(line for line in mounts if str(self.root) in line),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "children": sorted(_children()),
            "snapshots": sorted(key for key in self._active()),
        }

    def _active(self) -> list[str]:
        import sqlite3

        index = self.root / "snapshots" / "index.db"
        if not index.exists():
            return []
        with sqlite3.connect(index) as database:
            found = [key for (key,) in database.execute("SELECT key FROM snapshot WHERE NOT committed")]
        database.close()
        return found


@dataclass
class Waiting:
    """Builds in which a `WAIT COMMAND` is a RUN that waits until something else has happened in the build."""

    bench: Bench

    def build(self, dockerfile: str, until: Callable[[Event], bool], **words: object) -> Built:
        step = "RUN --mount=type=cache,id=meet,target=/m until test -e /m/go; do sleep 0.05; done; rm /m/go; "
        shared = self.bench.root / "cache-mounts" / mount_name("meet")
        shared.mkdir(parents=True, exist_ok=True)

        def listen(event: Event) -> None:
            if until(event):
                (shared / "go").touch()

        return self.bench.build(dockerfile.replace("WAIT ", step), listener=listen, **words)


def _children() -> list[int]:
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


@pytest.fixture
def bench(ram_path: Path) -> Iterator[Bench]:
    context = ram_path / "context"
    context.mkdir()
    shutil.copy(BUSYBOX, context / "busybox")
    os.utime(context / "busybox", (1_600_000_000, 1_600_000_000))
    (context / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    with ContentStore.open(ram_path / "root") as store:
        yield Bench(ram_path / "root", context, store)


@pytest.fixture
def hub(netns: None, ram_path: Path) -> Iterator[Hub]:
    """A web server on loopback with repositories and files."""
    with serving(ram_path / "origins") as hub:
        yield hub


@pytest.fixture
def base() -> str:
    """The beginning of a Dockerfile: a stage called `base` with busybox and its applets."""
    return BASE


@pytest.fixture
def waiting(bench: Bench) -> Waiting:
    return Waiting(bench)
