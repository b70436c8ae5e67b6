"""Ctrl-C in every long command: exit code 130 soon, nothing half-done, no traceback."""

import fcntl
import os
import signal
import termios
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import pytest

from tests.integration.bad_input.conftest import Contexts, Pybuild

pytestmark = pytest.mark.root


def interrupted(process: Popen[str], until: Callable[[], bool], number: int = signal.SIGINT) -> str:
    """Send the signal once `until` holds, to the process group as a terminal does; return its standard error."""
    began = time.monotonic()
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert "internal fault" not in err
    return err


def is_drained(pipe: int) -> bool:
    """Whether somebody has read all that was written to a pipe."""
    waiting = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return not waiting[0]


def is_connected(pid: int) -> bool:
    """Whether a process talks to somebody, here the supervisor."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(entry).startswith("socket:"):
                return True
    return False


def marked(pybuild: Pybuild, text: str) -> Callable[[], bool]:
    """Whether a process with this word in its arguments runs, other than a command line of ours."""

    def runs() -> bool:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if text.encode() in words and b"pybuild.cli.main" not in words:
                    return True
        return False

    return runs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_in_run(pybuild: Pybuild, contexts: Contexts, number: int) -> None:
    pybuild.ok("run", "--rm", "--network", "none", "busybox", "true")
    context = contexts(f"FROM busybox\nRUN sleep 98765{int(number)}\n")
    with pybuild.unchanged():
        process = pybuild.popen("build", "--network", "none", "-t", "x", str(context), start_new_session=True)
        interrupted(process, marked(pybuild, f"98765{int(number)}"), number)
        assert process.returncode == 128 + number
        assert not marked(pybuild, f"98765{int(number)}")()
        pybuild.end()


def test_a_build_that_reads_its_context_from_a_pipe(pybuild: Pybuild) -> None:
    reader, writer = os.pipe()
    with pybuild.unchanged():
        process = pybuild.popen("build", "-", stdin=reader, start_new_session=True)
        os.write(writer, b"FROM busybox\n")
        interrupted(process, lambda: is_drained(reader))
        assert process.returncode == 130
    os.close(reader)
    os.close(writer)


def test_a_load_from_a_pipe(pybuild: Pybuild, busybox_archive: Path) -> None:
    content = busybox_archive.read_bytes()
    reader, writer = os.pipe()
    with pybuild.unchanged():
        process = pybuild.popen("load", stdin=reader, start_new_session=True)
        os.write(writer, content[:60_000])
        interrupted(process, lambda: is_drained(reader))
        assert process.returncode == 130
    os.close(reader)
    os.close(writer)


def test_a_run_is_the_programs_to_answer(pybuild: Pybuild) -> None:
    with pybuild.unchanged():
        line = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done"
        process = pybuild.popen("run", "--rm", "--network", "none", "busybox", "sh", "-c", line, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (5, "caught\n", "")
        pybuild.end()


def test_commands_that_follow(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--network", "none", "--name", "long", "busybox", "sh", "-c", "echo hello; sleep 1000")
    process = pybuild.popen("logs", "-f", "long", start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "hello\n"
    interrupted(process, lambda: True)
    assert process.returncode == 130
    waits = pybuild.popen("wait", "long", start_new_session=True)
    interrupted(waits, lambda: is_connected(waits.pid))
    assert waits.returncode == 130
    assert pybuild.running()
    pybuild.end()


def test_a_stop_that_waits(pybuild: Pybuild) -> None:
    pybuild.ok("run", "-d", "--network", "none", "--name", "deaf", "busybox", "sleep", "1000")
    process = pybuild.popen("stop", "-t", "60", "deaf", start_new_session=True)
    interrupted(process, lambda: is_connected(process.pid))
    assert process.returncode == 130
    pybuild.end()


def test_a_registry_ends_in_order(pybuild: Pybuild, netns: None) -> None:
    process = pybuild.popen("registry", "serve", "--addr", "127.0.0.1:0", start_new_session=True)
    assert process.stderr is not None
    assert "127.0.0.1" in process.stderr.readline()
    interrupted(process, lambda: True)
    assert process.returncode in {0, 130}
