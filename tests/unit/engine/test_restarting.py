"""Restart policies: who is started again, and when."""

import pytest

from pybuild.engine.options import Restart, parse_restart
from pybuild.engine.restarting import Restarts, next_delay, wants
from pybuild.errors import UsageError
from runner.container.state import State

FAILED, DONE = State(status="exited", exit_code=3), State(status="exited")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", Restart("no")), ("always", Restart("always")), ("unless-stopped", Restart("unless-stopped")),
        ("on-failure", Restart("on-failure")), ("on-failure:3", Restart("on-failure", 3)),
    ],
)  # fmt: skip
def test_policies_are_written_as_docker_s(text: str, policy: Restart) -> None:
    assert parse_restart(text) == policy


@pytest.mark.parametrize("text", ["nosuch", "always:3", "on-failure:", "on-failure:x", ""])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_restart(text)


@pytest.mark.parametrize(
    ("policy", "state", "count", "again"),
    [
        (Restart("no"), FAILED, 0, False),
        (Restart("always"), DONE, 99, True),
        (Restart("unless-stopped"), DONE, 0, True),
        (Restart("on-failure"), DONE, 0, False),
        (Restart("on-failure"), FAILED, 99, True),
        (Restart("on-failure", 2), FAILED, 1, True),
        (Restart("on-failure", 2), FAILED, 2, False),
        (Restart("always"), State(), 0, False),
    ],
)
def test_who_is_started_again(policy: Restart, state: State, count: int, *, again: bool) -> None:
    assert wants(policy, state, Restarts(count), asked_to_stop=False) == again


def test_nobody_who_was_asked_to_stop() -> None:
    assert not wants(Restart("always"), DONE, Restarts(), asked_to_stop=True)


def test_waits_double_up_to_a_minute_and_begin_anew_after_a_steady_run() -> None:
    waits = [0.0]
    for _ in range(12):
        waits.append(next_delay(waits[-1], 1.0))
    assert waits[1:5] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 60.0
    assert next_delay(60.0, 10.0) == 0.1
