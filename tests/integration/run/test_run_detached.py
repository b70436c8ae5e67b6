"""Containers that run in the background: ps, logs, exec, attach, stop, kill, wait, start, rm, inspect."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.run.conftest import Pybuild

pytestmark = pytest.mark.root
NO_NET = ("--network", "none")


def detached(pybuild: Pybuild, name: str, *command: str, options: tuple[str, ...] = ()) -> str:
    return pybuild.ok("run", "-d", "--name", name, *NO_NET, *options, "busybox", *command).strip()


def finished(pybuild: Pybuild, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
    detached(pybuild, name, *command, options=options)
    pybuild.ok("wait", name)


class TestRun:
    def test_prints_the_id_and_nothing_else(self, pybuild: Pybuild) -> None:
        assert re.fullmatch(r"[0-9a-f]{64}", detached(pybuild, "box", "sleep", "60"))

    def test_a_container_that_ends_at_once_keeps_its_output_and_code(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sh", "-c", "echo short; exit 3")
        assert pybuild.ok("wait", "box") == "3\n"
        assert pybuild.ok("logs", "box") == "short\n"

    def test_rm_removes_it_at_its_end(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sleep", "0.3", options=("--rm",))
        pybuild("wait", "box")
        deadline = time.monotonic() + 10
        while pybuild.ok("ps", "-aq"):
            assert time.monotonic() < deadline


class TestPs:
    def test_table_has_dockers_columns(self, pybuild: Pybuild) -> None:
        container_id = detached(pybuild, "box", "sleep", "600")
        head, row = pybuild.ok("ps").splitlines()
        assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
        assert row.startswith(f'{container_id[:12]}   busybox   "sleep 600"   ')
        assert row.endswith("   box")
        assert "   Up " in row

    def test_only_running_ones_unless_all_are_asked_for(self, pybuild: Pybuild) -> None:
        finished(pybuild, "over", "sh", "-c", "exit 4")
        assert pybuild.ok("ps", "-q") == ""
        assert "Exited (4) " in pybuild.ok("ps", "-a")

    def test_filters_and_formats(self, pybuild: Pybuild) -> None:
        detached(pybuild, "first", "sleep", "600", options=("-l", "tier=web", "-l", "x=1"))
        finished(pybuild, "second", "true")

        def names(*words: str) -> list[str]:
            return pybuild.ok("ps", "--format", "{{.Names}}", *words).split()

        assert names("-a") == ["second", "first"]
        assert names("-f", "name=fir") == ["first"]
        assert names("-f", "status=exited") == ["second"]
        assert names("-a", "-f", "label=tier=web", "-f", "label=x") == ["first"]
        assert names("-a", "-f", "ancestor=busybox", "-f", "exited=0") == ["second"]
        assert names("-n", "1") == ["second"]
        row = json.loads(pybuild.ok("ps", "--format", "json"))
        assert (row["Names"], row["State"], row["Labels"]) == ("first", "running", "tier=web,x=1")
        assert pybuild.ok("ps", "--format", "table {{.Names}}\t{{.State}}") == "NAMES   STATE\nfirst   running\n"
        assert pybuild("ps", "-f", "nonsense=1").code == 2


class TestLogs:
    def test_streams_are_kept_apart(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "sh", "-c", "echo out; echo err >&2")
        found = pybuild("logs", "box")
        assert (found.out, found.err) == ("out\n", "err\n")

    def test_tail_and_timestamps(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "seq", "1", "9")
        assert pybuild.ok("logs", "--tail", "2", "box") == "8\n9\n"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 9\n", pybuild.ok("logs", "-t", "-n", "1", "box"))

    def test_since_and_until(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "echo", "now")
        assert pybuild.ok("logs", "--since", "10m", "box") == "now\n"
        assert pybuild.ok("logs", "--until", "10m", "box") == ""
        assert pybuild.ok("logs", "--since", "2100-01-01T00:00:00Z", "box") == ""

    def test_follow_ends_with_the_container(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sh", "-c", "echo one; sleep 0.5; echo two")
        assert pybuild.ok("logs", "-f", "box") == "one\ntwo\n"

    def test_a_foreground_run_is_logged_as_well(self, pybuild: Pybuild) -> None:
        pybuild.ok("run", "--name", "box", *NO_NET, "busybox", "echo", "seen")
        assert pybuild.ok("logs", "box") == "seen\n"


class TestExec:
    def test_output_input_and_exit_code(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sleep", "600")
        assert pybuild.ok("exec", "box", "hostname") == pybuild.ok("ps", "-q")
        assert pybuild.ok("exec", "-i", "box", "cat", stdin="typed") == "typed"
        assert pybuild("exec", "box", "sh", "-c", "exit 6").code == 6
        assert pybuild("exec", "box", "nosuch").code == 127

    def test_runs_in_the_containers_surroundings(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sleep", "600", options=("-e", "A=1", "-w", "/data"))
        script = "echo $A $B; pwd; id -u; cat /proc/1/comm; grep -c . /proc/self/cgroup >/dev/null && echo in"
        found = pybuild.ok("exec", "-e", "B=2", "-u", "user", "box", "sh", "-c", script)
        assert found == "1 2\n/data\n1000\nsleep\nin\n"
        assert pybuild.ok("exec", "-w", "/tmp", "box", "pwd") == "/tmp\n"

    def test_detached_goes_on_alone(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sleep", "600")
        assert pybuild.ok("exec", "-d", "box", "touch", "/tmp/done") == ""
        deadline = time.monotonic() + 10
        while pybuild("exec", "box", "test", "-e", "/tmp/done").code:
            assert time.monotonic() < deadline

    def test_needs_a_running_container(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "true")
        found = pybuild("exec", "box", "true")
        assert (found.code, found.err.splitlines()[0]) == (1, "error: Container box is not running")


class TestStop:
    def test_asks_by_the_stop_signal_and_then_kills(self, pybuild: Pybuild) -> None:
        script = "trap 'exit 5' INT; echo up; while :; do sleep 0.05; done"
        detached(pybuild, "polite", "sh", "-c", script, options=("--stop-signal", "INT"))
        detached(pybuild, "deaf", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
        for name in ("polite", "deaf"):
            while not pybuild.ok("logs", name):
                pass
        assert pybuild.ok("stop", "-t", "1", "polite", "deaf") == "polite\ndeaf\n"
        codes = [pybuild.inspect(name)["State"]["ExitCode"] for name in ("polite", "deaf")]
        assert codes == [5, 137]

    def test_kill_sends_any_signal(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sh", "-c", "trap 'exit 8' USR1; echo up; while :; do sleep 0.05; done")
        while not pybuild.ok("logs", "box"):
            pass
        pybuild.ok("kill", "-s", "USR1", "box")
        assert pybuild.ok("wait", "box") == "8\n"
        assert pybuild("kill", "box").code == 1

    def test_stopping_what_is_stopped_is_no_error_but_an_unknown_name_is(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "true")
        assert pybuild.ok("stop", "box") == "box\n"
        found = pybuild("stop", "nobody", "box")
        assert (found.code, found.out) == (1, "box\n")
        assert "No such container: nobody" in found.err


class TestStart:
    def test_again_with_the_same_files(self, pybuild: Pybuild) -> None:
        finished(pybuild, "box", "sh", "-c", "echo more >> /tmp/file; wc -l < /tmp/file")
        assert pybuild.ok("start", "box") == "box\n"
        pybuild.ok("wait", "box")
        assert pybuild.ok("start", "-a", "box") == "3\n"
        assert pybuild.ok("logs", "box") == "1\n2\n3\n"

    def test_attach_follows_what_comes(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "cat", options=("-i",))
        process = pybuild.popen("attach", "box", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        pybuild.ok("kill", "box")
        assert process.wait(20) == 137
        process.stdin.close()
        process.stdout.close()


class TestRemove:
    def test_a_running_one_only_by_force(self, pybuild: Pybuild) -> None:
        detached(pybuild, "box", "sleep", "600")
        assert pybuild("rm", "box").code == 1
        assert pybuild.ok("rm", "-f", "box") == "box\n"
        assert pybuild.ok("ps", "-aq") == ""

    def test_by_the_beginning_of_its_id(self, pybuild: Pybuild) -> None:
        container_id = detached(pybuild, "box", "true")
        pybuild.ok("wait", "box")
        assert pybuild.ok("rm", container_id[:8]) == f"{container_id[:8]}\n"
        assert pybuild("rm", "box").code == 1
        assert pybuild("rm", "-f", "box").code == 0


class TestInspect:
    def test_says_what_docker_says(self, pybuild: Pybuild) -> None:
        container_id = detached(
            pybuild, "box", "sleep", "600", options=("-m", "64m", "--cpus", "0.5", "-l", "a=b", "-v", "/etc:/host:ro")
        )
        found = pybuild.inspect("box")
        assert (found["Id"], found["Name"], found["Path"], found["Args"]) == (container_id, "/box", "sleep", ["600"])
        assert (found["State"]["Status"], found["State"]["Running"]) == ("running", True)
        host = found["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["NetworkMode"]) == (64 << 20, 500_000_000, "none")
        assert host["Binds"] == ["/etc:/host:ro"]
        assert found["Mounts"][0] == {  # type: ignore[index]  # a list, in JSON
            "Type": "bind", "Source": "/etc", "Destination": "/host", "Mode": "", "RW": False, "Propagation": "rprivate"
        }  # fmt: skip
        assert found["Config"]["Labels"] == {"a": "b"}
        assert str(found["Image"]).startswith("sha256:")
        assert (
            pybuild.ok("inspect", "-f", "{{.State.Status}} {{.Config.Hostname}}", "box")
            == f"running {container_id[:12]}\n"
        )

    def test_falls_back_to_images(self, pybuild: Pybuild) -> None:
        assert json.loads(pybuild.ok("inspect", "busybox"))[0]["RepoTags"] == ["busybox:latest"]
        assert pybuild("inspect", "--type", "container", "busybox").code == 1


class TestVolumes:
    def test_a_named_one_is_filled_from_the_image_and_outlives_its_containers(self, pybuild: Pybuild) -> None:
        def run(*command: str) -> str:
            return pybuild.ok("run", "--rm", *NO_NET, "-v", "stock:/data", "busybox", *command)

        assert run(
            "sh", "-c", "cat /data/seed; stat -c %a /data/seed; readlink /data/deep/link; echo new > /data/more"
        ) == ("from the image\n640\n/etc/passwd\n")
        assert run("cat", "/data/more") == "new\n"

    def test_an_anonymous_one_goes_with_its_container(self, pybuild: Pybuild) -> None:
        pybuild.ok("run", "--rm", *NO_NET, "-v", "/cache", "busybox", "touch", "/cache/x")
        volumes = pybuild.root / "volumes"
        assert [name for name in (p.name for p in volumes.iterdir()) if len(name) == 64] == []

    def test_a_bind_shows_the_hosts_files_and_read_only_keeps_them(self, pybuild: Pybuild, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("host\n")
        script = "cat /in/file; echo x > /in/file"
        found = pybuild("run", "--rm", *NO_NET, "-v", f"{tmp_path}:/in:ro", "busybox", "sh", "-c", script)
        assert (found.out, found.code) == ("host\n", 1)
        pybuild.ok("run", "--rm", *NO_NET, "-v", f"{tmp_path}/made:/in", "busybox", "touch", "/in/inside")
        assert (tmp_path / "made" / "inside").exists()
