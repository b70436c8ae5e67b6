"""The cache from outside: mounts taken from machine to machine, disk space told and given back."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Builder, BuildRequest
from builder.cache.mounts import cache_mounts
from builder.cache.transfer import Port
from builder.errors import BuilderError
from builder.progress import Notice
from pybuild.cli.main import main
from registry.storage import ContentStore

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root

TOOL = "FROM base\nRUN --mount=type=cache,id=tool,target=/c cat /c/log > /seen || true; echo {} >> /c/log\n"


class TestMounts:
    def test_another_machine_goes_on_with_the_cache_of_this_one(
        self, bench: "Bench", base: str, ram_path: Path
    ) -> None:
        bench.build(base + TOOL.format("here"), caches_to=(Port("", ram_path / "ci"),))
        with ContentStore.open(ram_path / "other") as store:
            bench.write({"Dockerfile": base + TOOL.format("there")})
            request = BuildRequest(
                context=str(bench.context),
                network="none",
                caches_from=(Port("tool", ram_path / "ci"),),
                caches_to=(Port("tool", ram_path / "tool.tar"),),
            )
            Builder(ram_path / "other", store).build(request)
            (mount,) = cache_mounts(ram_path / "other")
            assert (mount.path / "log").read_text() == "here\nthere\n"
        assert (ram_path / "tool.tar").stat().st_size > 0

    def test_a_first_run_is_told_that_there_is_nothing_yet(self, bench: "Bench", base: str, ram_path: Path) -> None:
        bench.build(base, caches_from=(Port("tool", ram_path / "tool.tar.zst"),))
        assert Notice(f"no cache mount 'tool' in {ram_path}/tool.tar.zst yet") in bench.events

    def test_a_damaged_archive_ends_the_build_before_it_begins(self, bench: "Bench", base: str, ram_path: Path) -> None:
        (ram_path / "tool.tar.zst").write_bytes(b"no archive" * 100)
        with pytest.raises(BuilderError, match=r"tool\.tar\.zst"):
            bench.build(base, caches_from=(Port("tool", ram_path / "tool.tar.zst"),))
        assert cache_mounts(bench.root) == []

    def test_a_mount_knows_its_id_and_when_it_was_used_last(self, bench: "Bench", base: str) -> None:
        bench.build(base + TOOL.format("one"))
        (mount,) = cache_mounts(bench.root)
        os.utime(f"{mount.path}.lock", (1, 1))
        bench.build(base + TOOL.format("two"))
        (mount,) = cache_mounts(bench.root)
        assert mount.id == "tool"
        assert time.time() - mount.used < 60


class TestCommands:
    def run(self, bench: "Bench", capsys: pytest.CaptureFixture[str], *words: str) -> str:
        assert main(["--root", str(bench.root), *words]) == 0
        return capsys.readouterr().out

    def test_why(self, bench: "Bench", base: str, capsys: pytest.CaptureFixture[str]) -> None:
        text = base + "FROM base\nCOPY f /f\nRUN cat /f > /g\n"
        bench.build(text, files={"f": "1"})
        bench.build(text, files={"f": "2"})
        found = self.run(bench, capsys, "why", "copy F")
        assert found.splitlines() == [
            "#3   MISSED   [stage-1 1/2] COPY f /f",
            f"{'':13} f in the build context: content changed",
        ]
        assert [line[:13] for line in self.run(bench, capsys, "why").splitlines() if line[:1] == "#"] == [
            "#1   CACHED  ", "#2   CACHED  ", "#3   MISSED  ", "#4   MISSED  ",
        ]  # fmt: skip
        steps = json.loads(self.run(bench, capsys, "why", "4", "--format", "json"))
        assert [reason["kind"] for reason in steps[0]["reasons"]] == ["parent"]

    def test_why_of_a_step_that_there_is_not(
        self, bench: "Bench", base: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bench.build(base)
        assert main(["--root", str(bench.root), "why", "9"]) != 0
        assert "there is #1, #2" in capsys.readouterr().err

    def test_explain(self, bench: "Bench", base: str, capsys: pytest.CaptureFixture[str]) -> None:
        bench.write({"Dockerfile": base})
        words = ["build", "-q", "--explain", "--network", "none", str(bench.context)]
        assert main(["--root", str(bench.root), *words]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("sha256:")
        assert "#1   MISSED   [1/2] COPY busybox /bin/busybox\n" in shown.err
        assert "no step like it was built before" in shown.err

    def test_explain_among_events_in_json(self, bench: "Bench", base: str, capsys: pytest.CaptureFixture[str]) -> None:
        bench.write({"Dockerfile": base})
        words = ["build", "--progress", "rawjson", "--explain", "--network", "none", str(bench.context)]
        assert main(["--root", str(bench.root), *words]) == 0
        last = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert last["event"] == "Explained"
        assert [step["outcome"] for step in last["steps"]] == ["missed", "missed"]

    def test_prune_and_du(self, bench: "Bench", base: str, capsys: pytest.CaptureFixture[str]) -> None:
        bench.build(base + TOOL.format("here"))
        assert "tool" in self.run(bench, capsys, "builder", "prune", "--dry-run", "--filter", "type=exec.cachemount")
        assert len(cache_mounts(bench.root)) == 1
        self.run(bench, capsys, "builder", "prune", "-af", "--max-age", "1h")
        assert len(cache_mounts(bench.root)) == 1
        self.run(bench, capsys, "builder", "prune", "-af", "--now")
        assert bench.store.cache_entries() == []
        assert cache_mounts(bench.root) == []
        shown = json.loads(self.run(bench, capsys, "du", "--format", "json"))
        kinds = {row["type"]: row for row in shown["usage"]}
        assert (kinds["unpacked"]["count"], kinds["mounts"]["count"], kinds["layers"]["count"]) == (0, 0, 0)
        assert kinds["images"]["count"] == 4  # blobs: three layers and the config

    @pytest.mark.parametrize(
        "words", [("--keep-storage", "much"), ("--max-age", "old"), ("--filter", "type=x"), ("--filter", "colour=red")]
    )
    def test_what_prune_does_not_understand(
        self, bench: "Bench", capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
    ) -> None:
        assert main(["--root", str(bench.root), "builder", "prune", *words]) == 2
        assert "hint:" in capsys.readouterr().err
