"""Namespaces (namespaces(7)): their flags, their files, and children born into another PID namespace."""

import contextlib
import os
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


@contextlib.contextmanager
def children_in_pid_namespace(fd: int | None) -> Iterator[None]:
    """Have children that are forked meanwhile be born in the PID namespace of `fd`, or with None in a new one.

    So the first process of a container is a direct child of the caller, who can wait for it. The kernel keeps the
    namespace for children apart from the caller's own, hence it can be set back. Not for processes with other threads
    that fork.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fd is None:
            calls.unshare(calls.CLONE_NEWPID)
        else:
            calls.setns(fd, calls.CLONE_NEWPID)
        try:
            yield
        finally:
            calls.setns(own, calls.CLONE_NEWPID)
    finally:
        os.close(own)


_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback_up() -> None:
    """In a new network namespace `lo` is down, and 127.0.0.1 unreachable (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ioctl(sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
