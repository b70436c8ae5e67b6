"""Restart policies: who is started again, when, and by whom.

A container with a policy is never cleaned up by a client: the supervisor runs the hook at its end (containers.py), and
the hook waits and starts it again. So neither a daemon nor a terminal is needed for it.

    root/containers/<id>/restarts   how often and how long was waited; locked by the process that waits
    root/containers/<id>/stopped    there after somebody asked for the end; a start removes it
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pybuild.engine.options import Restart
from pybuild.errors import EngineError, NotFound
from runner.container.jsonlog import nanoseconds
from runner.container.state import NEVER, State
from runner.errors import RunnerError

if TYPE_CHECKING:
    from pybuild.engine.containers import Containers

FIRST, LONGEST, STEADY = 0.1, 60.0, 10.0  # seconds: the first wait, the longest, and a run after which it is the first
_LOOK = 0.1  # seconds between looks whether it is still wanted


@dataclass(frozen=True, slots=True)
class Restarts:
    """What is known of a container's restarts. `waiting`: one is about to come."""

    count: int = 0
    delay: float = 0.0
    waiting: bool = False


def wants(policy: Restart, state: State, restarts: Restarts, *, asked_to_stop: bool) -> bool:
    """Whether a container that has ended is to be started again. Pure."""
    if asked_to_stop or state.status != "exited":
        return False
    if policy.name == "on-failure":
        return state.exit_code != 0 and (not policy.retries or restarts.count < policy.retries)
    return policy.name in {"always", "unless-stopped"}


def next_delay(previous: float, ran: float) -> float:
    """Seconds to wait after a run of `ran` seconds: twice as long each time, until a run was steady. Pure."""
    return FIRST if ran >= STEADY or not previous else min(2 * previous, LONGEST)


def read(directory: Path) -> Restarts:
    """Of a container's directory. One that waits must have a process that does."""
    try:
        with open(directory / "restarts", "rb") as file:
            found = Restarts(**json.loads(file.read() or b"{}"))
            return replace(found, waiting=found.waiting and _is_locked(file.fileno()))
    except (OSError, ValueError, TypeError):
        return Restarts()


def mark_stopped(directory: Path) -> None:
    """Somebody asked for the end: no policy may undo that."""
    with contextlib.suppress(FileNotFoundError):
        (directory / "stopped").touch(mode=0o600)


def is_stopped(directory: Path) -> bool:
    return (directory / "stopped").exists()


def clear(directory: Path) -> None:
    """Somebody asked for a start: what was before does not count."""
    (directory / "stopped").unlink(missing_ok=True)
    (directory / "restarts").unlink(missing_ok=True)


def revive(containers: "Containers", container_id: str) -> None:
    """Start a container again if its policy wants it, after the wait that is due. For a process that may wait."""
    directory = containers.records.of(container_id)
    try:
        record = containers.records.load(container_id)
        if record.options.restart.name == "no":
            return
        with _waiting(directory) as file:
            if file is None:
                return  # another process waits
            restarts = read(directory)
            state = containers.get(container_id).state
            if not wants(record.options.restart, state, restarts, asked_to_stop=is_stopped(directory)):
                return
            due = Restarts(restarts.count + 1, next_delay(restarts.delay, _ran(state)), waiting=True)
            _write(file, due)
            still_wanted = _wait(containers, container_id, due.delay)
            _write(file, replace(due, waiting=False))
        if still_wanted:
            containers.start(record, again=True).close()
    except (NotFound, FileNotFoundError):
        return  # removed meanwhile
    except (EngineError, RunnerError):
        return  # its state says why


def _wait(containers: "Containers", container_id: str, seconds: float) -> bool:
    """Whether it is still to be started after that time."""
    deadline = time.monotonic() + seconds
    directory = containers.records.of(container_id)
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK))
        if not directory.exists() or is_stopped(directory) or containers.is_running(container_id):
            return False
    return not is_stopped(directory)


def _ran(state: State) -> float:
    if NEVER in {state.started_at, state.finished_at}:
        return 0.0
    return (nanoseconds(state.finished_at) - nanoseconds(state.started_at)) / 1e9


@contextlib.contextmanager
def _waiting(directory: Path) -> Iterator[int | None]:
    """The file of restarts, locked; None when another process has it."""
    fd = os.open(directory / "restarts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _write(fd: int, restarts: Restarts) -> None:
    content = json.dumps(asdict(restarts)).encode()
    os.pwrite(fd, content, 0)
    os.ftruncate(fd, len(content))
