"""From a Dockerfile to the graph and the image's config, with BuildKit's meaning (reference §1.5 to §1.8)."""

from collections.abc import Callable
from typing import Protocol

import pytest

from builder.dockerfile.instructions import DockerfileError
from builder.plan.gitaddress import GitAddress
from builder.plan.planner import Plan
from builder.plan.vertices import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    ImageOp,
    InlineFile,
    MkdirOp,
    RunOp,
    ScratchOp,
    SourcePath,
    Vertex,
    in_order,
)
from registry.model import Digest, Platform
from registry.model.platform import native

Planned = Callable[..., Plan]


class Images(Protocol):
    """The images that FROM finds."""

    asked: list[str]

    def add(self, name: str, **run: object) -> object: ...


DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def history(plan: Plan) -> list[str]:
    return [step.history.created_by for step in plan.steps]


def runs(plan: Plan) -> list[RunOp]:
    return [vertex.op for vertex in in_order([plan.result]) if isinstance(vertex.op, RunOp)]


def env(plan: Plan) -> dict[str, str]:
    """Of the last RUN."""
    return dict(runs(plan)[-1].env)


def copies(plan: Plan) -> list[CopyOp]:
    return [vertex.op for vertex in in_order([plan.result]) if isinstance(vertex.op, CopyOp)]


class TestFrom:
    def test_scratch_is_empty_but_has_a_path(self, plan: Planned) -> None:
        made = plan('FROM scratch\nCMD ["/app"]\n')
        assert isinstance(made.result.op, ScratchOp)
        assert made.config.config.env == (DEFAULT_PATH,)

    def test_an_image_gives_its_config(self, plan: Planned) -> None:
        made = plan("FROM debian\nENV A=1\n")
        assert made.config.config.env == ("PATH=/bin", "LANG=C", "A=1")
        assert made.config.config.cmd == ("bash",)
        assert isinstance(made.result.op, ImageOp)

    def test_only_what_the_target_needs_is_planned(self, plan: Planned, images: Images) -> None:
        made = plan("FROM alpine AS unused\nRUN false\nFROM debian\nRUN true\n")
        assert images.asked == ["debian"]
        assert [op.args[-1] for op in runs(made)] == ["true"]

    def test_a_target_can_be_named_or_numbered_in_any_case(self, plan: Planned) -> None:
        text = "FROM debian AS Build\nRUN a\nFROM build\nRUN b\n"
        for target in ("build", "BUILD", "0"):
            assert [op.args[-1] for op in runs(plan(text, target=target))] == ["a"]

    def test_an_unknown_target_names_the_near_one(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="buidl") as caught:
            plan("FROM debian AS build\n", target="buidl")
        assert caught.value.hint == "did you mean build?"

    def test_a_stage_inherits_all_of_its_parent(self, plan: Planned) -> None:
        made = plan('FROM debian AS a\nARG X=1\nENV E=2\nWORKDIR /w\nSHELL ["/bin/bash", "-c"]\nFROM a\nRUN cmd\n')
        (run,) = runs(made)
        assert run.args == ("/bin/bash", "-c", "cmd")
        assert run.cwd == "/w"
        assert env(made) | {"X": "1", "E": "2"} == env(made)

    def test_sibling_stages_share_no_arguments(self, plan: Planned) -> None:
        made = plan("FROM debian AS a\nARG X=1\nRUN a\nFROM debian\nRUN b\n")
        assert "X" not in env(made)

    def test_the_nearest_earlier_stage_of_a_name_is_the_base(self, plan: Planned) -> None:
        made = plan("FROM debian AS x\nRUN one\nFROM debian AS x\nRUN two\nFROM x\nRUN three\n")
        assert [op.args[-1] for op in runs(made)] == ["two", "three"]

    def test_an_argument_before_from_may_name_the_base(self, plan: Planned, images: Images) -> None:
        text = "ARG BASE=alpine\nFROM ${BASE}\n"
        plan(text)
        plan(text, build_args={"BASE": "debian"})
        assert images.asked == ["alpine", "debian"]

    def test_a_blank_base_is_explained(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="should not be blank"):
            plan("ARG BASE\nFROM $BASE\n")

    def test_a_platform_that_is_none_is_refused(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="not a platform"):
            plan("FROM --platform=a/b/c/d debian\n")

    def test_the_machines_own_platform_is_fine_by_any_name(self, plan: Planned) -> None:
        assert plan("FROM --platform=$BUILDPLATFORM debian\n").base is not None

    def test_a_named_context_replaces_an_image(self, plan: Planned, images: Images) -> None:
        plan("FROM golang\n", contexts={"golang": "docker-image://alpine"})
        assert images.asked == ["alpine"]


ARM, S390 = Platform("linux", "arm64"), Platform("linux", "s390x")


class TestPlatforms:
    def test_the_image_is_for_the_platform_that_is_asked_for(self, plan: Planned) -> None:
        assert plan("FROM scratch\n", platform=S390).config.platform == S390
        assert plan("FROM debian\n", platform=S390).config.platform == S390

    def test_a_stage_may_be_for_another(self, plan: Planned) -> None:
        made = plan("FROM --platform=linux/arm64 debian\nRUN a\nFROM scratch\nCOPY --from=0 / /\n", platform=S390)
        assert [op.platform for op in runs(made)] == ["linux/arm64"]
        assert made.config.platform == S390

    def test_a_stage_on_a_stage_is_for_what_that_is_for(self, plan: Planned) -> None:
        made = plan("FROM --platform=linux/arm64 debian AS a\nFROM --platform=linux/s390x a\nRUN x\n")
        assert [op.platform for op in runs(made)] == ["linux/arm64"]

    def test_images_for_copying_from_are_those_of_the_target(self, plan: Planned) -> None:
        text = "FROM --platform=linux/arm64 scratch\nCOPY --from=debian / /\n"
        (found,) = (v.op for v in in_order([plan(text, platform=S390).result]) if isinstance(v.op, ImageOp))
        assert found.digest == Digest.of(b"debian linux/s390x")

    def test_arguments_tell_of_the_machine_and_of_the_target(self, plan: Planned) -> None:
        text = "FROM --platform=$BUILDPLATFORM debian\nARG BUILDPLATFORM TARGETPLATFORM TARGETVARIANT\nRUN x\n"
        found = env(plan(text, platform=Platform("linux", "arm", "v7")))
        assert found["BUILDPLATFORM"] == str(native())
        assert (found["TARGETPLATFORM"], found["TARGETVARIANT"]) == ("linux/arm/v7", "v7")

    def test_steps_on_the_same_files_are_the_same_work(self, plan: Planned) -> None:
        text = "FROM scratch\nWORKDIR /app\nCOPY . .\n"
        assert plan(text, platform=ARM).result.digest == plan(text, platform=S390).result.digest

    def test_a_cross_compiler_runs_once_a_target_and_what_comes_before_it_once(self, plan: Planned) -> None:
        text = (
            "FROM --platform=$BUILDPLATFORM debian AS build\nRUN fetch\nARG TARGETARCH\nRUN compile\n"
            "FROM scratch\nCOPY --from=build /out /\n"
        )
        results = [plan(text, platform=platform).result for platform in (ARM, S390)]
        done = [v.op.args[-1] for v in in_order(results) if isinstance(v.op, RunOp)]
        assert sorted(done) == ["compile", "compile", "fetch"]

    def test_run_is_work_of_its_own_for_each(self, plan: Planned) -> None:
        made = [plan("FROM scratch\nRUN x\n", platform=platform).result.digest for platform in (ARM, S390)]
        assert made[0] != made[1]

    def test_names_of_steps_tell_the_platform_if_there_are_several(self, plan: Planned) -> None:
        text = "FROM --platform=$BUILDPLATFORM debian\nRUN x\n"
        assert plan(text, platform=S390).result.name == "[2/2] RUN x"
        assert plan(text, platform=S390, several=True).result.name == f"[{native()}->s390x 2/2] RUN x"
        assert plan("FROM debian\nRUN x\n", platform=S390, several=True).result.name == "[linux/s390x 2/2] RUN x"

    def test_a_context_for_one_platform_is_no_work_of_another(self, plan: Planned) -> None:
        contexts = {"lib": "/any", "lib::linux/s390x": "/big-endian"}
        places = [
            v.op.name
            for platform in (ARM, S390)
            for v in in_order([plan("FROM lib\n", platform=platform, contexts=contexts).result])
            if isinstance(v.op, ContextOp)
        ]
        assert places == ["lib", "lib::linux/s390x"]


class TestVariables:
    def test_the_later_of_arg_and_env_wins(self, plan: Planned) -> None:
        assert env(plan("FROM debian\nENV X=env\nARG X=arg\nRUN a\n"))["X"] == "arg"
        assert env(plan("FROM debian\nARG X=arg\nENV X=env\nRUN a\n"))["X"] == "env"

    def test_only_env_reaches_the_config(self, plan: Planned) -> None:
        made = plan("FROM debian\nARG X=arg\nENV Y=$X\n")
        assert made.config.config.env == ("PATH=/bin", "LANG=C", "Y=arg")

    def test_an_instruction_sees_the_variables_from_before_it(self, plan: Planned) -> None:
        made = plan("FROM debian\nENV a=old\nENV a=new b=$a\n")
        assert made.config.config.environment["b"] == "old"

    def test_arguments_of_one_line_see_each_other(self, plan: Planned) -> None:
        assert env(plan("FROM debian\nARG A=1 B=$A\nRUN x\n"))["B"] == "1"

    def test_a_build_argument_wins_over_both_defaults(self, plan: Planned) -> None:
        text = "ARG V=global\nFROM debian\nARG V=stage\nRUN x\n"
        assert env(plan(text))["V"] == "stage"
        assert env(plan(text, build_args={"V": "given"}))["V"] == "given"

    def test_a_global_argument_must_be_declared_again(self, plan: Planned) -> None:
        assert "V" not in env(plan("ARG V=global\nFROM debian\nRUN x\n"))
        assert env(plan("ARG V=global\nFROM debian\nARG V\nRUN x\n"))["V"] == "global"

    def test_an_undeclared_build_argument_is_ignored(self, plan: Planned) -> None:
        assert "V" not in env(plan("FROM debian\nRUN x\n", build_args={"V": "1"}))

    def test_proxies_need_no_declaration_and_leave_no_trace(self, plan: Planned) -> None:
        made = plan("FROM debian\nRUN x\n", build_args={"HTTP_PROXY": "http://p"})
        assert dict(runs(made)[0].proxies) == {"HTTP_PROXY": "http://p", "http_proxy": "http://p"}
        assert history(made) == ["RUN /bin/sh -c x # buildkit"]

    def test_the_platform_is_predefined_for_whoever_declares_it(self, plan: Planned) -> None:
        made = plan("FROM debian\nARG TARGETOS TARGETSTAGE\nRUN x\n")
        assert env(made)["TARGETOS"] == "linux"
        assert env(made)["TARGETSTAGE"] == "default"

    def test_the_name_of_the_target_is_that_of_the_last_stage_unless_one_is_asked_for(self, plan: Planned) -> None:
        text = "FROM debian AS a\nARG TARGETSTAGE\nRUN x\nFROM a AS b\nRUN y\n"
        assert env(plan(text))["TARGETSTAGE"] == "b"
        assert env(plan(text, target="a"))["TARGETSTAGE"] == "a"

    def test_run_is_not_expanded(self, plan: Planned) -> None:
        assert runs(plan("FROM debian\nENV A=1\nRUN echo $A\n"))[0].args[-1] == "echo $A"

    def test_an_unset_variable_is_empty(self, plan: Planned) -> None:
        assert plan("FROM debian\nENV A=x${NOPE}y\n").config.config.environment["A"] == "xy"

    def test_a_required_variable_fails_with_its_message(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="set me"):
            plan("FROM debian\nENV A=${NOPE:?set me}\n")


class TestConfig:
    def test_history_tells_each_step_as_buildkit_does(self, plan: Planned) -> None:
        made = plan(
            "FROM scratch\n"
            "ARG V=1\nENV A=1 B='x y'\nLABEL l=v\nWORKDIR app\nCOPY a b .\nRUN make $V\nUSER me\nEXPOSE 80\n"
            'VOLUME /data /more\nSHELL ["/bin/bash","-c"]\nSTOPSIGNAL SIGINT\nENTRYPOINT ["/x","y"]\nCMD run it\n'
        )
        assert history(made) == [
            "ARG V=1",
            "ENV A=1 B=x y",
            "LABEL l=v",
            "WORKDIR /app",
            "COPY a b . # buildkit",
            "RUN |1 V=1 /bin/sh -c make $V # buildkit",
            "USER me",
            "EXPOSE [80/tcp]",
            "VOLUME [/data /more]",
            "SHELL [/bin/bash -c]",
            "STOPSIGNAL SIGINT",
            'ENTRYPOINT ["/x" "y"]',
            'CMD ["/bin/bash" "-c" "run it"]',
        ]
        assert [step.history.empty_layer for step in made.steps] == [
            True, True, True, False, False, False, True, True, True, True, True, True, True,
        ]  # fmt: skip
        assert {step.history.comment for step in made.steps} == {"buildkit.dockerfile.v0"}

    def test_entrypoint_clears_an_inherited_cmd_but_not_one_of_this_stage(self, plan: Planned) -> None:
        assert plan('FROM debian\nENTRYPOINT ["/e"]\n').config.config.cmd is None
        assert plan('FROM debian\nCMD ["c"]\nENTRYPOINT ["/e"]\n').config.config.cmd == ("c",)

    def test_an_empty_entrypoint_resets_it(self, plan: Planned) -> None:
        assert plan('FROM debian\nENTRYPOINT ["/e"]\nENTRYPOINT []\n').config.config.entrypoint is None

    def test_workdir_is_relative_to_the_one_before(self, plan: Planned) -> None:
        made = plan("FROM debian\nWORKDIR a/b/\nWORKDIR ../c\nRUN x\n")
        assert made.config.config.working_dir == "/home/a/c"
        assert runs(made)[0].cwd == "/home/a/c"

    def test_an_absolute_workdir_stays_as_it_is_written(self, plan: Planned) -> None:
        """BuildKit's NormalizePath: only the container knows whether /link/.. is /."""
        made = plan("FROM debian\nWORKDIR /link/../a/\nRUN x\nCOPY f .\nWORKDIR b/\n")
        assert runs(made)[0].cwd == "/link/../a/"
        assert made.steps[0].history.created_by == "WORKDIR /link/../a/"
        assert made.steps[2].vertex is not None
        assert made.steps[2].vertex.op.definition()["destination"] == "/a/"
        assert made.config.config.working_dir == "/a/b"

    def test_workdir_of_the_root_makes_no_layer(self, plan: Planned) -> None:
        assert [step.history.empty_layer for step in plan("FROM debian\nWORKDIR /\n").steps] == [True]

    def test_workdir_is_made_as_the_user_of_the_moment(self, plan: Planned) -> None:
        made = plan("FROM debian\nUSER me\nWORKDIR /w\nUSER root\n")
        assert made.result.op == MkdirOp("/w", "me")

    def test_healthcheck_goes_to_the_config(self, plan: Planned) -> None:
        made = plan("FROM debian\nHEALTHCHECK --interval=5s CMD curl x\n")
        assert made.config.config.healthcheck is not None
        assert made.config.config.healthcheck.test == ("CMD-SHELL", "curl x")

    def test_labels_of_the_command_line_come_last_and_leave_no_history(self, plan: Planned) -> None:
        made = plan("FROM debian\nLABEL a=file\n", labels={"a": "given", "b": "2"})
        assert made.config.config.labels == {"a": "given", "b": "2"}
        assert len(made.steps) == 1

    def test_maintainer_is_the_author(self, plan: Planned) -> None:
        assert plan("FROM debian\nMAINTAINER Ada\n").config.author == "Ada"

    def test_an_unknown_signal_is_refused(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="unknown signal"):
            plan("FROM debian\nSTOPSIGNAL SIGFOO\n")

    def test_ports_come_from_variables_too(self, plan: Planned) -> None:
        made = plan('FROM debian\nENV P="80 443/udp"\nEXPOSE $P\n')
        assert made.config.config.exposed_ports == ("80/tcp", "443/udp")


class TestCopy:
    def test_from_the_context(self, plan: Planned) -> None:
        made = plan("FROM debian\nCOPY --chown=me --chmod=755 --exclude=*.o a* b dst/\n")
        assert copies(made) == [
            CopyOp((SourcePath(1, "a*"), SourcePath(1, "b")), "/home/dst/", chown="me", chmod="755", excludes=("*.o",))
        ]
        assert isinstance(made.result.inputs[1].op, ContextOp)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("/x", "/x"),
            ("x", "/home/x"),
            ("x/", "/home/x/"),
            (".", "/home/"),
            ("./", "/home/"),
            ("..", "/"),
            ("/", "/"),
        ],
    )
    def test_destination(self, plan: Planned, written: str, meant: str) -> None:
        assert copies(plan(f"FROM debian\nCOPY a {written}\n"))[0].destination == meant

    def test_from_a_stage_keeps_owners(self, plan: Planned) -> None:
        made = plan("FROM debian AS build\nRUN make\nFROM scratch\nCOPY --from=build /out /\n")
        (copy,) = copies(made)
        assert copy.keep_owner
        assert isinstance(made.result.inputs[1].op, RunOp)

    @pytest.mark.parametrize("name", ["0", "build", "BUILD"])
    def test_a_stage_goes_by_number_or_name(self, plan: Planned, name: str) -> None:
        made = plan(f"FROM debian AS build\nRUN make\nFROM scratch\nCOPY --from={name} /out /\n")
        assert isinstance(made.result.inputs[1].op, RunOp)

    def test_from_an_image_that_is_no_stage(self, plan: Planned) -> None:
        made = plan("FROM scratch\nCOPY --from=alpine /bin/busybox /\n")
        assert isinstance(made.result.inputs[1].op, ImageOp)

    def test_a_later_stage_can_not_be_copied_from(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="needs to be defined before"):
            plan("FROM debian AS a\nCOPY --from=b /x /\nFROM debian AS b\n", target="a")

    def test_a_heredoc_is_a_file_expanded_unless_quoted(self, plan: Planned) -> None:
        made = plan("FROM debian\nENV A=1\nCOPY <<one <<'two' /dst/\nx=\"$A\"\none\nx=$A\ntwo\n")
        assert copies(made)[0].sources == (InlineFile("one", 'x="1"\n'), InlineFile("two", "x=$A\n"))
        assert history(made)[-1] == "COPY <<one <<two /dst/ # buildkit"

    def test_a_url_needs_add(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="can't be a URL"):
            plan("FROM debian\nCOPY https://example.com/x /\n")

    @pytest.mark.parametrize("owner", ["app", "1:app"])
    def test_a_linked_layer_knows_no_names_of_owners(self, plan: Planned, owner: str) -> None:
        assert copies(plan("FROM debian\nCOPY --link --chown=1:0 a /d/\n"))[0].link
        with pytest.raises(DockerfileError, match="can't look up the owner"):
            plan(f"FROM debian\nCOPY --link --chown={owner} a /d/\n")

    def test_parents_are_told_in_the_history(self, plan: Planned) -> None:
        made = plan("FROM debian\nCOPY --parents a/./b /d/\n")
        assert copies(made)[0].parents
        assert history(made)[-1] == "COPY --parents a/./b /d/ # buildkit"


class TestAdd:
    def test_unpacks_local_archives_only(self, plan: Planned) -> None:
        made = plan("FROM debian\nADD a.tar https://example.com/dir/b.tar?x=1 /d/\n")
        (copy,) = copies(made)
        assert (copy.unpack, copy.unpack_remote) == (True, False)
        assert copy.sources == (SourcePath(1, "a.tar"), SourcePath(2, "b.tar"))
        assert made.result.inputs[2].op == HttpOp("https://example.com/dir/b.tar?x=1", "b.tar")

    def test_a_checksum_is_for_one_url(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="checksum"):
            plan(f"FROM debian\nADD --checksum=sha256:{'0' * 64} a /d/\n")

    @pytest.mark.parametrize(
        ("source", "address"),
        [
            ("https://example.com/x.git#main:sub", GitAddress("https://example.com/x.git", "main", "sub")),
            ("git@example.com:x/y", GitAddress("git@example.com:x/y")),
            ("ssh://h/x?tag=v1", GitAddress("ssh://h/x", "refs/tags/v1")),
        ],
    )
    def test_the_files_of_a_repository(self, plan: Planned, source: str, address: GitAddress) -> None:
        made = plan(f"FROM debian\nADD {source} /d/\n")
        assert copies(made)[0].sources == (SourcePath(1, "/"),)
        assert made.result.inputs[1].op == GitOp(address)

    def test_its_git_directory_and_checksum(self, plan: Planned) -> None:
        url = "https://example.com/x.git"
        made = plan(f"FROM debian\nADD --keep-git-dir --checksum=0123456 {url} /d/\n")
        assert made.result.inputs[1].op == GitOp(GitAddress(url, checksum="0123456"), keep_git_dir=True)
        made = plan(f"FROM debian\nADD {url}?keep-git-dir /d/\n")
        assert made.result.inputs[1].op == GitOp(GitAddress(url, keep_git_dir=True), keep_git_dir=True)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("ADD --keep-git-dir=false https://h/x.git?keep-git-dir=1 /d/", "inconsistent keep-git-dir"),
            ("ADD --checksum=sha256:00 https://h/x.git /d/", "is no commit"),
            ("ADD https://h/x.git?depth=1 /d/", "unexpected query"),
            ("ADD --checksum=0123456 a /d/", "requires HTTP"),
            ("COPY https://h/x.git /d/", "git"),
        ],
    )
    def test_what_makes_no_sense(self, plan: Planned, line: str, problem: str) -> None:
        with pytest.raises(DockerfileError, match=problem):
            plan(f"FROM debian\n{line}\n")

    def test_no_password_gets_into_history_or_progress(self, plan: Planned) -> None:
        made = plan("FROM debian\nADD https://me:s3cret@h/x.git https://me:s3cret@h/y /d/\n")
        assert "s3cret" not in str(history(made))
        assert not [vertex.name for vertex in in_order([made.result]) if "s3cret" in vertex.name]


class TestRun:
    def test_shell_and_exec_form(self, plan: Planned) -> None:
        made = plan('FROM debian\nRUN echo a\nRUN ["echo", "b"]\n')
        assert [op.args for op in runs(made)] == [("/bin/sh", "-c", "echo a"), ("echo", "b")]

    def test_a_lone_heredoc_is_the_script(self, plan: Planned) -> None:
        assert runs(plan("FROM debian\nRUN <<EOF\na\nb\nEOF\n"))[0].args == ("/bin/sh", "-c", "a\nb\n")

    def test_a_heredoc_with_an_interpreter_is_a_program(self, plan: Planned) -> None:
        (run,) = runs(plan("FROM debian\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n"))
        assert run.args == ("/bin/sh", "-c", "/dev/pipes/EOF")
        assert run.scripts == (InlineFile("EOF", "#!/usr/bin/python3\nprint(1)\n"),)

    def test_other_heredocs_are_left_to_the_shell(self, plan: Planned) -> None:
        made = plan("FROM debian\nRUN cat <<A - <<B\n1\nA\n2\nB\n")
        assert runs(made)[0].args[-1] == "cat <<A - <<B\n1\nA\n2\nB"

    def test_mounts(self, plan: Planned) -> None:
        made = plan(
            "FROM debian AS other\nRUN a\nFROM debian\nWORKDIR /w\nENV T=tmp\n"
            "RUN --mount=target=src --mount=type=bind,from=other,source=/x,target=/y,rw"
            " --mount=type=cache,target=/root/.cache,sharing=locked,mode=0700,uid=5"
            " --mount=type=tmpfs,target=/$T,size=64m --mount=type=secret,id=token,env=TOKEN"
            " --mount=type=secret,id=key,required b\n"
        )
        src, other, cache, tmpfs, variable, file = runs(made)[-1].mounts
        assert (src.type, src.target, src.read_only) == ("bind", "/w/src", True)
        assert (other.source, other.target, other.read_only) == ("/x", "/y", False)
        inputs = made.result.inputs
        assert isinstance(inputs[src.input or 0].op, ContextOp)
        assert isinstance(inputs[other.input or 0].op, RunOp)
        assert (cache.id, cache.sharing, cache.mode, cache.uid) == ("/root/.cache", "locked", 0o700, 5)
        assert (tmpfs.target, tmpfs.size) == ("/tmp", 64 << 20)
        assert (variable.env, variable.target) == ("TOKEN", "")
        assert (file.target, file.required, file.mode) == ("/run/secrets/key", True, 0o400)

    @pytest.mark.parametrize(
        ("words", "namespace", "found"),
        [
            ("target=/root/.cache", "", "/root/.cache"),
            ("target=.cache/", "", ".cache"),
            ("target=/root/.cache", "team", "team//root/.cache"),
            ("target=/c,id=pip", "team", "team/pip"),
        ],
    )
    def test_the_id_of_a_cache_is_its_target_behind_the_namespace(
        self, plan: Planned, words: str, namespace: str, found: str
    ) -> None:
        arguments = {"BUILDKIT_CACHE_MOUNT_NS": namespace} if namespace else {}
        made = plan(f"FROM debian\nWORKDIR /w\nRUN --mount=type=cache,{words} x\n", build_args=arguments)
        assert [mount.id for mount in runs(made)[-1].mounts] == [found]

    def test_a_mount_over_the_root_is_refused(self, plan: Planned) -> None:
        for words in ("FROM debian\nRUN --mount=type=tmpfs,target=/ x\n", "FROM alpine\nRUN --mount=type=tmpfs x\n"):
            with pytest.raises(DockerfileError, match="other than /"):
                plan(words)

    def test_host_network_and_no_sandbox_must_be_allowed(self, plan: Planned) -> None:
        for flag, name in (("--network=host", "network.host"), ("--security=insecure", "security.insecure")):
            text = f"FROM debian\nRUN {flag} x\n"
            with pytest.raises(DockerfileError, match=name):
                plan(text)
            assert runs(plan(text, allow=frozenset({name})))

    def test_a_step_does_without_a_device_unless_it_requires_one(self, plan: Planned) -> None:
        assert runs(plan("FROM debian\nRUN --device=vendor.com/gpu=all x\n"))[0].devices == ("vendor.com/gpu=all",)
        with pytest.raises(DockerfileError, match="gpu=all is required"):
            plan("FROM debian\nRUN --device=vendor.com/gpu=all,required x\n")

    def test_each_value_of_a_mount_but_from_may_hold_a_variable(self, plan: Planned) -> None:
        text = (
            "FROM debian\nENV K=cache SH=LOCKED U=5 M=0711 R=true\n"
            "RUN --mount=type=$K,target=/c,id=$U,sharing=$SH,mode=$M,uid=$U,gid=$U,ro=$R "
            "--mount=type=secret,id=$K,env=$K,required=$R x\n"
        )
        cache, secret = runs(plan(text))[0].mounts
        assert (cache.type, cache.id, cache.sharing, cache.mode, cache.uid) == ("cache", "5", "locked", 0o711, 5)
        assert (cache.read_only, secret.required, secret.env) == (True, True, "cache")

    @pytest.mark.parametrize(
        "mount",
        ["type=$N,target=/x", "type=cache,target=/x,mode=$N", "type=cache,target=/x,sharing=$N", "type=secret,id=$N",
         "type=tmpfs,target=/x,size=$N", "type=secret,id=x,required=$N", "type=bind,target=/x,uid=$V", "type=$V"],
    )  # fmt: skip
    def test_what_the_variables_make_is_checked(self, plan: Planned, mount: str) -> None:
        with pytest.raises(DockerfileError) as caught:
            plan(f"FROM debian\nENV V=5\nRUN --mount={mount} x\n")
        assert caught.value.at.line == 3

    def test_names_of_secrets_and_agents(self, plan: Planned) -> None:
        text = (
            "FROM debian\nWORKDIR /w\nRUN --mount=type=tmpfs,target=t --mount=type=secret,id=a/b "
            "--mount=type=secret,id=c,target=d --mount=type=secret,id=e,env= --mount=type=ssh --mount=type=ssh x\n"
        )
        found = [(mount.target, mount.env) for mount in runs(plan(text))[0].mounts]
        agents = [(f"/run/buildkit/ssh_agent.{number}", "") for number in (0, 1)]
        assert found == [("/w/t", ""), ("/run/secrets/b", ""), ("/w/d", ""), ("", "e"), *agents]

    @pytest.mark.parametrize(("size", "bytes_"), [("10", 10), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2 KiB", 2048)])
    def test_a_size_has_a_unit(self, plan: Planned, size: str, bytes_: int) -> None:
        (mount,) = runs(plan(f'FROM debian\nRUN --mount="type=tmpfs,target=/t,size={size}" x\n'))[0].mounts
        assert mount.size == bytes_

    def test_a_number_that_is_no_stage_is_no_image_either(self, plan: Planned) -> None:
        with pytest.raises(DockerfileError, match="invalid stage index 7"):
            plan("FROM debian\nCOPY --from=7 a b\n")


class TestOnbuild:
    def test_triggers_are_kept_and_add_no_history(self, plan: Planned) -> None:
        made = plan("FROM debian\nONBUILD RUN make\nONBUILD COPY . /src\n")
        assert made.config.config.on_build == ("RUN make", "COPY . /src")
        assert history(made) == []

    def test_triggers_of_an_image_run_right_after_from(self, plan: Planned, images: Images) -> None:
        images.add("base", on_build=("RUN first", "ENV A=1"))
        made = plan("FROM base\nRUN second\n")
        assert [op.args[-1] for op in runs(made)] == ["first", "second"]
        assert made.config.config.on_build == ()
        assert env(made)["A"] == "1"

    def test_triggers_of_a_stage_run_in_its_children_but_not_further(self, plan: Planned) -> None:
        made = plan("FROM debian AS a\nONBUILD RUN t\nFROM a AS b\nFROM b\nRUN x\n")
        assert [op.args[-1] for op in runs(made)] == ["t", "x"]


class TestGraph:
    def test_equal_steps_of_two_stages_are_one_vertex(self, plan: Planned) -> None:
        made = plan(
            "FROM debian AS a\nRUN x\nFROM debian AS b\nRUN x\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n"
        )
        assert len(runs(made)) == 1

    def test_names_show_the_stage_and_how_far_it_is(self, plan: Planned) -> None:
        made = plan("FROM debian AS build\nRUN a\nFROM scratch\nCOPY --from=build /x /\n")
        names = [vertex.name for vertex in in_order([made.result]) if vertex.name]
        assert names == ["[build 1/2] FROM debian", "[build 2/2] RUN a", "[stage-1 1/1] COPY --from=build /x /"]

    def test_a_single_stage_has_no_name(self, plan: Planned) -> None:
        assert plan("FROM debian\nRUN a\n").result.name == "[2/2] RUN a"

    def test_a_dockerfile_of_two_thousand_steps_is_planned(self, plan: Planned) -> None:
        made = plan("FROM debian\n" + "".join(f"RUN step {number}\n" for number in range(2000)))
        assert len(list(in_order([made.result]))) == 2001

    def test_what_people_read_is_not_in_the_digest(self) -> None:
        assert Vertex(ScratchOp(), name="a").digest == Vertex(ScratchOp(), name="b").digest
