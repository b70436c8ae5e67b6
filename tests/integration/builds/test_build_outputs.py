"""Where a result goes: the store, archives, plain files."""

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Output
from builder.errors import BuilderError
from registry.layouts import load_archive
from registry.model import Reference
from registry.storage import ContentStore
from registry.storage.images import find_image

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
TEXT = "FROM scratch\nCOPY --chown=5:6 --chmod=750 d /d\nCMD x\n"
FILES = {"d/f": "1", "d/sub/g": "2"}


def test_every_name_points_to_the_image(bench: "Bench") -> None:
    built = bench.build(TEXT, files=FILES, tags=["one:1", "one:2", "reg.example.com/two"])
    for name in ("one:1", "one:2", "reg.example.com/two:latest"):
        assert find_image(bench.store, Reference.parse(name)).digest == built.result.digest


def test_an_image_without_a_name_is_kept_and_listed_as_untagged(bench: "Bench") -> None:
    built = bench.build(TEXT, files=FILES)
    assert [stored.digest for stored in bench.store.untagged()] == [built.result.digest]


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_archive_holds_the_image_and_the_store_does_not(bench: "Bench", kind: str, ram_path: Path) -> None:
    built = bench.build(
        TEXT, files=FILES, tags=["app:1"], outputs=(Output(kind, str(ram_path / "image.tar")),), compression="gzip"
    )
    assert bench.store.images() == bench.store.untagged() == []
    with ContentStore.open(ram_path / "other") as other:
        with (ram_path / "image.tar").open("rb") as archive:
            load_archive(other, archive)
        assert find_image(other, Reference.parse("app:1")).config_digest == built.result.image_id


def test_an_oci_layout_may_be_a_directory(bench: "Bench", ram_path: Path) -> None:
    output = Output("oci", str(ram_path / "layout"), {"tar": "false"})
    built = bench.build(TEXT, files=FILES, tags=["app:1"], outputs=(output,))
    index = json.loads((ram_path / "layout" / "index.json").read_bytes())
    assert index["manifests"][0]["digest"] == str(built.result.digest)


def test_files_into_a_directory(bench: "Bench", ram_path: Path) -> None:
    bench.build(TEXT, files=FILES, outputs=(Output("local", str(ram_path / "out")),))
    found = (ram_path / "out" / "d" / "sub" / "g").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (5, 6, 0o750)
    assert bench.store.untagged() == []


def test_files_into_an_archive(bench: "Bench", ram_path: Path) -> None:
    bench.build(TEXT, files=FILES, outputs=(Output("tar", str(ram_path / "out.tar")),))
    with tarfile.open(ram_path / "out.tar") as archive:
        assert archive.getnames() == ["d", "d/f", "d/sub", "d/sub/g"]


def test_files_of_a_cached_build_are_unpacked_for_it(bench: "Bench", ram_path: Path) -> None:
    import shutil

    bench.build(TEXT, files=FILES)
    shutil.rmtree(bench.root / "snapshots")
    built = bench.build(TEXT, outputs=(Output("local", str(ram_path / "out")),))
    assert (ram_path / "out" / "d" / "f").read_text() == "1"
    assert "COPY" not in "".join(built.done_again)


def test_several_outputs_at_once(bench: "Bench", ram_path: Path) -> None:
    outputs = (Output("image"), Output("local", str(ram_path / "out")), Output("oci", str(ram_path / "x.tar")))
    bench.build(TEXT, files=FILES, tags=["app:1"], outputs=outputs)
    assert (ram_path / "x.tar").exists()
    assert (ram_path / "out" / "d").is_dir()
    assert len(bench.store.images()) == 1


def test_an_output_that_can_not_be_written_leaves_nothing(bench: "Bench", ram_path: Path) -> None:
    with pytest.raises(BuilderError, match="can't write"):
        bench.build(TEXT, files=FILES, outputs=(Output("oci", str(ram_path / "missing" / "x.tar")),))
    assert bench.store.untagged() == []


@pytest.mark.parametrize(
    ("compression", "kind"), [("zstd", "+zstd"), ("zstd:9", "+zstd"), ("uncompressed", "tar"), ("gzip:1", "+gzip")]
)
def test_layers_are_packed_as_asked(bench: "Bench", compression: str, kind: str) -> None:
    built = bench.build(TEXT, files=FILES, compression=compression)
    assert built.manifest.layers[0].media_type.endswith(kind)


def test_a_cached_layer_is_packed_again_if_it_was_packed_otherwise(bench: "Bench") -> None:
    first = bench.build(TEXT, files=FILES)
    second = bench.build(TEXT, compression="zstd")
    assert second.done_again == []
    assert second.manifest.layers[0].media_type.endswith("+zstd")
    assert second.result.image_id == first.result.image_id
    assert bench.build(TEXT, compression="zstd").layers == second.layers


LARGE = b"large" * 300_000  # more than is worth copying for a layer alone
SOME_LARGE = {f"d/{name}": LARGE + name.encode() for name in ("a", "b", "sub/b")}


def test_what_goes_into_an_archive_only_is_what_the_store_would_have(bench: "Bench", ram_path: Path) -> None:
    """An archive needs no unpacked files, so large ones are not copied for it."""
    bench.write(SOME_LARGE)
    (bench.context / "d/linked").hardlink_to(bench.context / "d/a")
    text = "FROM scratch\nCOPY --chown=5:6 d/* /d/\n"
    archived = bench.build(text, outputs=(Output("oci", str(ram_path / "image.tar")),), no_cache=True)
    with ContentStore.open(ram_path / "other") as other:
        with (ram_path / "image.tar").open("rb") as archive:
            load_archive(other, archive)
        kept = bench.build(text, no_cache=True)
        assert kept.result.digest == archived.result.digest
        assert all(other.has(digest) for digest in kept.layers)
    assert kept.read("d/a") == LARGE + b"a"
    assert kept.read("d/b") == LARGE + b"sub/b"


def test_a_step_upon_what_went_into_an_archive_finds_its_files(bench: "Bench", base: str, ram_path: Path) -> None:
    text = f"{base}FROM base\nCOPY d /d\n"
    bench.build(text, files=SOME_LARGE, outputs=(Output("oci", str(ram_path / "image.tar")),))
    built = bench.build(f"{text}RUN cat /d/sub/b > /copy\n")
    assert built.done_again == ["RUN cat /d/sub/b > /copy"]
    assert built.read("copy") == LARGE + b"sub/b"
