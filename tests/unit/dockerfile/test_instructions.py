"""reference/builder.md §1.5 to §1.7: each instruction with its forms and flags."""

from typing import TypeVar

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthcheckInstruction,
    Instruction,
    Label,
    Maintainer,
    MountFlag,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

Found = TypeVar("Found", bound=Instruction)


def one(kind: type[Found], text: str) -> Found:
    found = parse_dockerfile(f"FROM base\n{text}\n").instructions[-1]
    assert isinstance(found, kind)
    return found


class TestFrom:
    def test_image_alone(self) -> None:
        found = one(From, "FROM debian:12")
        assert (found.image, found.stage, found.platform) == ("debian:12", None, "")

    def test_stage_name_is_lower_case(self) -> None:
        assert one(From, "FROM a aS Build-1.x_y").stage == "build-1.x_y"

    def test_platform(self) -> None:
        assert one(From, "FROM --platform=$BUILDPLATFORM a").platform == "$BUILDPLATFORM"

    def test_global_args_come_first(self) -> None:
        first = parse_dockerfile("ARG A=1\nFROM $A").instructions[0]
        assert isinstance(first, Arg)


class TestVariables:
    def test_arg_with_and_without_default(self) -> None:
        assert one(Arg, "ARG A B=1 C= D='x y'").pairs == (("A", None), ("B", "1"), ("C", ""), ("D", "'x y'"))

    def test_env_keeps_quotes_and_escapes_for_expansion(self) -> None:
        assert one(Env, "ENV a=\"b c\" d=e\\ f g='h i'").pairs == (("a", '"b c"'), ("d", "e\\ f"), ("g", "'h i'"))

    def test_legacy_form_takes_the_rest_of_the_line(self) -> None:
        found = one(Env, "ENV  key   several words = here")
        assert (found.pairs, found.legacy) == ((("key", "several words = here"),), True)

    def test_label(self) -> None:
        assert one(Label, 'LABEL "a b"=c d.e=f').pairs == (('"a b"', "c"), ("d.e", "f"))

    def test_an_equals_sign_inside_of_a_value(self) -> None:
        assert one(Env, "ENV a=b=c").pairs == (("a", "b=c"),)


class TestCommandForms:
    """JSON is tried when the text begins with `[`; what is no JSON goes to the shell as it is."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('["a", "b c"]', ("a", "b c")),
            ('[ "a"\t, "\\u00e9\\n\\"" ]', ("a", 'é\n"')),
            ("[]", ()),
            ('["\\ud83d\\ude00", "\\ud83d"]', ("\N{GRINNING FACE}", "\N{REPLACEMENT CHARACTER}")),
        ],
    )
    def test_exec_form(self, text: str, words: tuple[str, ...]) -> None:
        assert one(Cmd, f"CMD {text}").command == Command(exec_form=words)

    @pytest.mark.parametrize(
        "text",
        ["['a', 'b']", '["a"] # comment', '["a",]', '["a\\x"]', '["a"', "[ -f x ] && y", '"a"'],
    )
    def test_all_else_is_shell_form(self, text: str) -> None:
        assert one(Entrypoint, f"ENTRYPOINT {text}").command == Command(shell_form=text)

    def test_run_text_keeps_its_escapes(self) -> None:
        assert one(Run, r'RUN echo "\n" \$x').command.shell_form == r'echo "\n" \$x'

    def test_two_dashes_end_the_flags(self) -> None:
        assert one(Run, "RUN --network=none -- --help").command.shell_form == "--help"

    def test_shell(self) -> None:
        assert one(Shell, 'SHELL ["/bin/bash", "-c"]').shell == ("/bin/bash", "-c")


class TestRunFlags:
    def test_every_kind(self) -> None:
        found = one(Run, "RUN --network=none --security=insecure --device=a/b=c,required --device=d/e make")
        assert (found.network, found.security, found.devices) == ("none", "insecure", ("a/b=c,required", "d/e"))

    @pytest.mark.parametrize(
        ("text", "mount"),
        [
            ("target=/x", MountFlag(target="/x")),
            ("type=bind,from=s,src=/a,dst=/b,rw", MountFlag(from_="s", source="/a", target="/b", read_only=False)),
            ("type=bind,source=a,destination=b,readonly=false", MountFlag(source="a", target="b", read_only=False)),
            ("TYPE=Cache,TARGET=/c,id=i,sharing=Locked,mode=0700,uid=1,gid=2,ro",
             MountFlag("cache", "/c", id="i", sharing="locked", mode="0700", uid="1", gid="2", read_only=True)),
            ("type=tmpfs,target=/t,size=64m", MountFlag("tmpfs", "/t", size="64m")),
            ("type=secret,id=key,env=KEY,required", MountFlag("secret", id="key", env="KEY", required=True)),
            ("type=ssh,required=true,mode=0600", MountFlag("ssh", required=True, mode="0600")),
            ("type=bind,target=$HOME/x,source=${SRC:-.}", MountFlag(target="$HOME/x", source="${SRC:-.}")),
            ("type=cache,target=/c,uid=$UID", MountFlag("cache", "/c", uid="$UID")),
        ],
    )  # fmt: skip
    def test_mount(self, text: str, mount: MountFlag) -> None:
        assert one(Run, f"RUN --mount={text} make").mounts == (mount,)

    def test_quotes_protect_blanks(self) -> None:
        assert one(Run, "RUN --mount=target=\"/a b\" --mount='target=/c d' x").mounts == (
            MountFlag(target="/a b"),
            MountFlag(target="/c d"),
        )

    def test_csv_quotes_protect_commas(self) -> None:
        assert one(Run, """RUN --mount='target=/x,"source=a,b"' x""").mounts == (MountFlag(target="/x", source="a,b"),)


class TestCopyAndAdd:
    def test_copy_flags(self) -> None:
        found = one(
            Copy,
            "COPY --from=Build --chown=a:b --chmod=u=rwX,go=rX --link --parents --exclude=*.o --exclude=x a b/ c/",
        )
        assert found.sources == ("a", "b/")
        assert found.destination == "c/"
        assert (found.from_, found.chown, found.chmod) == ("Build", "a:b", "u=rwX,go=rX")
        assert (found.link, found.parents, found.excludes) == (True, True, ("*.o", "x"))

    def test_add_flags(self) -> None:
        found = one(Add, "ADD --checksum=sha256:00 --keep-git-dir=false --unpack --link=TRUE --chmod=0755 u /d")
        assert (found.checksum, found.keep_git_dir, found.unpack, found.link) == ("sha256:00", False, True, True)

    def test_what_was_not_given_is_not_false(self) -> None:
        found = one(Add, "ADD a b")
        assert (found.keep_git_dir, found.unpack, found.link) == (None, None, False)

    def test_json_protects_blanks(self) -> None:
        assert one(Copy, 'COPY ["a b", "c"]').sources == ("a b",)

    def test_quotes_are_for_expansion(self) -> None:
        assert one(Copy, "COPY \"a\" '$b' c").sources == ('"a"', "'$b'")

    @pytest.mark.parametrize("mode", ["0", "755", "07777", "+x", "u+rwx,g=u,o-w", "$MODE"])
    def test_chmod(self, mode: str) -> None:
        assert one(Copy, f"COPY --chmod={mode} a b").chmod == mode


class TestTheOthers:
    def test_one_text_with_blanks(self) -> None:
        assert one(Workdir, "WORKDIR /a b").path == "/a b"
        assert one(User, "USER me:us").user == "me:us"
        assert one(Stopsignal, "STOPSIGNAL SIGTERM").signal == "SIGTERM"
        assert one(Maintainer, "MAINTAINER A B <a@b>").name == "A B <a@b>"

    def test_words(self) -> None:
        assert one(Expose, "EXPOSE 80 $PORT/udp").ports == ("80", "$PORT/udp")
        assert one(Volume, "VOLUME /a /b").paths == ("/a", "/b")
        assert one(Volume, 'VOLUME ["/a b"]').paths == ("/a b",)

    def test_healthcheck(self) -> None:
        found = one(
            HealthcheckInstruction,
            "HEALTHCHECK --interval=1m30s --timeout=.5s --start-period=0 --start-interval=1.5h --retries=3 CMD curl x",
        )
        second = 1_000_000_000
        assert found.command == Command(shell_form="curl x")
        assert (found.interval, found.timeout, found.start_period) == (90 * second, second // 2, 0)
        assert (found.start_interval, found.retries) == (5400 * second, 3)

    def test_healthcheck_exec_form_and_none(self) -> None:
        assert one(HealthcheckInstruction, 'HEALTHCHECK cmd ["a"]').command == Command(exec_form=("a",))
        assert one(HealthcheckInstruction, "HEALTHCHECK NONE").none

    def test_onbuild_keeps_the_text(self) -> None:
        assert one(Onbuild, "onbuild   copy --chown=1 . /src").trigger == "copy --chown=1 . /src"
