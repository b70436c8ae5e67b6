"""The build cache of one machine, used by another: through a folder, or through a registry."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.cache.places import CachePlace
from builder.cache.remote import CONFIG_TYPE
from builder.cache.report import latest
from builder.errors import BuilderError
from builder.progress import Notice
from registry.errors import RegistryError
from registry.model import Digest, MediaType
from registry.server.state import Settings
from registry.storage import ContentStore
from tests.integration.builds.conftest import Bench
from tests.integration.registry.support import Registry, run_in_thread

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Built

pytestmark = [pytest.mark.root, pytest.mark.net]
TEXT = "FROM base AS made\nCOPY f /f\nRUN cat /f > /g\nFROM base\nCOPY --from=made /g /g\nRUN echo end > /end\n"


@pytest.fixture
def other(ram_path: Path, bench: Bench) -> Iterator[Bench]:
    """Another machine with the same context."""
    with ContentStore.open(ram_path / "other") as store:
        yield Bench(ram_path / "other", bench.context, store)


@pytest.fixture
def registry(netns: None, ram_path: Path) -> Iterator[Registry]:
    found = run_in_thread(ContentStore.open(ram_path / "registry"), Settings(grace=1))
    yield found
    found.agent.close()
    found.stop()


@pytest.fixture
def text(bench: Bench, base: str) -> str:
    bench.write({"f": "1"})
    return base + TEXT


def to(text: str) -> dict[str, object]:
    return {"cache_to": (CachePlace.parse(text, write=True),)}


def using(text: str) -> dict[str, object]:
    return {"cache_from": (CachePlace.parse(text, write=False),)}


def check_all_hit(first: "Built", second: "Built") -> None:
    assert second.done_again == []
    assert second.layers == first.layers


def test_through_a_folder_every_step_hits(bench: Bench, other: Bench, text: str, ram_path: Path) -> None:
    first = bench.build(text, **to(f"type=local,dest={ram_path}/ci,mode=max"))
    check_all_hit(first, other.build(text, **using(f"type=local,src={ram_path}/ci")))
    assert other.build(text).done_again == []  # it is now its own
    assert not (other.root / "snapshots").exists()


def test_through_a_registry_every_step_hits(bench: Bench, other: Bench, text: str, registry: Registry) -> None:
    name = f"127.0.0.1:{registry.port}/team/cache:main"
    first = bench.build(text, **to(f"type=registry,ref={name},mode=max"))
    check_all_hit(first, other.build(text, **using(name)))


def test_what_changed_is_done_and_explained(bench: Bench, other: Bench, text: str, ram_path: Path) -> None:
    bench.build(text, **to(f"type=local,dest={ram_path}/ci,mode=max"))
    built = other.build(text, files={"f": "2"}, **using(f"type=local,src={ram_path}/ci"))
    assert built.done_again == ["COPY f /f", "RUN cat /f > /g", "COPY --from=made /g /g", "RUN echo end > /end"]
    assert built.read("g") == b"2"


def test_a_step_that_came_from_elsewhere_can_be_asked_why_it_misses_later(
    bench: Bench, other: Bench, base: str, ram_path: Path
) -> None:
    text = base + "ARG MODE=a\nRUN echo $MODE > /f\n"
    bench.build(text, **to(f"type=local,dest={ram_path}/ci"))
    other.build(text, **using(f"type=local,src={ram_path}/ci"))
    other.build(text, build_args={"MODE": "b"})
    report = latest(other.root)
    assert report is not None
    assert [reason.text for reason in report.steps[-1].reasons] == ['ARG MODE: "a" → "b"']


def test_values_of_build_arguments_do_not_leave_the_machine(bench: Bench, base: str, ram_path: Path) -> None:
    text = base + "ARG WORD\nRUN true\n"
    bench.build(text, build_args={"WORD": "hunter2"}, **to(f"type=local,dest={ram_path}/ci,mode=max"))
    (record,) = [
        each for each in (ram_path / "ci").rglob("*") if each.is_file() and b"cacheconfig" in each.read_bytes()
    ]
    manifest = json.loads(record.read_bytes())
    config = ram_path / "ci" / "blobs" / "sha256" / manifest["config"]["digest"][7:]
    assert b"records" in config.read_bytes()
    assert b"hunter2" not in config.read_bytes()


def test_min_has_only_what_is_in_the_result(bench: Bench, other: Bench, text: str, ram_path: Path) -> None:
    bench.build(text, **to(f"type=local,dest={ram_path}/ci"))
    again = other.build(text, **using(f"type=local,src={ram_path}/ci")).done_again
    assert "RUN cat /f > /g" in again
    assert "COPY busybox /bin/busybox" not in again


def test_only_layers_of_hits_are_fetched(bench: Bench, other: Bench, base: str, ram_path: Path) -> None:
    bench.build(base + "RUN echo a > /a\n", **to(f"type=local,dest={ram_path}/ci"))
    built = other.build(base + "RUN echo b > /b\n", **using(f"type=local,src={ram_path}/ci"))
    assert built.done_again == ["RUN echo b > /b"]
    assert len(other.store.blobs()) == 4  # two hits, the new layer, the config


def test_it_is_an_oci_layout_of_buildkits_shape_and_does_not_grow(bench: Bench, base: str, ram_path: Path) -> None:
    for number in range(3):
        bench.build(f"{base}RUN echo {number} > /n\n", **to(f"type=local,dest={ram_path}/ci"))
    folder = ram_path / "ci"
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    blobs = folder / "blobs" / "sha256"
    manifest = json.loads((blobs / entry["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert manifest["config"]["mediaType"] == CONFIG_TYPE
    assert [layer["parent"] for layer in config["layers"]] == [-1, 0, 1]
    assert [layer["blob"] for layer in config["layers"]] == [layer["digest"] for layer in manifest["layers"]]
    assert len(os.listdir(blobs)) == 5


def test_a_folder_holds_several_caches_by_their_tags(bench: Bench, other: Bench, base: str, ram_path: Path) -> None:
    texts = {tag: f"{base}RUN echo {tag} > /n\n" for tag in ("one", "two")}
    for tag, text in texts.items():
        bench.build(text, **to(f"type=local,dest={ram_path}/ci,tag={tag}"))
    for tag, text in texts.items():
        assert other.build(text, **using(f"type=local,src={ram_path}/ci,tag={tag}")).done_again == []
    blobs = ram_path / "ci" / "blobs" / "sha256"
    assert len(os.listdir(blobs)) == 8  # two manifests, two configs, four layers
    bench.build(texts["two"], **to(f"type=local,dest={ram_path}/ci,tag=two,reset=true"))
    assert len(os.listdir(blobs)) == 5


def test_it_is_no_image_of_this_machine(bench: Bench, base: str, ram_path: Path) -> None:
    bench.build(base, tags=("app:1",), **to(f"type=local,dest={ram_path}/ci"))
    assert [(image.repository, image.tag) for image in bench.store.images()] == [("app", "1")]
    assert bench.store.untagged() == []


def test_a_cache_that_is_not_there_yet_is_told_and_no_error(
    bench: Bench, base: str, registry: Registry, ram_path: Path
) -> None:
    for place in (f"type=local,src={ram_path}/none", f"127.0.0.1:{registry.port}/none:1"):
        built = bench.build(base, **using(place))
        assert any(isinstance(event, Notice) and event.text.startswith("no cache from ") for event in built.events)


@pytest.mark.parametrize("content", ["{", "[]", '{"schemaVersion": 2, "manifests": []}'])
def test_a_damaged_cache_is_told_and_no_error(bench: Bench, base: str, ram_path: Path, content: str) -> None:
    (ram_path / "ci").mkdir()
    (ram_path / "ci" / "index.json").write_text(content)
    built = bench.build(base, **using(f"type=local,src={ram_path}/ci"))
    assert any(isinstance(event, Notice) and event.text.startswith("no cache from ") for event in built.events)


def write_layout(folder: Path, config: bytes, config_type: str) -> None:
    """A manifest without layers, whose config is this."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        digest = Digest.of(content)
        (blobs / digest.encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    manifest = {
        "schemaVersion": 2, "mediaType": MediaType.OCI_MANIFEST, "layers": [], "config": put(config, config_type),
    }  # fmt: skip
    entry = put(json.dumps(manifest).encode(), MediaType.OCI_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": [entry]}
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("config", ["5", "[]", '{"records": 5}', '{"pybuild": [{}]}', "[" * 100_000])
def test_damaged_records_are_told_and_no_error(bench: Bench, base: str, ram_path: Path, config: str) -> None:
    write_layout(ram_path / "ci", config.encode(), CONFIG_TYPE)
    built = bench.build(base, **using(f"type=local,src={ram_path}/ci"))
    assert any(isinstance(event, Notice) and event.text.startswith("no cache from ") for event in built.events)


@pytest.mark.parametrize(
    "config",
    [
        "5", "{}", '{"rootfs": {"diff_ids": []}}', '{"rootfs": {"diff_ids": []}, "moby.buildkit.cache.v0": "?"}',
        '{"rootfs": {"diff_ids": ["sha256:0"]}, "moby.buildkit.cache.v0": "W10="}', "[" * 100_000,
    ],
)  # fmt: skip
def test_an_image_with_no_or_damaged_records_is_told_and_no_error(
    bench: Bench, base: str, ram_path: Path, config: str
) -> None:
    write_layout(ram_path / "ci", config.encode(), MediaType.OCI_CONFIG)
    built = bench.build(base, **using(f"type=local,src={ram_path}/ci"))
    assert any(isinstance(event, Notice) and event.text.startswith("no cache from ") for event in built.events)


def test_a_layer_that_is_not_what_it_should_be_is_a_miss(bench: Bench, other: Bench, base: str, ram_path: Path) -> None:
    first = bench.build(base, **to(f"type=local,dest={ram_path}/ci"))
    layer = ram_path / "ci" / "blobs" / "sha256" / first.layers[0].encoded
    layer.write_bytes(b"x" * layer.stat().st_size)
    second = other.build(base, **using(f"type=local,src={ram_path}/ci"))
    assert second.done_again == ["COPY busybox /bin/busybox"]
    assert second.layers == first.layers


def test_a_registry_that_takes_nothing_fails_the_build_unless_told_otherwise(
    bench: Bench, base: str, netns: None
) -> None:
    nobody = "type=registry,ref=127.0.0.1:1/cache:1"
    with pytest.raises(RegistryError):
        bench.build(base, **to(nobody))
    assert bench.build(base, **to(f"{nobody},ignore-error=true")).done_again == []
    assert [image.repository for image in bench.store.untagged()] == ["localhost/unnamed"]  # what was built


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("type=local,dest=ci", CachePlace("local", "ci")),
        ("type=registry,ref=reg/x:1,mode=max,ignore-error=true", CachePlace("registry", "reg/x:1", True, True)),
        ("type=registry,ref=reg/x:1,image-manifest=true,oci-mediatypes=true", CachePlace("registry", "reg/x:1")),
        ("reg/x:1", CachePlace("registry", "reg/x:1")),
    ],
)
def test_words(text: str, place: CachePlace) -> None:
    assert CachePlace.parse(text, write=True) == place


@pytest.mark.parametrize(
    "text", ["type=s3,bucket=x", "type=local", "type=local,dest=x,mode=most", "type=local,dest=x,a=b"]
)
def test_words_that_make_no_sense(text: str) -> None:
    with pytest.raises(BuilderError):
        CachePlace.parse(text, write=True)
