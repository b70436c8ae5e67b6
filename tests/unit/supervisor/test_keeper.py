"""The keeper: whatever a supervisor dies of, the next one finds what it left, and no exit status is lost.

Each test runs a keeper in a child of its own, with a supervisor of a few lines that tells what it sees through a pipe.
"""

import os
import signal
import sys
from collections.abc import Callable

import pytest

from runner.container.keeper import Inheritance, Keeper, KeeperLink
from runner.container.protocol import receive
from runner.kernel import calls

Supervise = Callable[[KeeperLink, Inheritance, Callable[[str], None]], None]


def told(supervise: Supervise) -> str:
    """Run a keeper to its end; what its supervisors said."""
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        status = 1
        try:
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(20)  # a fault must not leave processes behind
            calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
            say = lambda text: os.write(writer, f"{text}\n".encode())  # noqa: E731  shorter than a function here

            def begin(link: KeeperLink, estate: Inheritance) -> None:
                signal.alarm(20)
                supervise(link, estate, say)

            Keeper(begin).run()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(keeper, 0)[1] == 0
    return text


def test_one_that_ends_well_is_not_started_again() -> None:
    assert told(lambda link, estate, say: say(f"started with {len(estate.kept)}")) == "started with 0\n"


@pytest.mark.parametrize("death", ["kill", "exception"])
def test_the_next_one_inherits_records_and_descriptors(death: str) -> None:
    def supervise(link: KeeperLink, estate: Inheritance, say: Callable[[str], None]) -> None:
        if estate.kept:
            kept = estate.kept["box"]
            say(f"{kept.record['note']} {sorted(kept.fds)} {os.read(kept.fds['stdout'], 100)!r}")
            return
        reader, writer = os.pipe()
        os.write(writer, b"waiting in the pipe")
        link.keep("box", {"note": "mine", "pid": 1}, {"stdout": reader, "stdin": writer})
        link.keep("gone", {"note": "not any more", "pid": 2}, {})
        link.drop("gone")
        link.drop("box", "stdin")
        if death == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("a bug")

    assert told(supervise) == "mine ['stdout'] b'waiting in the pipe'\n"


def test_the_exit_of_an_orphan_is_told_to_the_next_one() -> None:
    def supervise(link: KeeperLink, estate: Inheritance, say: Callable[[str], None]) -> None:
        if not estate.kept:
            hold, release = os.pipe()
            container = os.fork()
            if container == 0:
                os.close(release)
                os.read(hold, 1)  # until the next supervisor lets go
                os._exit(42)
            link.keep("box", {"pid": container}, {"release": release})
            os.kill(os.getpid(), signal.SIGKILL)
        assert link.socket is not None
        link.drop("box", "release")
        os.close(estate.kept["box"].fds["release"])
        packet = receive(link.socket)
        assert packet is not None
        assert packet.message is not None
        same = packet.message["pid"] == estate.kept["box"].record["pid"]
        say(f"{packet.message['op']} {packet.message['code']} {same}")

    assert told(supervise) == "died 42 True\n"


def test_one_that_ended_in_between_is_in_the_inheritance() -> None:
    def supervise(link: KeeperLink, estate: Inheritance, say: Callable[[str], None]) -> None:
        if estate.kept:
            (code,) = estate.exits.values()
            say(str(code))
            return
        container = os.fork()
        if container == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        os.waitid(os.P_PID, container, os.WEXITED | os.WNOWAIT)
        link.keep("box", {"pid": container}, {})
        os.kill(os.getpid(), signal.SIGKILL)

    assert told(supervise) == "143\n"
