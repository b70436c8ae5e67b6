"""Who holds something, so that others can tell when that process is dead.

A pid alone comes back; pid and start time do not, within one boot. A pid of another pid namespace (a container that
shares the root) says nothing to us: such a holder counts as alive until its time is over.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Self


@dataclass(frozen=True, slots=True)
class Owner:
    pid: int
    started: str  # clock ticks after boot, as /proc/<pid>/stat has it
    boot: str
    pid_ns: str

    @classmethod
    def self(cls) -> Self:
        pid = os.getpid()
        return cls(pid, _own_start(pid), boot_id(), _own_pid_namespace(pid))

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Read what `str` wrote; None if it is something else."""
        parts = text.split(".")
        if len(parts) != 4 or not parts[0].isdigit():
            return None
        return cls(int(parts[0]), parts[1], parts[2], parts[3])

    def is_dead(self) -> bool:
        """True only if it is certain."""
        if self.boot != boot_id():
            return True
        return self.pid_ns == _own_pid_namespace(os.getpid()) and start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"{self.pid}.{self.started}.{self.boot}.{self.pid_ns}"


def start_time(pid: int) -> str | None:
    """None if there is no such process, or only its zombie is left."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before ")" may itself hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {b"Z", b"X"} else fields[19].decode()


@cache  # by pid: a forked child is another process, maybe in another namespace
def _own_start(pid: int) -> str:
    return start_time(pid) or ""


@cache
def _own_pid_namespace(_pid: int) -> str:
    return os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")


@cache
def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip().replace("-", "")
