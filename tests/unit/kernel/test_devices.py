"""Device rules of cgroup version 2, in the version 2 tree that the machine has beside version 1."""

import os
import stat
from collections.abc import Iterator

import pytest

from runner.kernel import devices
from runner.kernel.cgroups import Cgroup, Hierarchies
from runner.kernel.devices import DeviceRule

RULES = [DeviceRule("c", -1, -1, "m"), DeviceRule("c", 1, 3, "rwm"), DeviceRule("c", 1, 5, "r")]


@pytest.fixture
def group() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/pybuild-test-{os.getpid()}", Hierarchies({}, Hierarchies.mounted().v2))
    yield made
    made.remove()


def answers(group: Cgroup, *questions: tuple[str, int]) -> str:
    """What a process of the group may open: "y" or "n" each. Flags of -1 mean mknod."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        group.join(0)
        os.write(writing, "".join("y" if may(*question) else "n" for question in questions).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        found = told.read()
    os.waitpid(pid, 0)
    return found


def may(path: str, flags: int) -> bool:
    try:
        if flags >= 0:
            os.close(os.open(path, flags))
        else:
            kind, major, minor = path.split(":")
            made = f"/dev/shm/pybuild-test-node-{os.getpid()}"
            os.mknod(made, (stat.S_IFBLK if kind == "b" else stat.S_IFCHR) | 0o600, os.makedev(int(major), int(minor)))
            os.unlink(made)
    except PermissionError:
        return False
    return True


def test_a_device_may_be_used_as_its_rule_says(group: Cgroup) -> None:
    directory = group.directory("unified")
    assert directory is not None
    devices.attach(directory, RULES)
    null, zero, full = "/dev/null", "/dev/zero", "/dev/full"
    assert answers(group, (null, os.O_RDWR), (zero, os.O_RDONLY), (zero, os.O_RDWR), (full, os.O_RDONLY)) == "yynn"
    assert answers(group, ("c:1:7", -1), ("b:7:0", -1)) == "yn"


def test_without_rules_nothing_may(group: Cgroup) -> None:
    directory = group.directory("unified")
    assert directory is not None
    devices.attach(directory, [])
    assert answers(group, ("/dev/null", os.O_RDONLY), ("c:1:3", -1)) == "nn"
