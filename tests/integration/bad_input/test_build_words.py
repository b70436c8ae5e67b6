"""What a user gets wrong in a build: Dockerfile, context, options. Each error says what, where, and what to do."""

import os
import re
import stat
from pathlib import Path

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = pytest.mark.root
QUIET = ("--network", "none", "--progress", "plain")

FAULTS = [
    # Dockerfile, what the error says, what the hint says
    ("FROM busybox\nCOPPY a b\n", "Dockerfile:2:1: unknown instruction COPPY", "did you mean COPY?"),
    ("COPY a b\n", "Dockerfile:1:1: COPY before the first FROM", "only ARG"),
    ("FROM busybox AS\n", "Dockerfile:1:16: FROM requires one image", "write FROM"),
    ("FROM busybox\nRUN --mount=type=foo x\n", "Dockerfile:2:18: --mount: unknown type 'foo'", "bind, cache"),
    ("FROM busybox\nRUN <<EOF\nx\n", "Dockerfile:2:5: unterminated heredoc", "EOF"),
    ('FROM busybox\nLABEL "a\n', 'Dockerfile:2:7: the quote " is not closed', "escape"),
    ("FROM busybox\nEXPOSE abc\n", "Dockerfile:2:1: not a port: 'abc'", "write EXPOSE 80"),
    ("FROM busybox\nCOPY --chmod=999 a /\n", "Dockerfile:2:14: --chmod: not a mode", "octal like 755"),
    ("FROM $BASE\n", "Dockerfile:1:1: base name ($BASE) should not be blank", "default before FROM"),
    ("FROM UPPER\n", "Dockerfile:1:1: 'UPPER' names no image: repository name must be", "upper"),
    ("FROM busybox:${\n", "Dockerfile:1:16: syntax error: missing '}'", ""),
    ("FROM busybox AS a\nCOPY --from=b x /\nFROM busybox AS b\nCOPY --from=a x /\n",
     "Dockerfile:2:1: cannot copy from stage 'b'", "up"),
    ("", "Dockerfile:1:1: file with no instructions", "begins with FROM"),
    ("# nothing\n", "Dockerfile:1:1: file with no instructions", "begins with FROM"),
    (b"FROM busybox\nRUN echo \0\n", "Dockerfile:2:10: a NUL byte", "text file"),
    (b"\x7fELF\x80\x81", "Dockerfile:1:", ""),
    (b"FROM busybox\nRUN " + b"a" * 70_000, "Dockerfile:2:1: the line has more than 65535 bytes", "COPY"),
    (b"FROM busybox\nENV A=aaaa\n" + b"ENV A=$A$A$A$A$A$A$A$A\n" * 12, "more than 4194304 characters", ""),
    ("FROM busybox AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(3000)), "stages stand on", "FROM"),
]  # fmt: skip


class TestADockerfile:
    @pytest.mark.parametrize(("dockerfile", "says", "hint"), FAULTS, ids=[says[:50] for _, says, _ in FAULTS])
    def test_with_a_fault(
        self, pybuild: Pybuild, contexts: Contexts, dockerfile: str | bytes, says: str, hint: str
    ) -> None:
        with pybuild.unchanged():
            found = pybuild.fails("build", *QUIET, str(contexts(dockerfile)), code=3, says=says, hint=hint)
        assert found.out == ""
        assert found.seconds < 5
        assert found.memory < 120
        assert len(found.err) < 3000
        assert not re.search(r"[\0-\x08\x0b-\x1f\x7f]", found.err)  # nothing that drives a terminal

    def test_that_is_missing(self, pybuild: Pybuild, contexts: Contexts) -> None:
        context = contexts(None, {"app.py": "x"})
        pybuild.fails("build", *QUIET, str(context), code=1, says="no Dockerfile", hint="-f")
        pybuild.fails("build", *QUIET, "-f", "nosuch", str(context), code=1, says="nosuch", hint="-f")
        pybuild.fails("build", *QUIET, "-f", "/tmp", str(context), code=1, says="is a directory", hint="-f")
        (context / "Dockerfile").mkdir()
        pybuild.fails("build", *QUIET, str(context), code=1, says="not a regular file")


class TestAContext:
    def test_that_is_none(self, pybuild: Pybuild, tmp_path: Path) -> None:
        with pybuild.unchanged():
            pybuild.fails("build", str(tmp_path / "nosuch"), code=1, says="nosuch", hint="directory")
            (tmp_path / "file").write_text("FROM busybox\n")
            pybuild.fails("build", str(tmp_path / "file"), code=1, says="neither a directory nor an archive", hint="-f")
            for device in ("/dev/null", "/dev/zero"):
                pybuild.fails("build", device, code=1, says=device)

    def test_on_standard_input_that_is_none(self, pybuild: Pybuild) -> None:
        with pybuild.unchanged():
            pybuild.fails("build", "-", code=1, says="standard input is empty", hint="pipe")
            pybuild.fails("build", "-", stdin=b"\x1f\x8bjunk", code=3, says="Dockerfile:1")
            pybuild.fails("build", "-", stdin=b"PK\3\4" + b"x" * 3000, code=3, says="unknown instruction")
            pybuild.fails("build", "-f", "-", "-", stdin=b"x", code=1, says="both")

    def test_that_nobody_may_leave(self, pybuild: Pybuild, contexts: Contexts) -> None:
        with pybuild.unchanged():
            for line in (
                "COPY ../secret /x", "ADD /../secret /x", "COPY a/../../secret /x", "COPY link /x", "ADD absolute /x",
                "COPY out/secret /x", "RUN --mount=type=bind,source=../secret,target=/m true",
                "RUN --mount=type=bind,source=absolute,target=/m true",
                "RUN --mount=type=bind,source=out,target=/m true",
            ):  # fmt: skip
                context = contexts(f"FROM busybox\n{line}\n", {"a/b": "x"})
                (context.parent / "secret").write_text("hunter2")
                (context / "link").symlink_to("../secret")
                (context / "absolute").symlink_to(context.parent / "secret")
                (context / "out").symlink_to("../secret-directory")
                (context.parent / "secret-directory").mkdir(exist_ok=True)
                pybuild.fails("build", *QUIET, str(context), code=4, says="not found in the build context")

    def test_that_lacks_a_file(self, pybuild: Pybuild, contexts: Contexts) -> None:
        files = {"app.py": "x", "data/rows.csv": "x", ".dockerignore": "data\n"}
        for source, hint in (("ap.py", "did you mean app.py?"), ("data/rows.csv", ".dockerignore:1 (data)")):
            context = contexts(f"FROM busybox\nCOPY {source} /\n", files)
            says = f'"/{source}" not found in the build context'
            pybuild.fails("build", *QUIET, str(context), code=4, says=says, hint=hint)

    def test_whose_link_leads_out_is_told_so(self, pybuild: Pybuild, contexts: Contexts) -> None:
        context = contexts("FROM busybox\nCOPY link /x\n")
        (context / "link").symlink_to("/etc/shadow")
        pybuild.fails("build", *QUIET, str(context), code=4, says="/link", hint="link to /etc/shadow")


class TestAStage:
    def test_nobody_leads_out_of(self, pybuild: Pybuild, contexts: Contexts) -> None:
        marker = "/etc/hostname"
        assert os.path.exists(marker)
        made = "FROM busybox AS a\nRUN ln -s /etc /up && ln -s ../../../../../../etc /far\nFROM busybox\n"
        for line in (
            f"COPY --from=a /up/{Path(marker).name} /x", f"COPY --from=a /far/{Path(marker).name} /x",
            f"COPY --from=a /../../..{marker} /x", "RUN --mount=type=bind,from=a,source=/far,target=/m cat /m/hostname",
        ):  # fmt: skip
            pybuild.fails("build", *QUIET, str(contexts(f"{made}{line}\n")), code=4)

    def test_cache_mounts_have_no_way_out_either(self, pybuild: Pybuild, contexts: Contexts) -> None:
        made = contexts("FROM busybox\nRUN --mount=type=cache,id=../../../../tmp/pb-cache,target=/c echo 1 > /c/here\n")
        pybuild.ok("build", *QUIET, str(made))
        assert not os.path.lexists("/tmp/pb-cache")
        inside = [path for path in pybuild.root.rglob("here") if path.is_file()]
        assert inside
        assert all(path.resolve().is_relative_to(pybuild.root) for path in inside)


OPTIONS = [
    # words, exit code, what the error says, what the hint says
    (["--no-cach"], 2, "'--no-cache'", ""),
    (["-t", "UPPER"], 1, "repository name must be lowercase: 'UPPER'", "write upper"),
    (["-t", ""], 1, "empty", "NAME"),
    (["-t", "a:b:c"], 1, "not a tag: 'b:c'", "128"),
    (["-t", "a@sha256:" + "0" * 64], 2, "no digest", "NAME"),
    (["--target", "nosuch"], 3, "target stage 'nosuch' could not be found", "there is"),
    (["-o", "type=foo"], 1, "unknown type 'foo'", "oci"),
    (["-o", "type=local"], 1, "local needs a directory", "dest="),
    (["-o", "type=oci,dest=/nosuch/x.tar"], 1, "can't write to /nosuch/x.tar: No such file", "dest="),
    (["-o", "type=tar,dest=/tmp"], 1, "can't write to /tmp: Is a directory", "dest="),
    (["-o", "type=local,dest=/etc/hostname"], 1, "can't write to /etc/hostname", "dest="),
    (["-o", "type=tar,dest=/dev/full"], 1, "can't write to /dev/full: No space left", "dest="),
    (["--platform", "linux/riscv64"], 1, "can't get the image busybox", "it is here for linux/amd64 only"),
    (["--network", "foo"], 2, "--network foo", "none"),
    (["--compression", "foo"], 1, "unknown compression 'foo'", "zstd"),
    (["--allow", "foo"], 2, "--allow foo", "network.host"),
    (["--add-host", "foo"], 2, "--add-host foo", ""),
    (["--add-host", "foo:bar"], 2, "not an address", ""),
    (["--secret", "x"], 2, "not a secret: 'x'", "id="),
    (["--build-arg", "=x"], 2, "--build-arg =x", "NAME"),
    (["--label", "=x"], 2, "--label =x", "NAME"),
    (["--build-context", "foo"], 2, "--build-context foo", ""),
    (["--build-arg", "SOURCE_DATE_EPOCH=soon"], 2, "SOURCE_DATE_EPOCH=soon", ""),
    (["--push"], 2, "--push needs a name", "-t"),
    (["--iidfile", "/nosuch/x"], 1, "/nosuch/x", "--iidfile"),
    (["--metadata-file", "/nosuch/x"], 1, "/nosuch/x", "--metadata-file"),
]  # fmt: skip


class TestAnOption:
    @pytest.mark.parametrize(("words", "code", "says", "hint"), OPTIONS, ids=[" ".join(words) for words, *_ in OPTIONS])
    def test_that_makes_no_sense(
        self, pybuild: Pybuild, contexts: Contexts, words: list[str], code: int, says: str, hint: str
    ) -> None:
        context = str(contexts("FROM busybox\nRUN echo hello\n"))
        with pybuild.unchanged():
            pybuild.fails("build", "--progress", "plain", *words, context, code=code, says=says, hint=hint)

    def test_devices_stay_devices(self, pybuild: Pybuild, contexts: Contexts) -> None:
        context = str(contexts("FROM busybox\n"))
        for kind in ("tar", "oci", "docker"):
            pybuild.ok("build", *QUIET, "-o", f"type={kind},dest=/dev/null", context)
        pybuild.ok("save", "-o", "/dev/null", "busybox")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ([], "secret 'x' was not given"), (["--secret", "id=x,src=/nosuch"], "can't read /nosuch"),
            (["--secret", "id=x,env=NOSUCH"], "NOSUCH is not set"), (["--secret", "id=x,src=/tmp"], "Is a directory"),
            (["--secret", "id=x,src=/dev/zero"], "longer than 500 KiB"),
        ],
    )  # fmt: skip
    def test_a_secret_that_is_not_there(
        self, pybuild: Pybuild, contexts: Contexts, given: list[str], says: str
    ) -> None:
        context = str(contexts("FROM busybox\nRUN --mount=type=secret,id=x,required=true true\n"))
        found = pybuild.fails("build", *QUIET, *given, context, code=4, says=says)
        assert found.memory < 120
