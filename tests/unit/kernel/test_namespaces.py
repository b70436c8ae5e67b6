"""Children that are born elsewhere: in another PID namespace, in a control group."""

import os
import threading
from collections.abc import Iterator

import pytest

from runner.kernel import namespaces
from runner.kernel.cgroups import Cgroup, Hierarchies


@pytest.fixture
def group() -> Iterator[str]:
    made = Cgroup.create(f"/pybuild-test-{os.getpid()}", Hierarchies({}, Hierarchies.mounted().v2))
    yield made.make_cradle() or ""
    made.remove()


def child(**options: object) -> tuple[list[str], bool]:
    """What a child tells of itself: its process id, its PID namespace, its version 2 group."""
    reading, writing = os.pipe()
    pid, born = namespaces.fork_into(**{"pid_namespace": None, "new_pid_namespace": False, "group": None} | options)
    if pid == 0:
        with open("/proc/self/cgroup") as file:
            place = next(line.strip() for line in file if line.startswith("0::"))
        os.write(writing, f"{os.getpid()} {os.readlink('/proc/self/ns/pid')} {place}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return text.split(), born


def own_pid_namespaces() -> tuple[str, str]:
    return os.readlink("/proc/self/ns/pid"), os.readlink("/proc/self/ns/pid_for_children")


class TestBornInAGroup:
    def test_with_its_first_breath(self, group: str) -> None:
        told, born = child(group=group)
        assert born
        assert told[2] == f"0::/{os.path.basename(group)}"

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 says the same of its fork
    def test_not_when_the_caller_has_other_threads(self, group: str) -> None:
        """A raw copy of one thread of several could find the allocator locked for ever."""
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            told, born = child(group=group)
        finally:
            done.set()
            thread.join()
        assert not born
        assert told[2] == "0::/"

    def test_not_in_one_that_is_not_there(self) -> None:
        assert child(group="/sys/fs/cgroup/no/such")[1] is False


@pytest.mark.parametrize("with_group", [True, False], ids=["clone3", "fork"])
class TestPidNamespace:
    def test_a_new_one(self, group: str, with_group: bool) -> None:
        before = own_pid_namespaces()
        told, _ = child(new_pid_namespace=True, group=group if with_group else None)
        assert told[0] == "1"
        assert told[1] != before[0]
        assert own_pid_namespaces() == before

    def test_one_that_is_there(self, group: str, with_group: bool) -> None:
        reading, writing = os.pipe()
        first, _ = namespaces.fork_into(pid_namespace=None, new_pid_namespace=True, group=None)
        if first == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        joined = os.pidfd_open(first)
        before = own_pid_namespaces()
        told, _ = child(pid_namespace=joined, group=group if with_group else None)
        assert told[:2] == ["2", os.readlink(f"/proc/{first}/ns/pid")]
        assert own_pid_namespaces() == before
        for fd in (joined, reading, writing):
            os.close(fd)
        os.waitpid(first, 0)

    def test_the_callers_own(self, group: str, with_group: bool) -> None:
        told, _ = child(group=group if with_group else None)
        assert told[1] == own_pid_namespaces()[0]
