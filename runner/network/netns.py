"""Network namespaces as descriptors: made in a thread of their own, so that the caller never leaves its own."""

import os
import socket
import threading
from collections.abc import Callable

from runner.kernel import calls
from runner.kernel.netlink import Netlink, link_up


def new_netns() -> int:
    """A new network namespace with `lo` up, as a descriptor (network_namespaces(7)).

    It lives as long as a descriptor or a process holds it; nothing in the file system names it, so nothing is left.
    """
    found: list[int] = []

    def make() -> None:
        calls.unshare(calls.CLONE_NEWNET)
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        with Netlink() as netlink:
            netlink.run(link_up(socket.if_nametoindex("lo")))

    try:
        _in_thread(make)
    except BaseException:
        for descriptor in found:
            os.close(descriptor)
        raise
    return found[0]


def within(netns: int, act: Callable[[], None]) -> None:
    """Run `act` in a thread that has joined the namespace; its exception is raised here."""

    def enter() -> None:
        calls.setns(netns, calls.CLONE_NEWNET)
        act()

    _in_thread(enter)


def _in_thread(act: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
