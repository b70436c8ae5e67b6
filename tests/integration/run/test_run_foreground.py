"""`pybuild run` in the foreground: streams, exit codes, clean-up."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.run.conftest import Pybuild

pytestmark = pytest.mark.root
NO_NET = ("--network", "none")


def run(pybuild: Pybuild, *words: str, options: tuple[str, ...] = (), stdin: str | None = None):
    return pybuild("run", "--rm", *NO_NET, *options, "busybox", *words, stdin=stdin)


class TestStreams:
    def test_output_and_errors_come_out_where_they_belong(self, pybuild: Pybuild) -> None:
        found = run(pybuild, "sh", "-c", "echo out; echo err >&2")
        assert (found.code, found.out, found.err) == (0, "out\n", "err\n")

    def test_input_is_passed_on_and_its_end_too(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "cat", options=("-i",), stdin="hello\n").out == "hello\n"

    def test_without_interactive_there_is_no_input(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "cat", stdin="hello\n").out == ""

    def test_output_goes_on_after_our_input_has_ended(self, pybuild: Pybuild) -> None:
        script = "cat >/dev/null; echo afterwards"
        assert run(pybuild, "sh", "-c", script, options=("-i",), stdin="x").out == "afterwards\n"

    def test_not_a_byte_is_lost_of_a_short_process_with_much_output(self, pybuild: Pybuild) -> None:
        found = run(pybuild, "sh", "-c", "seq 1 50000; echo end >&2")
        assert found.out == "".join(f"{number}\n" for number in range(1, 50001))
        assert found.err == "end\n"

    def test_a_megabyte_travels_in_and_out(self, pybuild: Pybuild) -> None:
        text = "0123456789abcde\n" * 65536
        assert run(pybuild, "cat", options=("-i",), stdin=text).out == text


class TestExitCodes:
    @pytest.mark.parametrize(
        ("command", "code", "text"),
        [
            (("true",), 0, ""),
            (("sh", "-c", "exit 42"), 42, ""),
            (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137, ""),
            (("nosuchprogram",), 127, 'exec: "nosuchprogram": executable file not found'),
            (("/etc/passwd",), 126, "permission denied"),
        ],
    )
    def test_are_dockers(self, pybuild: Pybuild, command: tuple[str, ...], code: int, text: str) -> None:
        found = run(pybuild, *command)
        assert found.code == code
        assert text in found.err

    def test_a_failure_before_the_start_is_125(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "true", options=("-v", "/nowhere:/x:bad")).code == 125
        assert pybuild("run", "--pull=never", "nosuchimage").code == 125
        assert pybuild("run", *NO_NET, "--mount", "type=bind,source=/nowhere,target=/x", "busybox", "true").code == 125

    def test_a_container_that_could_not_start_stays_with_its_error_unless_it_was_to_be_removed(
        self, pybuild: Pybuild
    ) -> None:
        assert pybuild("run", "--name", "bad", *NO_NET, "busybox", "nosuchprogram").code == 127
        state = pybuild.inspect("bad")["State"]
        assert (state["Status"], state["ExitCode"]) == ("created", 127)
        assert "executable file not found" in str(state["Error"])
        run(pybuild, "nosuchprogram", options=("--name", "gone"))
        assert pybuild("inspect", "gone").code == 1


class TestSignals:
    def test_are_passed_on(self, pybuild: Pybuild) -> None:
        script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        process = pybuild.popen("run", "--rm", *NO_NET, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        process.stdout.close()
        assert process.wait(20) == 3


class TestEnvironment:
    def test_the_users_variables_win_over_the_images(self, pybuild: Pybuild) -> None:
        found = run(pybuild, "env", options=("-e", "A=1", "-e", "PATH=/bin:/x", "-h", "me"))
        assert {"A=1", "PATH=/bin:/x", "HOSTNAME=me", "HOME=/root"} == set(found.out.splitlines())

    def test_a_name_alone_takes_the_value_from_here(self, pybuild: Pybuild, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_text("# comment\nFROM_FILE=x y\nHERE\n")
        pybuild.env = {"HERE": "from the host"}
        found = run(
            pybuild, "sh", "-c", "echo $HERE/$FROM_FILE/$ABSENT", options=("--env-file", str(file), "-e", "ABSENT")
        )
        assert found.out == "from the host/x y/\n"

    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            ("user", "uid=1000(user) gid=1000(user) groups=1000(user),1001(extra)"),
            ("1000:0", "uid=1000(user) gid=0(root) groups=0(root)"),
            ("4242", "uid=4242 gid=0(root) groups=0(root)"),
        ],
    )
    def test_user(self, pybuild: Pybuild, user: str, expected: str) -> None:
        assert run(pybuild, "id", options=("-u", user)).out.strip() == expected

    def test_the_working_directory_is_made_when_it_is_missing(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "pwd", options=("-w", "/new/one")).out == "/new/one\n"

    def test_entrypoint_replaces_the_images_command(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "a", "b", options=("--entrypoint", "/bin/echo")).out == "a b\n"

    def test_hostname_is_the_short_id_and_in_hosts(self, pybuild: Pybuild, tmp_path: Path) -> None:
        found = run(pybuild, "sh", "-c", "hostname; cat /etc/hostname", options=("--cidfile", str(tmp_path / "id")))
        short = (tmp_path / "id").read_text()[:12]
        assert found.out == f"{short}\n{short}\n"


class TestConfinement:
    def test_read_only_root_with_a_writable_tmpfs(self, pybuild: Pybuild) -> None:
        script = "touch /x 2>&1; touch /run/y && echo wrote"
        found = run(pybuild, "sh", "-c", script, options=("--read-only", "--tmpfs", "/run"))
        assert found.out == "touch: /x: Read-only file system\nwrote\n"

    def test_capabilities(self, pybuild: Pybuild) -> None:
        def effective(*options: str) -> int:
            return int(run(pybuild, "sh", "-c", "grep CapEff /proc/self/status", options=options).out.split()[1], 16)

        assert effective() == 0xA80425FB
        assert effective("--cap-drop", "ALL") == 0
        assert effective("--cap-drop", "all", "--cap-add", "CAP_NET_ADMIN") == 1 << 12
        assert effective("--cap-drop", "CHOWN") == 0xA80425FA

    def test_init_runs_as_process_1_and_reaps(self, pybuild: Pybuild) -> None:
        assert run(pybuild, "sh", "-c", "cat /proc/1/comm", options=("--init",)).out == "docker-init\n"

    def test_memory_limit_ends_what_takes_more(self, pybuild: Pybuild) -> None:
        words = ("run", "--name", "hungry", *NO_NET, "-m", "16m", "busybox", "tail", "-c", "64m", "/dev/zero")
        assert pybuild(*words).code == 137
        assert pybuild.inspect("hungry")["State"]["OOMKilled"] is True


def test_a_name_is_taken_once(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--name", "one", *NO_NET, "busybox", "sleep", "60")
    found = pybuild("run", "--name", "one", *NO_NET, "busybox", "true")
    assert found.code == 125
    assert 'The container name "/one" is already in use' in found.err


def test_many_at_once_each_with_its_own_output(pybuild: Pybuild) -> None:
    processes = [
        pybuild.popen("run", "--rm", *NO_NET, "busybox", "echo", str(number), stdout=subprocess.PIPE)
        for number in range(8)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"%d\n" % number for number in range(8)]
    assert [process.returncode for process in processes] == [0] * 8


def test_a_terminal_is_refused_when_input_is_none(pybuild: Pybuild) -> None:
    found = pybuild("run", "-it", *NO_NET, "busybox", "true")
    assert (found.code, found.err.splitlines()[0]) == (1, "error: the input device is not a TTY")
    assert os.listdir(pybuild.root / "containers" / "names") == [] if (pybuild.root / "containers").exists() else True
