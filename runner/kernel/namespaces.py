"""Namespaces (namespaces(7)): their flags, their files, and children born into another PID namespace."""

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Iterator
from fcntl import ioctl

from runner.kernel import calls

FLAGS = {  # by the name of the file in /proc/PID/ns
    "mnt": calls.CLONE_NEWNS,
    "pid": calls.CLONE_NEWPID,
    "net": calls.CLONE_NEWNET,
    "ipc": calls.CLONE_NEWIPC,
    "uts": calls.CLONE_NEWUTS,
    "cgroup": calls.CLONE_NEWCGROUP,
}


def fork_into(*, pid_namespace: int | None, new_pid_namespace: bool, group: str | None) -> tuple[int, bool]:
    """Fork a child into another PID namespace and, from its birth, into a control group of version 2.

    So the first process of a container is a direct child of the caller, who can wait for it. To be born in a group
    costs nothing; to be moved there later takes the kernel some 10 ms when no process has been moved lately. Where the
    kernel or the caller's other threads forbid it, the child is an ordinary one.

    Args:
        pid_namespace: the namespace to be born in; None is the caller's own.
        new_pid_namespace: be the first process of a new one in its place.
        group: directory of the group, if there is one.

    Returns:
        The child's process id, 0 in the child, and whether it is in the group.
    """
    if pid_namespace is None:
        return _fork(group, calls.CLONE_NEWPID if new_pid_namespace else 0)
    # The kernel keeps the namespace for children apart from the caller's own, hence it can be set back.
    with _own_pid_namespace() as own:
        calls.setns(pid_namespace, calls.CLONE_NEWPID)
        try:
            pid, born = _fork(group, 0)
        except BaseException:
            calls.setns(own, calls.CLONE_NEWPID)
            raise
        if pid:
            calls.setns(own, calls.CLONE_NEWPID)
        return pid, born


def _fork(group: str | None, flags: int) -> tuple[int, bool]:
    if group is not None and len(os.listdir("/proc/self/task")) == 1:
        with contextlib.suppress(OSError):
            return _clone_into(group, flags), True
    if not flags:
        return os.fork(), False
    with _own_pid_namespace() as own:
        calls.unshare(flags)
        pid = os.fork()
        if pid:
            calls.setns(own, flags)
        return pid, False


@contextlib.contextmanager
def _own_pid_namespace() -> Iterator[int]:
    fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _clone_into(group: str, flags: int) -> int:
    fd = os.open(group, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Python's own signal handlers must not run in the child; to block signals lets those that are due run before.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = calls.clone3(flags | calls.CLONE_INTO_CGROUP, fd)
        if pid == 0:
            calls.default_signals()
    finally:
        os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


_SIGNALS = signal.valid_signals()
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback_up() -> None:
    """In a new network namespace `lo` is down, and 127.0.0.1 unreachable (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
