"""Fixtures for every suite: a network namespace of the test's own, and a temporary directory in memory."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.kernel import calls
from runner.kernel.netlink import Netlink, link_up


@pytest.fixture
def netns() -> Iterator[None]:
    """Run the test (and the processes it starts) in a fresh network namespace: only `lo`, and it is up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    calls.unshare(calls.CLONE_NEWNET)
    try:
        with Netlink() as netlink:
            netlink.run(link_up(socket.if_nametoindex("lo")))
        yield
    finally:
        calls.setns(before, calls.CLONE_NEWNET)
        os.close(before)


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A directory on tmpfs: trees are made and deleted fast there, and overlayfs takes it as an upper directory."""
    made = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made, ignore_errors=True)
