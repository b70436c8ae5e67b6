"""A container's state file: written by who owns the moment (engine, supervisor), readable by everybody at any time.

Promises: a reader sees the old or the new state, never half of one; `alive` tells a process from a later one that got
          the same number, and from one before the last boot.
"""

import errno
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

NEVER = "0001-01-01T00:00:00Z"  # what clients of docker expect for a time that has not come
LOST = 255  # exit code when nobody saw the exit: a reboot, or the supervisor was killed together with its keeper


@dataclass(frozen=True, slots=True)
class State:
    """Times are RFC 3339 with nanoseconds, UTC. `pid` is 0 unless `status` is running."""

    status: str = "created"  # created, running, exited
    pid: int = 0
    start_time: int = 0  # of the process, in clock ticks since boot
    boot_id: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = NEVER
    finished_at: str = NEVER
    paused: bool = False  # while it runs
    detached: bool = True  # False: network and files of the last run wait for being cleaned up

    @property
    def word(self) -> str:
        """As docker calls it: created, running, paused, exited."""
        return "paused" if self.status == "running" and self.paused else self.status

    @property
    def alive(self) -> bool:
        return self.status == "running" and boot_id() == self.boot_id and start_time(self.pid) == self.start_time


def read_state(directory: Path) -> State:
    """The state as it was last written: one that says running but is not `alive` has ended meanwhile, see `lost`.

    FileNotFoundError: there is no such container (anymore).
    """
    try:
        return State(**json.loads((directory / "state.json").read_bytes()))
    except (ValueError, TypeError):  # torn by a power cut: the rename came to the disk before the bytes
        return lost(State(detached=False))


def lost(state: State) -> State:
    """The state of a container whose end nobody saw."""
    return replace(state, status="exited", pid=0, exit_code=LOST, error="nobody was there to see how it ended")


def write_state(directory: Path, state: State) -> None:
    """Replace the state. FileNotFoundError: the container has been removed meanwhile."""
    draft = directory / f".state.{os.getpid()}"
    content = json.dumps(asdict(state), separators=(",", ":"))
    try:
        draft.write_text(content)
        draft.replace(directory / "state.json")
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        with open(directory / "state.json", "r+") as file:  # a full disk still has the block that the old one is in
            file.write(content)
            file.truncate()


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot; 0 when there is none or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339 with nanoseconds, as Go writes it: without zeros at the end of the fraction."""
    now = time.time_ns() if nanoseconds is None else nanoseconds
    seconds, fraction = divmod(now, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"
