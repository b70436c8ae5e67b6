"""Control groups: what is mounted is found, what is refused is told, what was made is removed."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.kernel.cgroups import Cgroup, Hierarchies, Setting

V1 = """\
25 30 0:22 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
"""
V2 = "26 25 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


class TestHierarchies:
    @pytest.mark.parametrize(("text", "driver"), [(V1, "v1"), (V2, "v2"), (HYBRID, "hybrid"), ("", "none")])
    def test_tells_which_kind_of_machine_this_is(self, text: str, driver: str) -> None:
        assert Hierarchies.parse(text).driver == driver

    def test_controllers_may_share_a_place(self) -> None:
        found = Hierarchies.parse(HYBRID)
        assert found.v1["cpu"] == found.v1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
        assert found.places == (
            "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified",
        )  # fmt: skip

    def test_the_first_of_two_mounts_counts(self) -> None:
        twice = V2 + "40 25 0:23 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"
        assert Hierarchies.parse(twice).v2 == "/sys/fs/cgroup"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/pybuild-test-{os.getpid()}/one")
    yield made
    made.kill()
    made.remove()


@pytest.fixture
def sleeper(group: Cgroup) -> Iterator[int]:
    """A process of the group."""
    with subprocess.Popen(["/bin/busybox", "sleep", "60"]) as process:
        group.join(process.pid)
        yield process.pid
        process.kill()


class TestOnThisMachine:
    def test_a_group_lies_in_every_hierarchy(self, group: Cgroup) -> None:
        assert group.warnings == []
        assert all(os.path.isdir(place + group.path) for place in group.hierarchies.places)

    def test_a_process_that_joined_is_listed(self, group: Cgroup, sleeper: int) -> None:
        assert group.pids() == [sleeper]
        assert Path(f"/proc/{sleeper}/cgroup").read_text().count(group.path) == len(group.hierarchies.places)

    def test_kill_ends_all(self, group: Cgroup, sleeper: int) -> None:
        group.kill()
        assert os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL

    def test_without_cgroup_kill_the_freezer_serves(self, sleeper: int, group: Cgroup) -> None:
        without = Cgroup.named(group.path, Hierarchies(group.hierarchies.v1))
        without.kill()
        assert os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_freeze_stops_and_thaw_goes_on(self, group: Cgroup, version: str) -> None:
        found = group.hierarchies
        only = Cgroup.named(group.path, Hierarchies(found.v1) if version == "v1" else Hierarchies({}, found.v2))
        with subprocess.Popen(["/bin/busybox", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
            assert echo.stdin
            assert echo.stdout
            group.join(echo.pid)
            assert only.freeze()
            assert only.frozen
            echo.stdin.write(b"said")
            echo.stdin.close()
            assert select.select([echo.stdout], [], [], 0.05)[0] == []
            only.thaw()
            assert not only.frozen
            assert echo.stdout.read() == b"said"

    def test_remove_takes_groups_below_and_the_empty_parent(self) -> None:
        made = Cgroup.create(f"/pybuild-test-{os.getpid()}/two")
        for place in made.hierarchies.places:
            os.makedirs(f"{place}{made.path}/a/b")
        made.remove()
        assert made.warnings == []
        assert not any(os.path.exists(f"{place}/pybuild-test-{os.getpid()}") for place in made.hierarchies.places)

    def test_a_group_in_use_is_told_and_not_waited_for_long(self, group: Cgroup, sleeper: int) -> None:
        group.remove(wait=0.01)
        assert "in use" in group.warnings[0]

    def test_it_is_found_again_by_name(self, group: Cgroup) -> None:
        assert Cgroup.named(group.path).exists
        assert not Cgroup.named("/pybuild-test-none").exists


class TestRefusals:
    def test_a_limit_that_the_kernel_refuses_is_a_warning(self, group: Cgroup) -> None:
        assert not group.apply(Setting("pids", "pids.max", "many", "limit of processes"))
        assert group.warnings == ["limit of processes is not applied: pids.max: Invalid argument"]

    def test_so_is_a_controller_that_is_missing(self, group: Cgroup) -> None:
        group.apply(Setting("rdma", "rdma.max", "1", "RDMA limit"))
        assert group.warnings == ["RDMA limit is not applied: rdma.max: the kernel offers no rdma controller"]

    def test_a_hierarchy_where_no_group_can_be_made_is_a_warning(self, ram_path: Path) -> None:
        group = Cgroup.create("/box/one", Hierarchies({"memory": "/proc/sys"}))
        assert not group.exists
        assert group.warnings[0].startswith("no cgroup for sys:")

    def test_no_cgroups_at_all_is_a_warning(self) -> None:
        group = Cgroup.create("/box/one", Hierarchies({}))
        group.join(os.getpid())
        group.kill()
        group.remove()
        assert group.warnings == ["cgroups are not mounted: limits are not applied"]


class TestVersion2:
    """On a tree of plain files, as this machine keeps its controllers in version 1."""

    @pytest.fixture
    def unified(self, ram_path: Path) -> Path:
        place = ram_path / "cgroup"
        place.mkdir()
        for name, text in {"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": ""}.items():
            (place / name).write_text(text)
        return place

    def test_controllers_are_offered_to_groups_below(self, unified: Path) -> None:
        Cgroup.create("/pybuild/one", Hierarchies({}, str(unified)))
        assert (unified / "cgroup.subtree_control").read_text().startswith("+pids")  # the last of three writes

    def test_an_out_of_memory_kill_is_seen(self, unified: Path) -> None:
        group = Cgroup.create("/pybuild/one", Hierarchies({}, str(unified)))
        events = unified / "pybuild/one/memory.events"
        events.write_text("low 0\nmax 3\noom 1\noom_kill 0\n")
        assert not group.oom_killed()
        events.write_text("low 0\nmax 3\noom 1\noom_kill 2\n")
        assert group.oom_killed()

    def test_limits_are_written_to_the_group(self, unified: Path) -> None:
        group = Cgroup.create("/pybuild/one", Hierarchies({}, str(unified)))
        (unified / "pybuild/one/memory.max").touch()
        assert group.apply(Setting("unified", "memory.max", "1048576", "memory limit"))
        assert (unified / "pybuild/one/memory.max").read_text() == "1048576"
