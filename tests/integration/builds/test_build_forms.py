"""In which form a result is written: media types, packing, annotations, names; several platforms; squashed."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.build import Output
from builder.errors import BuilderError
from builder.exporters.annotations import parse_annotation
from builder.snapshots import Snapshots
from registry.errors import ManifestUnknown
from registry.model import MediaType, Platform, Reference
from registry.server.state import Settings
from registry.storage import ContentStore
from registry.storage.images import find_image
from tests.integration.registry.support import Registry, run_in_thread

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root
TEXT = "FROM scratch\nCOPY d /d\n"
FILES = {"d/f": "1", "d/sub/g": "2"}
TWO = (Platform("linux", "arm64"), Platform("linux", "s390x"))
DIFFERENT = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\nCOPY d /d\n"
THEIRS = {**FILES, "arm64": "arm", "s390x": "z"}


def layout(folder: Path) -> dict[str, Any]:
    """The one entry of an OCI layout's index, with the manifest that it names."""
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    algorithm, _, name = entry["digest"].partition(":")
    return {**entry, "content": json.loads((folder / "blobs" / algorithm / name).read_bytes())}


class TestImages:
    def test_dockers_media_types(self, bench: "Bench") -> None:
        built = bench.build(TEXT, files=FILES, outputs=(Output.parse("type=image,oci-mediatypes=false"),))
        assert built.manifest.media_type == MediaType.DOCKER_MANIFEST
        assert built.manifest.config.media_type == MediaType.DOCKER_CONFIG
        assert built.manifest.layers[0].media_type == MediaType.DOCKER_LAYER_GZIP
        assert built.result.descriptor.media_type == MediaType.DOCKER_MANIFEST

    def test_outputs_may_be_packed_each_in_its_own_way(self, bench: "Bench", ram_path: Path) -> None:
        outputs = (
            Output.parse(f"type=oci,dest={ram_path}/zstd,tar=false,compression=zstd"),
            Output.parse(f"type=oci,dest={ram_path}/plain,tar=false,compression=uncompressed"),
            Output.parse(f"type=oci,dest={ram_path}/default,tar=false"),
        )
        bench.build(TEXT, files=FILES, outputs=outputs)
        found = [layout(ram_path / name)["content"]["layers"][0] for name in ("zstd", "plain", "default")]
        assert [layer["mediaType"].rpartition("tar")[2] for layer in found] == ["+zstd", "", "+gzip"]

    def test_layers_of_the_base_stay_as_they_are_unless_forced(self, bench: "Bench") -> None:
        base = bench.build(TEXT, files=FILES, tags=["base:1"])
        plain = bench.build("FROM base:1\nCOPY d/f /x\n", outputs=(Output.parse("type=image,compression=zstd"),))
        assert plain.layers[0] == base.layers[0]
        forced = bench.build(
            "FROM base:1\nCOPY d/f /x\n", outputs=(Output.parse("type=image,compression=zstd,force-compression=true"),)
        )
        assert [layer.media_type for layer in forced.manifest.layers] == [MediaType.OCI_LAYER_ZSTD] * 2
        assert forced.config.rootfs == plain.config.rootfs

    def test_annotations_are_on_the_level_that_they_are_for(self, bench: "Bench", ram_path: Path) -> None:
        words = ("manifest,index:a=1", "manifest-descriptor:b=2", "index-descriptor:c=3")
        annotations = tuple(each for word in words for each in parse_annotation(word))
        bench.build(
            TEXT, files=FILES, platforms=TWO, annotations=annotations,
            outputs=(Output.parse(f"type=oci,dest={ram_path}/out,tar=false,name=app:1,annotation-index.d=4"),),
        )  # fmt: skip
        entry = layout(ram_path / "out")
        assert entry["annotations"]["c"] == "3"
        assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"
        assert entry["content"]["annotations"] == {"a": "1", "d": "4"}
        assert [each["annotations"] for each in entry["content"]["manifests"]] == [{"b": "2"}] * 2

    def test_an_annotation_for_an_index_that_there_is_not_is_told_before_anything_is_built(
        self, bench: "Bench"
    ) -> None:
        with pytest.raises(BuilderError, match="single platform"):
            bench.build(TEXT, files=FILES, annotations=parse_annotation("index:a=1"))
        assert bench.events == []

    def test_an_image_may_have_names_of_one_output_only(self, bench: "Bench") -> None:
        outputs = (Output.parse("type=image,name=small:1,compression=zstd"), Output.parse("type=image,name=old:1"))
        bench.build(TEXT, files=FILES, outputs=outputs)
        small, old = (find_image(bench.store, Reference.parse(name)) for name in ("small:1", "old:1"))
        assert small.manifest.layers[0].media_type == MediaType.OCI_LAYER_ZSTD
        assert old.manifest.layers[0].media_type == MediaType.OCI_LAYER_GZIP

    def test_a_name_for_what_has_none(self, bench: "Bench") -> None:
        bench.build(TEXT, files=FILES, outputs=(Output.parse("type=image,dangling-name-prefix=spare"),))
        assert [stored.repository for stored in bench.store.untagged()] == ["spare"]

    def test_it_is_unpacked_at_once_if_asked_to(self, bench: "Bench") -> None:
        first = bench.build(TEXT, files=FILES)
        shutil.rmtree(bench.root / "snapshots")
        built = bench.build(TEXT, outputs=(Output.parse("type=image,unpack=true"),))
        assert built.done_again == []
        with Snapshots(bench.root) as snapshots:
            assert snapshots.exists(str(first.config.rootfs.diff_ids[0]))

    def test_a_docker_archive_holds_one_platform(self, bench: "Bench", ram_path: Path) -> None:
        with pytest.raises(BuilderError, match="one platform"):
            bench.build(TEXT, files=FILES, platforms=TWO, outputs=(Output("docker", str(ram_path / "x.tar")),))
        assert not (ram_path / "x.tar").exists()


class TestFiles:
    def test_each_platform_has_a_directory(self, bench: "Bench", ram_path: Path) -> None:
        bench.build(DIFFERENT, files=THEIRS, platforms=TWO, outputs=(Output("local", str(ram_path / "out")),))
        assert (ram_path / "out" / "linux_arm64" / "f").read_text() == "arm"
        assert (ram_path / "out" / "linux_s390x" / "f").read_text() == "z"

    def test_also_in_an_archive(self, bench: "Bench", ram_path: Path) -> None:
        bench.build(DIFFERENT, files=THEIRS, platforms=TWO, outputs=(Output("tar", str(ram_path / "x.tar")),))
        with tarfile.open(ram_path / "x.tar") as archive:
            assert archive.getnames() == [
                f"linux_{name}{path}"
                for name in ("arm64", "s390x")
                for path in ("", "/d", "/d/f", "/d/sub", "/d/sub/g", "/f")
            ]

    def test_one_platform_has_one_if_asked_to(self, bench: "Bench", ram_path: Path) -> None:
        output = Output.parse(f"type=local,dest={ram_path}/out,platform-split=true")
        bench.build(TEXT, files=FILES, platforms=TWO[:1], outputs=(output,))
        assert (ram_path / "out" / "linux_arm64" / "d" / "f").exists()

    def test_all_in_one_place_must_not_have_the_same_files(self, bench: "Bench", ram_path: Path) -> None:
        output = Output.parse(f"type=local,dest={ram_path}/out,platform-split=false")
        apart = "FROM scratch\nARG TARGETARCH\nCOPY d/f /d/$TARGETARCH\n"
        bench.build(apart, files=FILES, platforms=TWO, outputs=(output,))
        assert sorted(os.listdir(ram_path / "out" / "d")) == ["arm64", "s390x"]
        with pytest.raises(BuilderError, match="several platforms have a file"):
            bench.build(TEXT, platforms=TWO, outputs=(output,))

    def test_a_directory_is_added_to_or_cleared(self, bench: "Bench", ram_path: Path) -> None:
        (ram_path / "out" / "old").mkdir(parents=True)
        (ram_path / "out" / "old" / "file").write_text("")
        bench.build(TEXT, files=FILES, outputs=(Output.parse(f"type=local,dest={ram_path}/out"),))
        assert sorted(os.listdir(ram_path / "out")) == ["d", "old"]
        bench.build(TEXT, outputs=(Output.parse(f"type=local,dest={ram_path}/out,mode=delete"),))
        assert os.listdir(ram_path / "out") == ["d"]

    def test_a_directory_with_the_context_in_it_is_not_cleared(self, bench: "Bench") -> None:
        for place in (bench.context, bench.context.parent):
            with pytest.raises(BuilderError, match="would remove the build context"):
                bench.build(TEXT, files=FILES, outputs=(Output.parse(f"type=local,dest={place},mode=delete"),))
        assert (bench.context / "d" / "f").exists()

    def test_nothing_at_all_but_what_the_next_build_finds_cached(self, bench: "Bench") -> None:
        bench.build(TEXT, files=FILES, tags=["app:1"], outputs=(Output.parse("type=cacheonly"),))
        assert bench.store.images() == bench.store.untagged() == []
        assert bench.build(TEXT).done_again == []

    def test_source_date_epoch_is_the_time_of_every_file(self, bench: "Bench", ram_path: Path) -> None:
        outputs = (Output.parse(f"type=local,dest={ram_path}/out"), Output.parse(f"type=tar,dest={ram_path}/x.tar"))
        bench.build(TEXT, files=FILES, outputs=outputs, epoch=1_000_000_000)
        for path in ("d", "d/f", "d/sub", "d/sub/g"):
            assert (ram_path / "out" / path).stat().st_mtime == 1_000_000_000
        with tarfile.open(ram_path / "x.tar") as archive:
            assert {entry.mtime for entry in archive} == {1_000_000_000}


class TestSquash:
    TEXT = (
        "FROM base:1\nCOPY d /d\nWORKDIR /w\n"
        'RUN ["/bin/busybox", "sh", "-c", "rm -r /d/sub /keep/gone; echo 3 > /d/f; mkdir /d/sub; echo 4 > /d/sub/h"]\n'
        'RUN ["/bin/busybox", "sh", "-c", "rm -r /w/x /d/f /keep2; mkdir /keep2; ln /d/sub/h /d/sub/i; echo > /five"]\n'
    )

    @pytest.fixture(autouse=True)
    def base_image(self, bench: "Bench") -> None:
        files = {**FILES, "keep/gone": "1", "keep/stays": "2", "keep2/old": "3", "w/x": ""}
        text = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY keep /keep\nCOPY keep2 /keep2\nCOPY w /w\n"
        bench.build(text, files=files, tags=["base:1"])

    @staticmethod
    def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in folder.rglob("*")
        }

    def test_the_files_are_the_same_in_one_layer(self, bench: "Bench", ram_path: Path) -> None:
        apart, one = ram_path / "apart", ram_path / "one"
        base = find_image(bench.store, Reference.parse("base:1"))
        bench.build(self.TEXT, outputs=(Output("local", str(apart)),))
        built = bench.build(self.TEXT, tags=["app:1"], squash=True)
        assert built.done_again == []
        assert built.layers[:-1] == [layer.digest for layer in base.manifest.layers]
        # from the store: the layer's archive says it all
        bench.build("FROM app:1\n", outputs=(Output("local", str(one)),))
        assert self.tree(one) == self.tree(apart)

    def test_nothing_of_the_steps_between_is_in_it(self, bench: "Bench") -> None:
        built = bench.build(self.TEXT, squash=True)
        names = built.names()
        assert "d/f" not in names
        assert "d/sub/g" not in names
        assert {"keep/.wh.gone", "w/.wh.x", "keep2/.wh..wh..opq", "d/sub/h", "d/sub/i", "five"} <= set(names)
        assert not [name for name in names if name.startswith("d/") and "/.wh." in name]

    def test_the_history_keeps_its_lines(self, bench: "Bench") -> None:
        history = bench.build(self.TEXT, squash=True).config.history
        assert [step.empty_layer for step in history[-5:]] == [True, True, True, True, False]
        assert history[-1].comment == "squashed 4 layers"

    def test_it_is_the_same_every_time_and_made_once(self, bench: "Bench") -> None:
        one = bench.build(self.TEXT, squash=True)
        assert bench.build(self.TEXT, squash=True).result.digest == one.result.digest
        assert bench.build(self.TEXT, squash=True, no_cache=True).result.digest == one.result.digest


@pytest.fixture
def registry(netns: None, ram_path: Path) -> Iterator[Registry]:
    found = run_in_thread(ContentStore.open(ram_path / "registry"), Settings(grace=1))
    yield found
    found.agent.close()
    found.stop()


@pytest.mark.net
class TestRegistry:
    def test_an_index_is_pushed_with_all_of_its_images(self, bench: "Bench", registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/app:1"
        built = bench.build(DIFFERENT, files=THEIRS, tags=[name], platforms=TWO, push=True)
        for platform in TWO:
            found = find_image(registry.store, Reference.parse("app:1"), platform)
            assert found.index_digest == built.result.digest

    def test_by_digest_no_tag_is_touched(self, bench: "Bench", registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/app"
        output = Output.parse(f"type=image,name={name},push-by-digest=true,name-canonical=true,push=true")
        built = bench.build(TEXT, files=FILES, outputs=(output,))
        assert registry.store.manifest("app", built.result.digest)
        assert registry.store.images() == bench.store.images() == []
        assert [str(tag) for tag in built.result.tags] == [f"{name}@{built.result.digest}"]

    def test_it_need_not_be_kept_here(self, bench: "Bench", registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/app:1"
        built = bench.build(TEXT, files=FILES, outputs=(Output.parse(f"type=registry,name={name},store=false"),))
        assert find_image(registry.store, Reference.parse("app:1")).digest == built.result.digest
        assert bench.store.images() == bench.store.untagged() == []
        with pytest.raises(ManifestUnknown):
            find_image(bench.store, Reference.parse(name))
