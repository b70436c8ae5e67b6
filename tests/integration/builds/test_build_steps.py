"""RUN, COPY, WORKDIR as the layers and the container see them (reference §1.5 to §1.7)."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import BuildFailed
from builder.progress import StepCanceled, StepFailed
from builder.snapshots.trees import remove_tree

if TYPE_CHECKING:
    from tests.integration.builds.conftest import Bench

pytestmark = pytest.mark.root


class TestRun:
    def test_gets_what_the_dockerfile_says_and_nothing_of_the_builders(
        self, bench: "Bench", base: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LEAKED", "secret of the host")
        built = bench.build(
            base
            + "FROM base\nENV E=1\nARG A=2\nWORKDIR /w\nUSER 12:34\nRUN env; pwd; id; hostname; ls -l /proc/self/fd\n"
        )
        lines = built.output.splitlines()
        assert {"E=1", "A=2", "PWD=/w", "uid=12 gid=34 groups=34", "buildkitsandbox"} <= set(lines)
        assert "LEAKED" not in built.output
        assert "root" not in [line.split("->")[0] for line in lines]

    def test_input_is_empty(self, bench: "Bench", base: str) -> None:
        assert "read: 1" in bench.build(base + "FROM base\nRUN read x; echo read: $?\n").output

    def test_leaves_no_mount_point_in_its_layer(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base\nRUN --mount=type=tmpfs,target=/scratch/deep --mount=type=cache,target=/cache true\n"
        )
        assert built.names() == []

    def test_a_step_that_does_nothing_changes_no_time(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "COPY --chmod=644 data /etc/data\nFROM base\nRUN true\n", files={"data": "x"})
        assert [entry for entry in built.layer(-1) if entry.name != "etc"] == []

    def test_what_it_put_beside_a_mount_point_stays(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --mount=type=tmpfs,target=/run/x touch /run/y\n")
        assert built.names() == ["run", "run/y"]

    def test_a_deleted_file_is_a_whiteout(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "COPY gone kept /d/\nFROM base\nRUN rm /d/gone\n", files={"gone": "", "kept": ""})
        assert built.names() == ["d", "d/.wh.gone"]

    @pytest.mark.parametrize(
        ("script", "seen"),
        [
            ("RUN <<EOF\necho one\necho two\nEOF\n", "one\ntwo"),
            ("RUN <<EOF\n#!/bin/cat\ntext\nEOF\n", "#!/bin/cat\ntext"),
            ("RUN cat <<A && cat <<B\n1\nA\n2\nB\n", "1\n2"),
            ('RUN ["/bin/echo", "$HOME"]\n', "$HOME"),
            ('SHELL ["/bin/sh", "-x", "-c"]\nRUN true\n', "+ true"),
        ],
    )
    def test_forms(self, bench: "Bench", base: str, script: str, seen: str) -> None:
        assert seen in bench.build(base + "FROM base\n" + script).output

    def test_a_failure_shows_the_lines_the_code_and_the_output(self, bench: "Bench", base: str) -> None:
        with pytest.raises(BuildFailed) as caught:
            bench.build(base + "FROM base\nRUN echo before \\\n && echo oops >&2 \\\n && exit 42\nRUN never\n")
        text = str(caught.value)
        assert text.startswith('process "/bin/sh -c echo before')
        assert "exit code: 42" in text
        assert "   5 | >>> RUN echo before \\\n   6 | >>>  && echo oops >&2 \\\n   7 | >>>  && exit 42\n" in text
        assert "last output:\n  before\n  oops" in text
        assert caught.value.exit_code == 4
        assert caught.value.hint is not None
        log = caught.value.hint.rpartition(" ")[2]
        with open(log) as file:
            assert file.read() == "before\noops\n"

    def test_a_command_that_is_not_there_says_so(self, bench: "Bench", base: str) -> None:
        with pytest.raises(BuildFailed, match="/no/such/program"):
            bench.build(base + 'FROM base\nRUN ["/no/such/program"]\n')

    def test_what_was_done_before_a_failure_stays_cached(self, bench: "Bench", base: str) -> None:
        text = base + "FROM base\nRUN echo x > /x\nRUN {}\n"
        with pytest.raises(BuildFailed):
            bench.build(text.format("false"))
        assert bench.build(text.format("true")).done_again == ["RUN true"]

    def test_a_failure_stops_the_steps_of_other_stages(self, bench: "Bench", base: str) -> None:
        """The one that would last goes first: it waits in a cache that they share until it is told to go on."""
        with pytest.raises(BuildFailed, match="exit code: 7"):
            bench.build(
                base + "FROM base AS lasts\nRUN --mount=type=cache,id=x,target=/x touch /x/here; sleep 1000\n"
                "FROM base AS fails\nRUN --mount=type=cache,id=x,target=/x "
                "until test -e /x/here; do sleep 0.05; done; exit 7\n"
                "FROM scratch\nCOPY --from=lasts /a /a\nCOPY --from=fails /b /b\n"
            )
        ends = [type(event) for event in bench.events if isinstance(event, StepCanceled | StepFailed)]
        assert ends == [StepFailed, StepCanceled]

    def test_nothing_is_left_after_success_and_failure(self, bench: "Bench", base: str) -> None:
        bench.build(base)
        before = bench.leftovers()
        bench.build(
            base + "FROM base\nRUN --mount=type=cache,target=/c --mount=type=bind,target=/src,rw touch /src/x\n"
        )
        with pytest.raises(BuildFailed):
            bench.build(base + "FROM base\nRUN sleep 1000 & false\n")
        assert bench.leftovers() == before


class TestMounts:
    def test_bind_shows_the_context_and_keeps_no_write(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base\nRUN --mount=target=/src,rw cat /src/file && echo new > /src/file && ls -n /src/file\n",
            files={"file": "old\n"},
        )
        assert "old" in built.output
        assert (bench.context / "file").read_text() == "old\n"
        assert built.names() == []

    def test_bind_is_read_only_by_default(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --mount=target=/src touch /src/x || echo refused\n")
        assert "refused" in built.output

    def test_bind_obeys_the_ignore_file(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base\nRUN --mount=target=/src ls -a /src\n",
            files={"kept": "", "left-out": "", ".dockerignore": "left-out\nDockerfile\n"},
        )
        assert "kept" in built.output
        assert "left-out" not in built.output.replace("RUN", "")

    def test_bind_of_a_directory_has_its_mode(self, bench: "Bench", base: str) -> None:
        (bench.context / "d").mkdir(mode=0o700)
        (bench.context / "d" / "one[1]").write_text("literal\n")
        script = "stat -c %a /x && cat /y && ! touch /x/new"
        mounts = "--mount=target=/x,source=d --mount=target=/y,source=d/one[1]"
        built = bench.build(base + f"FROM base\nRUN {mounts} {script}\n")
        assert {"700", "literal"} <= set(built.output.splitlines())

    def test_bind_from_a_stage(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base AS tools\nRUN mkdir -p /opt/t && echo tool > /opt/t/name\n"
            "FROM base\nRUN --mount=from=tools,source=/opt/t,target=/t cat /t/name\n"
            "RUN --mount=from=tools,source=/opt/t/name,target=/one cat /one\n"
            "RUN --mount=from=tools,source=/opt,target=/o,rw rm -r /o/t && ls /o\n"
        )
        assert built.output.split("\n").count("tool") == 2
        assert built.names() == []

    def test_bind_source_can_not_lead_out_of_its_stage(self, bench: "Bench", base: str) -> None:
        (bench.root / "host-secret").write_text("of the host")
        text = base + (
            f"FROM base AS evil\nRUN ln -s {bench.root} /out && ln -s ../../../../../..{bench.root} /up\n"
            "FROM base\nRUN --mount=from=evil,source={},target=/t cat /t/host-secret\n"
        )
        for link in ("/out", "/up", "/../../../../../../../.." + str(bench.root)):
            with pytest.raises(BuildFailed, match="not found"):
                bench.build(text.replace("source={}", f"source={link}"))

    def test_a_missing_bind_source_is_named(self, bench: "Bench", base: str) -> None:
        with pytest.raises(BuildFailed, match="nope"):
            bench.build(base + "FROM base\nRUN --mount=source=nope,target=/x true\n")

    def test_cache_lasts_from_build_to_build_and_is_in_no_layer(self, bench: "Bench", base: str) -> None:
        text = (
            base + "FROM base\nRUN --mount=type=cache,target=/c,mode=0700,uid=3 "
            "echo {} >> /c/log; cat /c/log; stat -c %a%u /c\n"
        )
        assert "7003" in bench.build(text.format("one")).output
        second = bench.build(text.format("two"))
        assert "one\ntwo" in second.output
        assert second.names() == []

    def test_a_private_cache_is_not_shared_by_two_steps_at_once(self, bench: "Bench", base: str) -> None:
        step = "RUN --mount=type=cache,id=p,target=/c,sharing=private touch /c/{0}; sleep 0.3; ls /c\n"
        built = bench.build(
            base + "FROM base AS a\n" + step.format("a") + "FROM base AS b\n" + step.format("b")
            + "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
        )  # fmt: skip
        assert sorted(built.output.split()) == ["a", "b"]

    def test_a_locked_cache_waits(self, bench: "Bench", base: str) -> None:
        step = (
            "RUN --mount=type=cache,id=l,target=/c,sharing=locked mkdir /c/taken && sleep 0.3 && rmdir /c/taken # {}\n"
        )
        built = bench.build(
            base + "FROM base AS a\n" + step.format("a") + "FROM base AS b\n" + step.format("b")
            + "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
        )  # fmt: skip
        assert len(built.layers) == 2

    def test_locked_caches_in_different_orders_do_not_block_each_other(self, bench: "Bench", base: str) -> None:
        one, two = (f"--mount=type=cache,id={name},target=/{name},sharing=locked" for name in "ab")
        built = bench.build(
            base + f"FROM base AS a\nRUN {one} {two} sleep 0.1; touch /x\n"
            f"FROM base AS b\nRUN {two} {one} sleep 0.1; touch /y\n"
            f"FROM base\nRUN {one} --mount=type=cache,id=a,target=/again,sharing=locked touch /a/f; ls /again\n"
            "COPY --from=a /x /\nCOPY --from=b /y /\n"
        )  # fmt: skip
        assert built.output == "f"

    def test_a_cache_belongs_to_whom_the_step_says_though_another_step_made_it(self, bench: "Bench", base: str) -> None:
        mount = "--mount=type=cache,id=one,target=/c"
        text = base + f"FROM base\nRUN {mount} touch /c/made\nUSER 7:8\n"
        text += f"RUN {mount},uid=7,gid=8,mode=0700 touch /c/mine && stat -c '%a %u %g' /c && ls /c\n"
        assert {"700 7 8", "made", "mine"} <= set(bench.build(text).output.splitlines())

    def test_a_cache_may_start_with_what_a_stage_has(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "FROM base AS seed\nRUN mkdir /s && echo seeded > /s/f\n"
            "FROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/f\n"
        )
        assert "seeded" in built.output

    def test_tmpfs_has_its_size(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --mount=type=tmpfs,target=/t,size=4m df -k /t\n")
        assert " 4096 " in built.output

    def test_a_secret_is_a_file_a_variable_and_nowhere_else(self, bench: "Bench", base: str, ram_path: Path) -> None:
        from builder.build import Secret

        (ram_path / "token").write_text("hunter2")
        text = base + (
            "FROM base\nRUN --mount=type=secret,id=token,mode=0440,uid=7 ls -n /run/secrets/token; "
            "cat /run/secrets/token | wc -c; grep /run/secrets /proc/mounts\n"
            "RUN --mount=type=secret,id=token,env=T test ${#T} = 7\n"
        )
        built = bench.build(text, secrets={"token": Secret("token", ram_path / "token")})
        assert "-r--r-----    1 7        0" in built.output
        assert built.names() == []
        for path in bench.root.rglob("*"):
            assert not path.is_file() or b"hunter2" not in path.read_bytes(), path

    def test_another_value_of_a_secret_runs_nothing_again(self, bench: "Bench", base: str, ram_path: Path) -> None:
        from builder.build import Secret

        text = base + "FROM base\nRUN --mount=type=secret,id=s true\n"
        (ram_path / "s").write_text("one")
        secrets = {"s": Secret("s", ram_path / "s")}
        bench.build(text, secrets=secrets)
        (ram_path / "s").write_text("two")
        assert bench.build(text, secrets=secrets).done_again == []

    def test_a_variable_of_a_secret_that_was_not_given_is_empty(self, bench: "Bench", base: str) -> None:
        text = base + 'FROM base\nRUN --mount=type=secret,id=no,env=TOKEN echo "<${TOKEN-unset}>"\n'
        assert "<>" in bench.build(text).output.splitlines()

    def test_only_a_required_secret_must_be_given(self, bench: "Bench", base: str) -> None:
        bench.build(base + "FROM base\nRUN --mount=type=secret,id=s test ! -e /run/secrets/s\n")
        with pytest.raises(BuildFailed, match="secret 's' was not given"):
            bench.build(base + "FROM base\nRUN --mount=type=secret,id=s,required true\n")

    def test_an_ssh_agent_is_reached_by_its_socket(self, bench: "Bench", base: str, ram_path: Path) -> None:
        import socket

        with socket.socket(socket.AF_UNIX) as agent:
            agent.bind(str(ram_path / "agent"))
            built = bench.build(
                base + "FROM base\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK\n",
                agents={"default": str(ram_path / "agent")},
            )
        assert "/run/buildkit/ssh_agent.0" in built.output


class TestNetwork:
    def test_none_has_only_a_loopback(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --network=none ls /sys/class/net\n")
        assert built.output.splitlines()[-1] == "lo"

    def test_a_step_knows_its_own_name_without_a_network(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nRUN --network=none cat /etc/hosts\n")
        assert "127.0.0.1\tbuildkitsandbox" in built.output

    @pytest.mark.net
    def test_default_is_a_bridge_with_names_that_leave_no_trace(self, bench: "Bench", base: str, netns: None) -> None:
        built = bench.build(
            base + "FROM base\nRUN ip -4 addr show eth0; cat /etc/hosts /etc/resolv.conf\n",
            network="default",
            hosts=(("db.example", "10.1.2.3"), ("me", "host-gateway")),
        )
        assert "inet 172." in built.output
        assert "10.1.2.3\tdb.example" in built.output
        assert "172.17.0.1\tme" in built.output
        assert "nameserver" in built.output
        assert built.names() == []
        assert list((bench.root / "networks").glob("*.json"))
        import socket

        assert [name for _, name in socket.if_nameindex()] == ["lo"]


class TestWorkdirAndUser:
    def test_may_be_as_deep_as_a_path_can_be(self, bench: "Bench", base: str) -> None:
        with pytest.raises(BuildFailed, match="File name too long"):
            bench.build(f"{base}FROM base\nWORKDIR {'/a' * 3000}\n")
        try:
            assert len(bench.build(f"{base}FROM base\nWORKDIR {'/a' * 1500}\n").names()) == 1500
        finally:
            remove_tree(str(bench.root / "snapshots"))  # Python's own way to remove a tree takes none so deep

    def test_directories_belong_to_the_user_of_the_moment(self, bench: "Bench", base: str) -> None:
        built = bench.build(
            base + "RUN mkdir -p /etc && echo app:x:5:6::/: > /etc/passwd\nFROM base\nUSER app\nWORKDIR /a/b\n"
        )
        assert [(entry.name, entry.uid, entry.gid, entry.mode) for entry in built.layer(-1)] == [
            ("a", 5, 6, 0o755),
            ("a/b", 5, 6, 0o755),
        ]

    def test_a_number_alone_is_the_group_of_directories_too(self, bench: "Bench", base: str) -> None:
        built = bench.build(base + "FROM base\nUSER 7\nWORKDIR /a\n")
        assert [(entry.uid, entry.gid) for entry in built.layer(-1)] == [(7, 7)]

    def test_an_unknown_user_is_an_error(self, bench: "Bench", base: str) -> None:
        with pytest.raises(BuildFailed, match="nobody-here"):
            bench.build(base + "FROM base\nUSER nobody-here\nRUN true\n")


class TestOnbuild:
    def test_triggers_run_in_the_image_built_from_it(self, bench: "Bench", base: str) -> None:
        bench.build(base + "ONBUILD COPY file /file\nONBUILD RUN cat /file\n", tags=["parent:1"])
        built = bench.build("FROM parent:1\n", files={"file": "from the child\n"})
        assert "from the child" in built.output
        assert built.config.config.on_build == ()
