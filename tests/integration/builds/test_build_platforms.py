"""Several platforms in one build: one index, shared work, emulators, cross-compilers."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuilderError, BuildFailed
from registry.model import ImageConfig, Index, Platform, Reference, parse_manifest
from registry.model.platform import native
from registry.server.state import Settings
from registry.storage import ContentStore
from registry.storage.images import find_image
from tests.integration.builds.conftest import BUSYBOX, Bench
from tests.integration.registry.support import Registry, run_in_thread

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Built

pytestmark = pytest.mark.root
ARM, S390 = Platform("linux", "arm64"), Platform("linux", "s390x")
BOTH = (native(), S390)


def index(built: "Built") -> Index:
    repository, digest = built.store.find_manifests("manifest", str(built.result.digest))[0]
    parsed = parse_manifest(built.store.manifest(repository, digest).content)
    assert isinstance(parsed, Index)
    return parsed


def configs(built: "Built") -> list[ImageConfig]:
    found = []
    for entry in index(built).manifests:
        repository, digest = built.store.find_manifests("manifest", str(entry.digest))[0]
        manifest = parse_manifest(built.store.manifest(repository, digest).content)
        found.append(ImageConfig.parse(built.store.read(manifest.children[0].digest)))
    return found


class TestIndex:
    def test_a_tag_names_an_index_with_an_image_for_each_platform(self, bench: Bench) -> None:
        text = "FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\n"
        built = bench.build(text, tags=["app:1"], platforms=(ARM, S390))
        assert [str(entry.platform) for entry in index(built).manifests] == ["linux/arm64", "linux/s390x"]
        assert [config.config.environment["ARCH"] for config in configs(built)] == ["arm64", "s390x"]
        assert built.result.image_id == built.result.digest
        for platform in (ARM, S390):
            assert find_image(bench.store, Reference.parse("app:1"), platform).config.platform == platform

    def test_steps_that_run_nothing_are_done_once_for_all(self, bench: Bench) -> None:
        text = "FROM scratch\nCOPY f /f\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nWORKDIR /w\n"
        built = bench.build(text, files={"f": "1"}, platforms=(ARM, S390))
        assert [name for name, _ in built.steps if "COPY" in name or "WORKDIR" in name] == ["COPY f /f", "WORKDIR /w"]
        one, two = configs(built)
        assert one.rootfs == two.rootfs

    def test_a_base_that_is_an_index_gives_each_platform_its_image(self, bench: Bench) -> None:
        text = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n"
        bench.build(text, tags=["base:1"], files={"arm64": "arm", "s390x": "z"}, platforms=(ARM, S390))
        built = bench.build("FROM base:1\nCOPY f /f\n", files={"f": ""}, platforms=(S390, ARM))
        base = [find_image(bench.store, Reference.parse("base:1"), platform) for platform in (S390, ARM)]
        assert [config.rootfs.diff_ids[:1] for config in configs(built)] == [
            image.config.rootfs.diff_ids for image in base
        ]

    def test_the_same_build_again_gives_the_same_index(self, bench: Bench) -> None:
        text = "FROM scratch\nCOPY f /f\n"
        one = bench.build(text, files={"f": "1"}, platforms=BOTH)
        assert bench.build(text, platforms=BOTH, no_cache=True).result.digest == one.result.digest


@pytest.mark.net
class TestPulled:
    def test_each_platform_pulls_its_image_of_an_index(self, bench: Bench, registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/base:1"
        text = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n"
        bench.build(text, tags=[name], files={"arm64": "arm", "s390x": "z"}, platforms=(ARM, S390), push=True)
        with ContentStore.open(bench.root.parent / "other") as store:
            built = Bench(bench.root.parent / "other", bench.context, store).build(
                f"FROM {name}\n", platforms=(ARM, S390)
            )
            assert [config.platform for config in configs(built)] == [ARM, S390]
            assert len({config.rootfs for config in configs(built)}) == 2

    def test_an_image_that_is_for_one_platform_is_taken_for_what_it_is(self, bench: Bench, registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/base:1"
        bench.build("FROM scratch\nCOPY f /f\n", tags=[name], files={"f": ""}, platforms=(ARM,), push=True)
        built = bench.build(f"FROM {name}\n", platforms=(S390,))
        assert built.config.platform == ARM
        assert [found.rule for found in built.result.findings] == ["InvalidBaseImagePlatform"]

    def test_an_index_without_the_platform_is_refused(self, bench: Bench, registry: Registry) -> None:
        name = f"localhost:{registry.agent.port}/base:1"
        bench.build("FROM scratch\nCOPY f /f\n", tags=[name], files={"f": ""}, platforms=(ARM, S390), push=True)
        with pytest.raises(BuilderError, match="riscv64"):
            bench.build(f"FROM {name}\n", platforms=(Platform("linux", "riscv64"),))


@pytest.fixture
def registry(netns: None, ram_path: Path) -> Iterator[Registry]:
    found = run_in_thread(ContentStore.open(ram_path / "registry"), Settings(grace=1))
    yield found
    found.agent.close()
    found.stop()


class TestRun:
    def test_a_compiler_of_this_machine_works_for_every_target(self, bench: Bench) -> None:
        text = (
            "FROM --platform=$BUILDPLATFORM scratch AS build\nCOPY busybox /bin/busybox\nWORKDIR /out\n"
            'RUN ["/bin/busybox", "sh", "-c", "echo fetched"]\nARG TARGETARCH\n'
            'RUN ["/bin/busybox", "sh", "-c", "echo for $TARGETARCH > /out/app"]\n'
            "FROM scratch\nCOPY --from=build /out/app /app\n"
        )
        built = bench.build(text, files={"busybox": BUSYBOX.read_bytes()}, platforms=(ARM, S390))
        assert [config.platform for config in configs(built)] == [ARM, S390]
        assert len({config.rootfs.diff_ids for config in configs(built)}) == 2
        assert [name for name, _ in built.steps].count('RUN ["/bin/busybox", "sh", "-c", "echo fetched"]') == 1

    def test_without_an_emulator_it_says_how_to_get_one(self, bench: Bench) -> None:
        # loong64: nobody who runs this has an emulator for that
        with pytest.raises(BuildFailed, match=r"can't run programs for linux/loong64") as caught:
            bench.build('FROM scratch\nRUN ["/x"]\n', platforms=(Platform("linux", "loong64"),))
        assert "qemu-user-static" in str(caught.value.hint)
        assert "--install loong64" in str(caught.value.hint)

    def test_with_an_emulator_it_runs(self, bench: Bench, emulator: str) -> None:
        """The emulator is busybox: it takes the name of the program to emulate for that of one of its commands."""
        program = b"\x7fELF\x02\x02\x01".ljust(16, b"\0") + struct.pack(">HH", 2, 22).ljust(48, b"\0")
        built = bench.build(
            'FROM scratch\nCOPY --chmod=755 program /bin/touch\nRUN ["/bin/touch", "/made"]\n',
            files={"program": program + emulator.encode()},
            platforms=(S390,),
        )
        assert built.names() == ["made"]


@pytest.fixture
def emulator() -> Iterator[str]:
    """A handler for programs for s390x whose header is followed by a name that is ours alone."""
    import os

    from runner.kernel.mounts import filesystem

    folder = filesystem("binfmt_misc")
    name = f"pybuild-test-{os.getpid()}"
    magic = b"\x7fELF\x02\x02\x01".ljust(16, b"\0") + struct.pack(">HH", 2, 22)
    escaped = "".join(f"\\x{byte:02x}" for byte in magic)

    def write(file: str, text: str) -> None:
        handle = os.open(file, os.O_WRONLY, dir_fd=folder)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)

    write("register", f":{name}:M::{escaped}::{BUSYBOX}:F")
    try:
        yield name
    finally:
        write(name, "-1")
        os.close(folder)
