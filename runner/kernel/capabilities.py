"""Capabilities (capabilities(7)): names and numbers, and how a process sheds those it may not keep."""

import errno
from collections.abc import Iterable

from runner.kernel import calls

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_NUMBERS = {f"CAP_{name}": number for number, name in enumerate(NAMES)}
_LAST = len(NAMES) - 1


def parse(name: str) -> str:
    """The full name: "CAP_" may be left out, case does not matter. ValueError: no such capability."""
    full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
    if full not in _NUMBERS:
        raise ValueError(f"unknown capability {name}")
    return full


def mask(names: Iterable[str]) -> int:
    bits = 0
    for name in names:
        bits |= 1 << _NUMBERS[parse(name)]
    return bits


def names(bits: int) -> tuple[str, ...]:
    return tuple(name for name, number in _NUMBERS.items() if bits >> number & 1)


def own() -> tuple[int, int, int]:
    """This process's effective, permitted and inheritable sets."""
    return calls.capget()


def bound(keep: int) -> None:
    """Drop from the bounding set what is not in `keep`: no later execve can bring it back."""
    for number in range(_LAST + 1):
        if not keep >> number & 1:
            try:
                calls.prctl(calls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a capability newer than this kernel
                    raise


def restrict(keep: int) -> None:
    """Hold just `keep`; inheritable and ambient sets stay empty, or a file's own inheritable set would grant more."""
    calls.capset(keep, keep, 0)
    calls.prctl(calls.PR_CAP_AMBIENT, calls.PR_CAP_AMBIENT_CLEAR_ALL)
