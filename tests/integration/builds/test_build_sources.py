"""Where files come from: contexts with names, stages, images, archives, heredocs."""

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import Builder, BuildRequest
from builder.errors import BuildFailed, ContextError
from builder.progress import Notice
from registry.storage import ContentStore

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root


class TestNamedContexts:
    def test_a_directory_is_copied_from_by_its_name_and_has_its_own_ignore_file(
        self, bench: "Bench", ram_path: Path
    ) -> None:
        other = ram_path / "other"
        other.mkdir()
        (other / "kept").write_text("k")
        (other / "left-out").write_text("l")
        (other / ".dockerignore").write_text("left-out\n.dockerignore\n")
        built = bench.build("FROM scratch\nCOPY --from=mine . /d/\n", contexts={"mine": str(other)})
        assert built.names() == ["d", "d/kept"]

    def test_a_directory_may_be_a_base(self, bench: "Bench", ram_path: Path) -> None:
        (ram_path / "tree" / "etc").mkdir(parents=True)
        (ram_path / "tree" / "etc" / "name").write_text("x")
        built = bench.build("FROM tree\nCMD x\n", contexts={"tree": str(ram_path / "tree")})
        assert built.names() == ["etc", "etc/name"]

    def test_an_image_stands_in_for_a_stage_of_that_name(self, bench: "Bench", base: str) -> None:
        bench.build(base + "RUN echo replaced > /which\n", tags=["stand-in:1"])
        built = bench.build(
            "FROM nowhere/at/all AS build\nFROM scratch\nCOPY --from=build /which /which\n",
            contexts={"build": "docker-image://stand-in:1"},
        )
        assert built.read("which") == b"replaced\n"

    def test_one_that_is_not_there_is_named(self, bench: "Bench", ram_path: Path) -> None:
        with pytest.raises((ContextError, BuildFailed), match="gone"):
            bench.build("FROM scratch\nCOPY --from=gone . /\n", contexts={"gone": str(ram_path / "gone")})


class TestCopies:
    def test_that_overwrite_each_other_are_warned_of(self, bench: "Bench") -> None:
        built = bench.build("FROM scratch\nCOPY one two /file\n", files={"one": "1", "two": "2"})
        assert built.read("file") == b"2"
        assert [event.text for event in built.events if isinstance(event, Notice)] == [
            "files were copied over each other to /file; for a directory, write it as /file/"
        ]

    def test_owners_of_a_stages_files_are_kept_and_of_a_contexts_are_not(self, bench: "Bench", base: str) -> None:
        import os

        bench.write({"mine": "x"})
        os.chown(bench.context / "mine", 1234, 1234)
        built = bench.build(
            base
            + "RUN echo > /theirs && chown 7:8 /theirs\nFROM scratch\nCOPY mine /mine\nCOPY --from=base /theirs /\n"
        )
        assert [(entry.uid, entry.gid) for number in (0, 1) for entry in built.layer(number)] == [(0, 0), (7, 8)]

    def test_an_empty_stage_can_be_looked_into(self, bench: "Bench", base: str) -> None:
        text = f"FROM scratch AS empty\n{base}COPY --from=empty /x* /d/\n"
        text += "RUN --mount=from=empty,target=/e ! ls /e | grep . && ! touch /e/f\n"
        assert bench.build(text).names(-2) == []

    def test_from_an_image_of_the_store(self, bench: "Bench", base: str) -> None:
        bench.build(base + "RUN echo tool > /tool\n", tags=["tools:1"])
        assert bench.build("FROM scratch\nCOPY --from=tools:1 /tool /t\n").read("t") == b"tool\n"

    def test_a_heredoc_is_a_file_of_mode_0644(self, bench: "Bench") -> None:
        built = bench.build("FROM scratch\nENV WHO=me\nCOPY <<a <<'b' /d/\nof $WHO\na\nof $WHO\nb\n")
        assert (built.read("d/a"), built.read("d/b")) == (b"of me\n", b"of $WHO\n")
        assert [entry.mode for entry in built.layer(-1)] == [0o755, 0o644, 0o644]

    def test_add_unpacks_an_archive_and_copy_does_not(self, bench: "Bench") -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as packed:
            entry = tarfile.TarInfo("inside/file")
            entry.size = 1
            packed.addfile(entry, io.BytesIO(b"x"))
        built = bench.build("FROM scratch\nADD a.tgz /add/\nCOPY a.tgz /copy/\n", files={"a.tgz": archive.getvalue()})
        assert "add/inside/file" in built.names(0)
        assert built.names(1) == ["copy", "copy/a.tgz"]

    @pytest.mark.parametrize(
        ("instruction", "says"),
        [
            ("COPY missing /", "missing"),
            ("COPY ../../../../etc/passwd /", "etc/passwd"),
            ("COPY link /", "link"),
            ("COPY left-out /", "left"),
            ("ADD missing.tar /", "missing.tar"),
        ],
    )
    def test_what_is_not_in_the_context_can_not_be_had(self, bench: "Bench", instruction: str, says: str) -> None:
        bench.write({".dockerignore": "left-out\n", "left-out": ""})
        (bench.context / "link").symlink_to("/etc/passwd")
        with pytest.raises(BuildFailed, match=says) as caught:
            bench.build(f"FROM scratch\n{instruction}\n")
        assert f">>> {instruction}" in str(caught.value)

    def test_a_pattern_may_match_nothing(self, bench: "Bench") -> None:
        assert bench.build("FROM scratch\nCOPY nothing* /d/\n").names() in ([], ["d"])


class TestSecurity:
    def test_an_insecure_step_has_all_rights_and_an_ordinary_one_has_dockers(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN {} grep -E 'CapEff|Seccomp:' /proc/self/status\n"
        ordinary = bench.build(text.format("")).output
        assert "00000000a80425fb" in ordinary
        assert "Seccomp:\t2" in ordinary
        insecure = bench.build(text.format("--security=insecure"), allow=frozenset({"security.insecure"})).output
        assert "00000000a80425fb" not in insecure
        assert "Seccomp:\t0" in insecure

    def test_another_user_of_the_machine_can_not_read_the_state(self, bench: "Bench", base: str) -> None:
        bench.build(base)
        assert bench.root.stat().st_mode & 0o077 == 0


def test_a_new_root_is_made_by_the_first_build(bench: "Bench", base: str, ram_path: Path) -> None:
    bench.write({"Dockerfile": base})
    root = ram_path / "deep" / "down"
    with ContentStore.open(root) as store:
        Builder(root, store).build(BuildRequest(context=str(bench.context), network="none"))
    assert (root / "snapshots").is_dir()
