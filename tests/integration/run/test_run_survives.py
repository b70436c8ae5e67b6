"""What a kill -9 of the command line, the supervisor or its keeper costs: not a container, not a byte, no rubbish."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from pybuild.engine.roots import runtime_dir
from tests.integration.run.conftest import Pybuild, own_processes

pytestmark = pytest.mark.root
NO_NET = ("--network", "none")
COUNT = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 7"


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for what another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_a_container_goes_on_when_the_command_line_is_killed_and_is_cleaned_up_at_its_end(pybuild: Pybuild) -> None:
    process = pybuild.popen(
        "run", "--rm", "--name", "orphan", *NO_NET, "busybox", "sh", "-c", "echo up; sleep 1", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert pybuild.inspect("orphan")["State"]["Running"] is True
    until(lambda: pybuild("inspect", "orphan").code == 1)
    assert os.listdir(pybuild.root / "containers" / "names") == []


class TestSupervisorKilled:
    def test_not_a_line_of_output_and_no_exit_code_is_lost(self, pybuild: Pybuild) -> None:
        pybuild.ok("run", "-d", "--name", "steady", *NO_NET, "busybox", "sh", "-c", COUNT)
        first = pybuild.supervisor()
        until(lambda: "line 5\n" in pybuild.ok("logs", "steady"))
        os.kill(first, signal.SIGKILL)
        assert pybuild.ok("wait", "steady") == "7\n"
        assert pybuild.supervisor() != first
        assert pybuild.ok("logs", "steady") == "".join(f"line {number}\n" for number in range(40))

    def test_a_foreground_run_goes_on_with_the_next_one(self, pybuild: Pybuild) -> None:
        process = pybuild.popen(
            "run", "--rm", "--name", "steady", *NO_NET, "busybox", "sh", "-c", COUNT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"line 0\n"
        os.kill(pybuild.supervisor(), signal.SIGKILL)
        assert process.stdout.read().endswith(b"line 39\n")
        process.stdout.close()
        assert process.wait(20) == 7
        assert pybuild.ok("ps", "-aq") == ""

    def test_a_terminal_is_not_hung_up_and_can_be_attached_to_again(self, pybuild: Pybuild) -> None:
        pybuild.ok("run", "-dit", "--name", "shell", *NO_NET, "busybox", "sh")
        os.kill(pybuild.supervisor(), signal.SIGKILL)
        assert pybuild.ok("exec", "shell", "echo", "still here") == "still here\n"
        assert pybuild.inspect("shell")["State"]["Running"] is True

    def test_it_is_stopped_as_ever(self, pybuild: Pybuild) -> None:
        script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
        pybuild.ok("run", "-d", "--name", "polite", *NO_NET, "busybox", "sh", "-c", script)
        until(lambda: pybuild.ok("logs", "polite"))
        os.kill(pybuild.supervisor(), signal.SIGKILL)
        pybuild.ok("stop", "polite")
        assert pybuild.inspect("polite")["State"]["ExitCode"] == 9

    def test_an_input_that_was_ended_does_not_stay_open(self, pybuild: Pybuild) -> None:
        assert pybuild("run", "--rm", "-i", *NO_NET, "busybox", "cat", stdin="x").out == "x"


class TestKeeperKilledToo:
    def test_the_next_command_cleans_up_what_died(self, pybuild: Pybuild) -> None:
        """Then the pipes have no reader: a container that writes may die. What is left of it must not stay."""
        pybuild.ok("run", "-d", "--rm", "--name", "doomed", *NO_NET, "busybox", "sleep", "600")
        pid = int(str(pybuild.inspect("doomed")["State"]["Pid"]))
        for process in own_processes(runtime_dir(pybuild.root)):
            os.kill(process, signal.SIGKILL)
        assert pybuild.inspect("doomed")["State"]["Running"] is True
        os.kill(pid, signal.SIGKILL)
        until(lambda: pybuild.ok("ps", "-aq") == "")
        assert [entry for entry in os.listdir(pybuild.root / "containers") if len(entry) >= 64] == []

    def test_it_can_still_be_stopped(self, pybuild: Pybuild) -> None:
        pybuild.ok("run", "-d", "--name", "alone", *NO_NET, "busybox", "sleep", "600")
        for process in own_processes(runtime_dir(pybuild.root)):
            os.kill(process, signal.SIGKILL)
        pybuild.ok("stop", "-t", "0", "alone")
        state = pybuild.inspect("alone")["State"]
        assert (state["Running"], state["ExitCode"]) == (False, 255)
        pybuild.ok("start", "alone")
        assert pybuild.inspect("alone")["State"]["Running"] is True


def test_what_a_killed_create_left_half_done_is_swept_up(pybuild: Pybuild) -> None:
    pybuild.ok("run", "--rm", *NO_NET, "busybox", "true")
    half = pybuild.root / "containers" / f".new-{'a' * 64}.4194304.12345"
    half.mkdir()
    gone = pybuild.root / "containers" / f".gone-{'b' * 64}"
    gone.mkdir()
    (pybuild.root / "containers" / "names" / "half").symlink_to("a" * 64)
    pybuild.ok("run", "-d", "--name", "half", *NO_NET, "busybox", "true")
    assert not half.exists()
    assert not gone.exists()
