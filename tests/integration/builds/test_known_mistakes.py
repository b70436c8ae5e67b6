"""Mistakes that other builders shipped (reference §1.12): one test each, named by what must hold."""

import io
import os
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from builder.errors import BuilderError

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench, Built

pytestmark = pytest.mark.root
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep, revision 2 of the xattr


class TestCopy:
    def test_keeps_the_sticky_bit(self, bench: "Bench", base: str) -> None:
        built = bench.build(f"{base}RUN mkdir -p /src/d && chmod 1777 /src/d\nFROM scratch\nCOPY --from=base /src /\n")
        assert modes(built) == {"d": 0o1777}

    @pytest.mark.parametrize("words", ["caps /", "--chown=5:6 caps /", "--link caps /"])
    def test_keeps_file_capabilities(self, bench: "Bench", words: str) -> None:
        (bench.context / "caps").mkdir()
        (bench.context / "caps/ping").touch()
        os.setxattr(bench.context / "caps/ping", "security.capability", CAPABILITY)
        built = bench.build(f"FROM scratch\nCOPY {words}\n")
        (entry,) = (entry for entry in built.layer(-1) if entry.name == "ping")
        kept = entry.pax_headers["SCHILY.xattr.security.capability"]
        assert kept.encode("utf-8", "surrogateescape") == CAPABILITY

    def test_of_a_directory_that_nobody_may_enter_comes_with_all_below(self, bench: "Bench", base: str) -> None:
        made = f"{base}RUN mkdir -p /src/d/e && touch /src/d/e/f && chmod 0 /src/d/e && chmod 0 /src/d\n"
        built = bench.build(f"{made}FROM scratch\nCOPY --from=base /src /\n")
        assert modes(built) == {"d": 0, "d/e": 0, "d/e/f": 0o644}

    def test_with_a_mode_that_forbids_entering_still_copies_what_is_below(self, bench: "Bench") -> None:
        built = bench.build("FROM scratch\nCOPY --chmod=400 d /d\n", files={"d/e/f": "x"})
        assert modes(built) == {"d": 0o400, "d/e": 0o400, "d/e/f": 0o400}

    def test_is_done_by_root_whatever_user_was_set(self, bench: "Bench", base: str) -> None:
        built = bench.build(f"{base}USER 12:34\nCOPY f /new/f\n", files={"f": "x"})
        assert owners(built) == {"new": (0, 0), "new/f": (0, 0)}

    def test_from_a_stage_keeps_times(self, bench: "Bench") -> None:
        (bench.context / "d").mkdir()
        (bench.context / "d/f").touch()
        os.utime(bench.context / "d/f", (1_000_000_000, 1_000_000_000))
        built = bench.build("FROM scratch AS a\nCOPY d /d\nFROM scratch\nCOPY --from=a /d /e\n")
        assert {entry.name: entry.mtime for entry in built.layer(-1)}["e/f"] == 1_000_000_000

    def test_from_a_stage_knows_no_ignore_file(self, bench: "Bench", base: str) -> None:
        bench.write({".dockerignore": "f\nDockerfile\n"})
        built = bench.build(f"{base}RUN mkdir /src && touch /src/f\nFROM scratch\nCOPY --from=base /src /\n")
        assert built.names() == ["f"]

    def test_keeps_hard_links(self, bench: "Bench", base: str) -> None:
        made = f"{base}RUN mkdir /src && echo x > /src/one && ln /src/one /src/two\n"
        built = bench.build(f"{made}FROM scratch\nCOPY --from=base /src /\n")
        one, two = built.layer(-1)
        assert (one.isreg(), two.islnk(), two.linkname) == (True, True, "one")

    def test_of_a_relative_link_works_twice(self, bench: "Bench") -> None:
        bench.write({"d/target": "x"})
        (bench.context / "d/link").symlink_to("target")
        built = bench.build("FROM scratch\nCOPY d /one/\nCOPY d /one/\nCOPY d/link /one/link\n")
        assert built.read("one/link") == b"x"

    def test_of_a_heredoc_expands_its_body(self, bench: "Bench") -> None:
        built = bench.build("FROM scratch\nENV a=1\nCOPY <<E /e\n$a ${b:-2}\nE\nCOPY <<'E' /q\n$a\nE\n")
        assert (built.read("e"), built.read("q")) == (b"1 2\n", b"$a\n")

    def test_does_not_see_the_umask(self, bench: "Bench") -> None:
        bench.write({"d/f": "x"})
        (bench.context / "d").chmod(0o777)
        (bench.context / "d/f").chmod(0o666)
        lines = "FROM scratch\nCOPY d /a/b/\nCOPY <<E /c/d\nE\nWORKDIR /w/x\n"
        before = os.umask(0o077)
        try:
            built = bench.build(lines)
        finally:
            os.umask(before)
        found = {name: mode for number in range(3) for name, mode in modes(built, number).items()}
        assert found == {
            "a": 0o755, "a/b": 0o755, "a/b/f": 0o666, "c": 0o755, "c/d": 0o644, "w": 0o755, "w/x": 0o755,
        }  # fmt: skip

    def test_to_an_image_without_accounts_takes_numbers_and_refuses_names(self, bench: "Bench") -> None:
        bench.write({"f": "x"})
        assert owners(bench.build("FROM scratch\nCOPY --chown=7:8 f /f\n")) == {"f": (7, 8)}
        assert owners(bench.build("FROM scratch\nCOPY --chown=root:root f /f\n")) == {"f": (0, 0)}
        with pytest.raises(BuilderError, match="stranger"):
            bench.build("FROM scratch\nCOPY --chown=stranger f /f\n")

    def test_over_the_builders_own_places_reaches_the_image_only(self, bench: "Bench", base: str) -> None:
        """KF: a step of the image, or a trigger of its base, replaced the tool's own files."""
        own = [Path("/proc/self/exe").resolve(), Path("/etc/passwd"), bench.root / "meta.db"]
        before = [path.stat() for path in own[:2]]
        places = " ".join(f"COPY evil {path}\n" for path in own)
        bench.build(f"FROM scratch\nONBUILD COPY evil {own[0]}\nONBUILD COPY evil {own[2]}\n", tags=["trap"],
                    files={"evil": "evil"})  # fmt: skip
        built = bench.build(f"FROM scratch AS s\nCOPY evil {own[1]}\nFROM trap\n{places}COPY --from=s / /\n")
        assert built.read(str(own[0]).lstrip("/")) == b"evil"
        assert [path.stat() for path in own[:2]] == before
        assert bench.build("FROM scratch\nCOPY evil /\n").read("evil") == b"evil"  # the store still works


class TestSteps:
    def test_a_volume_makes_no_directory(self, bench: "Bench") -> None:
        built = bench.build('FROM scratch\nVOLUME /data ["x"]\nVOLUME ["/more"]\n')
        assert built.layers == []

    def test_annotations_of_the_base_are_not_the_images(self, bench: "Bench") -> None:
        plain = bench.build("FROM scratch\nCOPY busybox /b\n", tags=["noted"]).manifest
        noted = msgspec.json.encode({**msgspec.json.decode(plain.to_bytes()), "annotations": {"a": "of the base"}})
        (repo,) = (stored.repository for stored in bench.store.images())
        bench.store.put_manifest(repo, noted, plain.media_type, tags=["latest"], adopt=True)
        built = bench.build("FROM noted\nCOPY busybox /c\n", tags=["app"])
        assert b"of the base" in bench.store.manifest(repo, "latest").content
        assert built.layers[0] == plain.layers[0].digest
        assert b"of the base" not in built.manifest.to_bytes()

    def test_an_argument_is_known_in_its_own_stage_only(self, bench: "Bench", base: str) -> None:
        lines = "FROM base AS one\nARG A=1\nRUN echo one=$A > /one\nFROM base AS two\nRUN echo two=$A > /two\n"
        built = bench.build(f"{base}{lines}FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
                            build_args={"A": "given"})  # fmt: skip
        assert (built.read("one"), built.read("two")) == (b"one=given\n", b"two=\n")

    def test_numbers_and_capitals_find_stages_though_others_are_skipped(self, bench: "Bench") -> None:
        stages = "".join(f"FROM scratch AS Stage{number}\nCOPY <<E /f\n{number}\nE\n" for number in range(4))
        last = "FROM scratch\nCOPY --from=1 /f /one\nCOPY --from=STAGE3 /f /three\nCOPY --from=stage2 /f /two\n"
        built = bench.build(stages + last)
        assert [built.read(name) for name in ("one", "two", "three")] == [b"1\n", b"2\n", b"3\n"]
        assert built.done_again[0].startswith("COPY")
        assert not [name for name, _ in built.steps if "Stage0" in name]

    def test_whiteouts_are_marks_and_no_files_when_the_step_is_cached(self, bench: "Bench", base: str) -> None:
        lines = f"{base}COPY f kept /d/\nFROM base AS gone\nRUN rm /d/f\n"
        look = "FROM gone\nRUN ls -A /d > /seen{}\n"
        bench.build(lines + look.format(1), files={"f": "", "kept": ""})
        built = bench.build(lines + look.format(2))
        assert built.done_again == ["RUN ls -A /d > /seen2"]
        assert built.read("seen2") == b"kept\n"

    def test_the_root_of_an_archive_does_not_change_the_destination(self, bench: "Bench", base: str) -> None:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name, kind, mode in (("./", tarfile.DIRTYPE, 0o700), ("./f", tarfile.REGTYPE, 0o644)):
                member = tarfile.TarInfo(name)
                member.type, member.mode, member.uid = kind, mode, 99
                tar.addfile(member)
        built = bench.build(f"{base}RUN mkdir -m 1755 /d\nADD root.tar /d/\nRUN stat -c '%a %u' /d > /seen\n",
                            files={"root.tar": content.getvalue()})  # fmt: skip
        assert built.read("seen") == b"1755 0\n"

    def test_a_command_has_the_group_that_user_names(self, bench: "Bench", base: str) -> None:
        accounts = {"passwd": "app:x:1000:1001::/:/bin/sh\n", "group": "apps:x:1001:\nother:x:2000:\nmore:x:3:app\n"}
        built = bench.build(f"{base}COPY passwd group /etc/\nUSER app:other\nRUN id -u; id -g; id -G\n", files=accounts)
        assert built.output.splitlines() == ["1000", "2000", "2000"]

    def test_a_command_with_its_own_heredoc_gets_variables_from_the_shell(self, bench: "Bench", base: str) -> None:
        built = bench.build(f"{base}ENV a=1\nRUN <<E cat > /one\n$a\nE\nRUN <<'E' cat > /two\n$a\nE\n")
        assert (built.read("one"), built.read("two")) == (b"1\n", b"$a\n")

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    def test_no_archive_writes_through_its_links(self, bench: "Bench", kind: bytes) -> None:
        target = bench.root.parent / "outside"
        target.mkdir()
        (target / "f").write_text("mine")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            link = tarfile.TarInfo("way")
            link.type, link.linkname = kind, f"{target}/f" if kind == tarfile.LNKTYPE else str(target)
            tar.addfile(link)
            member = tarfile.TarInfo("way" if kind == tarfile.LNKTYPE else "way/f")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        try:
            bench.build("FROM scratch\nADD evil.tar /\n", files={"evil.tar": content.getvalue()})
        except BuilderError:
            assert kind == tarfile.LNKTYPE
        assert (target / "f").read_text() == "mine"
        assert os.listdir(target) == ["f"]


def modes(built: "Built", number: int = -1) -> dict[str, int]:
    return {entry.name: entry.mode for entry in built.layer(number)}


def owners(built: "Built") -> dict[str, tuple[int, int]]:
    return {entry.name: (entry.uid, entry.gid) for entry in built.layer(-1)}
