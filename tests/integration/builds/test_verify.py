"""`pybuild verify`: what a build makes again, elsewhere and on another day, and the first thing that differs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import BuildRequest, Output
from builder.comparing import Difference
from builder.errors import BuildFailed
from builder.exporters.annotations import parse_annotation
from builder.verify import Verdict, verify
from registry.model import Platform, Reference
from tests.integration.builds.conftest import Bench

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Built

pytestmark = pytest.mark.root
TEXT = 'FROM base:1\nCOPY d /d\nRUN ["/bin/busybox", "sh", "-c", "echo made > /made; mkdir /new"]\nLABEL a=1\n'
FILES = {"d/f": "1", "d/sub/g": "2"}
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def built(bench: Bench) -> "Built":
    bench.build("FROM scratch\nCOPY busybox /bin/busybox\n", tags=["base:1"])
    return bench.build(TEXT, files=FILES, tags=["app:1"])


@pytest.fixture
def verdict(bench: Bench) -> Callable[..., Verdict]:
    """Of app:1, built again from what the context holds now."""

    def of(**words: object) -> Verdict:
        request = BuildRequest(**{"context": str(bench.context), "network": "none", **words})
        return verify(bench.root, bench.store, Reference.parse("app:1"), request)

    return of


class TestVerdict:
    def test_the_same_input_gives_the_same_image(
        self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]
    ) -> None:
        before, images = sorted(os.listdir(bench.root / "tmp")), bench.store.images()
        assert verdict() == Verdict(built.result.digest, built.result.digest, None)
        assert sorted(os.listdir(bench.root / "tmp")) == before
        assert bench.store.images() == images

    def test_a_changed_file_is_named_with_the_byte(
        self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]
    ) -> None:
        bench.write({"d/sub/g": "3"})
        assert verdict().difference == Difference(
            "layer 2 of 3 (COPY d /d # buildkit)",
            "/d/sub/g: byte 0: b'2' in the image, b'3' in the rebuilt one",
        )

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda d: (d / "f").chmod(0o600), "/d/f: mode 0644 in the image, 0600 in the rebuilt one"),
            (lambda d: (d / "more").touch(), "/d/more: only in the rebuilt one"),
            (lambda d: (d / "f").unlink(), "/d/f: only in the image"),
            (lambda d: (d / "f").write_text("12"), "/d/f: size 1 in the image, 2 in the rebuilt one"),
            (lambda d: os.utime(d / "f", (5, 5)), "/d/f: time "),
        ],
    )
    def test_so_is_whatever_else_a_layer_says(
        self, bench: Bench, built: "Built", verdict: Callable[..., Verdict], change: Callable[[Path], object], what: str
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in (bench.context / "d",)}
        change(bench.context / "d")
        for path, time in before.items():
            os.utime(path, ns=(time, time))
        found = verdict().difference
        assert found is not None
        assert found.where == "layer 2 of 3 (COPY d /d # buildkit)"
        assert found.what.startswith(what)

    def test_a_step_that_gives_something_else_each_time_is_named(
        self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]
    ) -> None:
        random = 'RUN ["/bin/busybox", "sh", "-c", "cat /proc/sys/kernel/random/uuid > /made"]\n'
        bench.build(f"FROM base:1\n{random}", tags=["app:1"])
        found = verdict().difference
        assert found is not None
        assert found.where.startswith("layer 2 of 2 (RUN /bin/busybox sh -c cat /proc")
        assert found.what.startswith("/made: byte ")

    def test_a_changed_setting_is_named(self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]) -> None:
        bench.write({"Dockerfile": TEXT.replace("a=1", "a=2")})
        assert verdict().difference == Difference(
            "configuration", 'config.Labels.a: "1" in the image, "2" in the rebuilt one'
        )

    def test_a_step_more_or_less_is_named(self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]) -> None:
        bench.write({"Dockerfile": f"{TEXT}WORKDIR /w\n"})
        assert verdict().difference == Difference("layer 4 of 4 (WORKDIR /w)", "not in the image")

    def test_another_base_image_is_named(self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]) -> None:
        bench.build("FROM scratch\nCOPY --chmod=700 busybox /bin/busybox\n", tags=["base:1"])
        bench.write({"Dockerfile": TEXT})
        assert verdict().difference == Difference(
            "layer 1 of 3 (COPY busybox /bin/busybox # buildkit)",
            "/bin: mode 0755 in the image, 0700 in the rebuilt one",
        )

    def test_other_packing_is_no_other_image_but_another_manifest(
        self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]
    ) -> None:
        found = verdict(outputs=(Output.parse("type=image,compression=zstd"),)).difference
        assert found is not None
        assert found.where == "manifest"
        assert found.what.startswith("layers[1].digest: ")

    def test_annotations_and_platforms_are_compared_too(self, bench: Bench, verdict: Callable[..., Verdict]) -> None:
        both = (Platform("linux", "arm64"), Platform("linux", "s390x"))
        words = {"platforms": both, "annotations": parse_annotation("manifest[linux/s390x]:a=1")}
        bench.build("FROM scratch\nCOPY d /d\n", files=FILES, tags=["app:1"], **words)
        assert verdict(**words).difference is None
        found = verdict(platforms=both).difference
        assert found is not None
        assert str(found).startswith("linux/s390x: manifest: annotations")

    def test_of_an_index_the_image_that_is_built_is_compared(
        self, bench: Bench, verdict: Callable[..., Verdict]
    ) -> None:
        both = (Platform("linux", "arm64"), Platform("linux", "s390x"))
        bench.build("FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\n", tags=["app:1"], platforms=both)
        assert verdict(platforms=both[:1]).difference is None
        assert verdict(platforms=both[1:]).difference is None
        bench.write({"Dockerfile": "FROM scratch\nENV A=s390x\n"})
        found = verdict(platforms=both[:1]).difference
        assert found is not None
        assert found.what == 'config.Env[1]: "A=arm64" in the image, "A=s390x" in the rebuilt one'

    def test_a_step_that_fails_ends_it(self, bench: Bench, built: "Built", verdict: Callable[..., Verdict]) -> None:
        bench.write({"Dockerfile": f'{TEXT}RUN ["/bin/busybox", "false"]\n'})
        with pytest.raises(BuildFailed, match="exit code: 1"):
            verdict()
        assert not list((bench.root / "tmp").glob("verify-*"))


class TestCommand:
    """Two roots, two days, one digest."""

    def run(self, root: Path, *words: str, days: int = 0) -> subprocess.CompletedProcess[str]:
        clock = ["faketime", "-f", f"+{days}d"] if days else []
        command = [*clock, sys.executable, "-m", "pybuild.cli.main", "--root", str(root), *words]
        env = {**os.environ, "NO_COLOR": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        env.pop("SOURCE_DATE_EPOCH", None)
        return subprocess.run(
            command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120, check=False
        )

    def test_another_root_on_another_day_gives_the_same_digest(self, bench: Bench, base: str, ram_path: Path) -> None:
        bench.write(
            {"Dockerfile": base + "COPY d /d\nRUN date > /dev/null; echo x > /x; touch /y\nWORKDIR /w\n", **FILES}
        )
        found = [
            self.run(ram_path / name, "build", "-q", "--network", "none", str(bench.context), days=days)
            for name, days in (("one", 0), ("two", 400))
        ]
        assert [done.stderr for done in found] == ["", ""]
        assert found[0].stdout == found[1].stdout != ""

    def test_the_command_says_so_and_ends_with_0_or_1(self, bench: Bench, built: "Built") -> None:
        words = ("verify", "app:1", "--", "-q", "--network", "none", str(bench.context))
        done = self.run(bench.root, *words, days=400)
        assert (done.stdout, done.returncode) == (f"the same: app:1 is {built.result.digest}\n", 0)
        bench.write({"d/f": "9"})
        done = self.run(bench.root, *words)
        assert done.returncode == 1
        assert done.stdout == (
            "different: layer 2 of 3 (COPY d /d # buildkit): /d/f: byte 0: b'1' in the image, b'9' in the rebuilt one\n"
        )

    def test_an_image_may_be_told_by_its_id(self, bench: Bench, built: "Built") -> None:
        name = built.result.image_id.short
        done = self.run(bench.root, "verify", name, "--", "-q", "--network", "none", str(bench.context))
        assert done.stdout == f"the same: {name} is {built.result.digest}\n"

    def test_an_image_that_is_not_here_is_told(self, bench: Bench) -> None:
        done = self.run(bench.root, "verify", "nothing:1", "--", str(bench.context))
        assert done.returncode == 1
        assert "nothing:1" in done.stderr
        assert "Traceback" not in done.stderr
