"""Caches that BuildKit wrote give hits here, and ours have the very records that BuildKit's have.

cachedata/ holds what BuildKit 0.34.2 wrote for the cases (`make conformance-cache` builds one, and goes both ways).
"""

import base64
import http.server
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.build import Builder, BuildRequest
from builder.cache.places import CachePlace
from builder.ops.workshop import Secret
from builder.progress import Event, StepDone, StepStarted
from registry.model import MediaType, Platform
from registry.storage import ContentStore
from tests.interop.cache_cases import CASES, CASES_BY_NAME, DAMAGING, put_base, write_context

pytestmark = [pytest.mark.root, pytest.mark.net]
DATA = Path(__file__).parent / "cachedata"
AMD64 = Platform("linux", "amd64")


class Machine:
    """A store with the base image, and the context of the cases."""

    def __init__(self, folder: Path, web: int) -> None:
        self.folder, self.web = folder, web
        self.context = folder / "context"
        self.context.mkdir()
        write_context(self.context)
        (folder / "secret").write_text("hush")
        with ContentStore.open(folder / "root") as store:
            put_base(store)

    def recorded(self, name: str) -> CachePlace:
        """What BuildKit wrote for a case, as a folder."""
        found = json.loads((DATA / f"{name}.json").read_text())
        blobs = self.folder / name / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, content in found["blobs"].items():
            (blobs / digest[7:]).write_bytes(base64.b64decode(content))
        size = (blobs / found["manifest"][7:]).stat().st_size
        entry = {"mediaType": MediaType.OCI_MANIFEST, "digest": found["manifest"], "size": size}
        index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": [entry]}
        (self.folder / name / "index.json").write_text(json.dumps(index))
        return CachePlace("local", str(self.folder / name))

    def build(self, name: str, **words: object) -> list[str]:
        """Build a case, and give the steps that were done."""
        (self.folder / "Dockerfile").write_text(CASES_BY_NAME[name].replace("{web}", str(self.web)))
        request = BuildRequest(
            context=str(self.context),
            dockerfile=str(self.folder / "Dockerfile"),
            secrets={"s": Secret("s", self.folder / "secret")},
            platforms=(AMD64,),
            **words,
        )
        events: list[Event] = []
        with Builder(self.folder / "root") as builder:
            builder.build(request, events.append)
        names = {event.step: event.name for event in events if isinstance(event, StepStarted)}
        done = [names[event.step] for event in events if isinstance(event, StepDone) and not event.cached]
        return [step for step in done if not step.startswith(("exporting", "[internal]"))]


@pytest.fixture
def machine(netns: None, ram_path: Path) -> Iterator[Machine]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            del words

    handler = partial(Quiet, directory=str(ram_path / "context"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Machine(ram_path, server.server_port)
        server.shutdown()
        thread.join()


def config_of(folder: Path) -> dict[str, Any]:
    blobs = folder / "blobs" / "sha256"
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / entry["digest"][7:]).read_text())
    found: dict[str, Any] = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    return found


Records = Sequence[Mapping[str, Any]]


def agrees(ours: Records, number: int, theirs: Records, other: int) -> bool:
    """Whether a record stands for the same: BuildKit asks for one common way to each input."""
    mine, yours = ours[number], theirs[other]
    inputs = mine.get("inputs", []), yours.get("inputs", [])
    return (
        mine["digest"] == yours["digest"]
        and len(inputs[0]) == len(inputs[1])
        and all(
            any(
                left.get("selector") == right.get("selector") and agrees(ours, left["link"], theirs, right["link"])
                for left in lefts
                for right in rights
            )
            for lefts, rights in zip(*inputs, strict=True)
        )
    )


@pytest.mark.parametrize("name", CASES)
def test_a_cache_of_buildkits_gives_hits_and_ours_has_the_same_records(machine: Machine, name: str) -> None:
    theirs = machine.recorded(name)
    ours = machine.folder / "ours"
    assert machine.build(name, cache_from=(theirs,), cache_to=(CachePlace("local", str(ours), every=True),)) == []
    mine, yours = config_of(ours)["records"], config_of(Path(theirs.where))["records"]
    results = [number for number, record in enumerate(yours) if record.get("layers")]
    assert results
    candidates = [at for at in range(len(mine)) if name == "links" or mine[at].get("layers")]  # --link hides a copy
    missing = [yours[at]["digest"] for at in results if not any(agrees(mine, own, yours, at) for own in candidates)]
    assert missing == []


def test_what_differs_is_no_hit(machine: Machine) -> None:
    theirs = machine.recorded("patterns")
    (machine.context / "x.txt").write_text("another\n")
    assert machine.build("patterns", cache_from=(theirs,))[0].endswith("] COPY *.txt /txt/")


def test_a_file_that_no_step_takes_does_not_matter(machine: Machine) -> None:
    theirs = machine.recorded("plain")
    (machine.context / "x.txt").write_text("another\n")
    assert machine.build("plain", cache_from=(theirs,)) == []


def test_a_layer_that_is_not_what_it_is_called_is_no_hit(machine: Machine) -> None:
    theirs = machine.recorded("plain")
    blobs = Path(theirs.where) / "blobs" / "sha256"
    for blob in blobs.iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(bytes(len(blob.read_bytes())))
    assert machine.build("plain", cache_from=(theirs,))[0].endswith("] COPY f /f")


def test_a_link_layer_that_changes_the_directories_below_is_no_hit(machine: Machine) -> None:
    assert machine.build(DAMAGING, cache_from=(machine.recorded(DAMAGING),)) == ["[2/2] COPY --link f /tmp/f"]


def test_with_source_date_epoch_buildkits_layers_are_not_taken(machine: Machine) -> None:
    assert machine.build("plain", cache_from=(machine.recorded("plain"),), epoch=1_600_000_000) != []
