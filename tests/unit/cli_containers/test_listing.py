"""The words of `ps`, and the keys that leave a container running."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pybuild.engine.containers import Container
from pybuild.engine.detaching import DetachKeys
from pybuild.engine.listing import command_line, matches, ports, status
from pybuild.engine.options import RunOptions
from pybuild.engine.records import NetworkRecord, PublishedPort, Record
from runner.container.state import State

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
RECORD = Record(
    id="abc" + "0" * 61, name="web", created="2026-01-01T11:00:00Z", image="app:1", image_id="sha256:" + "1" * 64,
    entrypoint=(), cmd=("sleep", "600"), env=(), working_dir="/", user="", labels={"a": "b"},
    exposed_ports=("443/tcp", "80/tcp"), stop_signal="SIGTERM", stop_timeout=10, options=RunOptions(image="app:1"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), "Created"),
        (State(status="running", started_at="2026-01-01T11:55:00.5Z"), "Up 4 minutes"),
        (State(status="exited", exit_code=3, finished_at="2026-01-01T11:59:57Z"), "Exited (3) 3 seconds ago"),
        (State(status="exited", exit_code=255), "Exited (255)"),
    ],
)
def test_status(state: State, words: str) -> None:
    assert status(Container(RECORD, state), NOW) == words


def test_commands_are_quoted_and_cut() -> None:
    assert command_line(RECORD) == '"sleep 600"'
    long = replace(RECORD, cmd=("sh", "-c", 'echo "a long line"'))
    assert command_line(long) == '"sh -c echo \\"a long …"'
    assert command_line(replace(RECORD, cmd=("a\n\x1b[2J",))) == '"a\\n\\x1b[2J"'
    assert command_line(long, full=True) == '"sh -c echo \\"a long line\\""'


def test_published_ports_come_before_exposed_ones() -> None:
    network = NetworkRecord("bridge", ports=(PublishedPort(80, "tcp", "", 8080),))
    running = Container(RECORD, State(status="running"), network)
    assert ports(running) == "0.0.0.0:8080->80/tcp, 443/tcp"
    assert ports(replace(running, state=State(status="exited"))) == ""


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"name": ["we"]}, True),
        ({"name": ["other", "web"]}, True),
        ({"id": ["abc0"]}, True),
        ({"label": ["a", "a=b"]}, True),
        ({"label": ["a", "a=c"]}, False),
        ({"status": ["running"]}, False),
        ({"ancestor": ["app"], "status": ["created"]}, True),
        ({"ancestor": ["111111"]}, True),
        ({"ancestor": ["other"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], kept: bool) -> None:
    assert matches(Container(RECORD, State()), filters) is kept


class TestDetachKeys:
    def test_are_found_also_when_they_come_one_by_one(self) -> None:
        keys = DetachKeys(b"\x10\x11")
        assert keys.feed(b"ab\x10") == (b"ab", False)
        assert keys.feed(b"\x11") == (b"", True)

    def test_a_beginning_that_leads_nowhere_is_passed_on(self) -> None:
        keys = DetachKeys(b"\x10\x11")
        assert keys.feed(b"\x10x") == (b"\x10x", False)
        assert keys.feed(b"\x10\x10\x11") == (b"\x10", True)

    def test_no_keys_no_detaching(self) -> None:
        assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
