"""A state root in memory with images in it, and the command line as a user types it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybuild.cli.main import main
from registry.model import (
    Descriptor,
    Digest,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    Reference,
    RootFs,
    RunConfig,
)
from registry.storage import ContentStore


@pytest.fixture
def root(ram_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYBUILD_ROOT", str(ram_path / "root"))
    monkeypatch.setenv("HOME", str(ram_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return ram_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[ContentStore]:
    with ContentStore.open(root) as opened:
        yield opened


@pytest.fixture
def add_image(store: ContentStore) -> Callable[..., Manifest]:
    def add(
        name: str, layers: tuple[bytes, ...] = (b"layer",), architecture: str = "amd64", *, tagged: bool = True
    ) -> Manifest:
        config = ImageConfig(
            Platform("linux", architecture),
            RunConfig(env=("A=1", "B=2"), cmd=("sh",), labels={"who": "us"}, exposed_ports=("80/tcp",)),
            RootFs(tuple(map(Digest.of, layers))),
            (
                *(History("2026-01-02T03:04:05Z", f"RUN make {number}") for number in range(len(layers))),
                History("2026-01-02T03:04:06Z", 'CMD ["sh"]', "buildkit", empty_layer=True),
            ),
            created="2026-01-02T03:04:06Z",
        ).to_bytes()
        manifest = Manifest(
            MediaType.OCI_MANIFEST,
            Descriptor(MediaType.OCI_CONFIG, store.put(config), len(config)),
            tuple(Descriptor(MediaType.OCI_LAYER, store.put(layer), len(layer)) for layer in layers),
        )
        reference = Reference.parse(name).tagged
        tags = [reference.tag or ""] if tagged else []
        store.put_manifest(reference.repository, manifest.to_bytes(), manifest.media_type, tags=tags, adopt=True)
        return manifest

    return add


@pytest.fixture
def add_index(store: ContentStore, add_image: Callable[..., Manifest]) -> Callable[..., Index]:
    def add(name: str, *architectures: str) -> Index:
        entries = []
        for architecture in architectures:
            content = add_image(name, (architecture.encode(),), architecture, tagged=False).to_bytes()
            place = Platform("linux", architecture)
            entries.append(Descriptor(MediaType.OCI_MANIFEST, Digest.of(content), len(content), platform=place))
        index = Index(MediaType.OCI_INDEX, tuple(entries))
        reference = Reference.parse(name).tagged
        store.put_manifest(reference.repository, index.to_bytes(), index.media_type, tags=[reference.tag or ""])
        return index

    return add


class Typed:
    """What a command line printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def pybuild(root: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Typed]:
    def run(*words: str, fails: int = 0) -> Typed:
        capfd.readouterr()
        code = main(words)
        out, err = capfd.readouterr()
        assert code == fails, err
        assert "Traceback" not in err
        return Typed(code, out, err)

    return run
